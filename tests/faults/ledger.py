"""What was placed, and whether Zammad's caller log says just that."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from ami2zammad.sandbox.zammad import LogEntry, Received
from tests.caller_log import ORDER, Fields, differences
from tests.e2e.scenarios import Entry


@dataclass(frozen=True, slots=True)
class Placed:
    """A call that was placed: what it is, its identity, and the entry that it must leave."""

    what: str
    call_id: str
    expected: Entry

    @property
    def number(self) -> str:
        """The outside number, which no other call of the same ledger has."""
        number = self.expected.from_number if self.expected.direction == "in" else self.expected.to_number
        assert number is not None
        return number


@dataclass(slots=True)
class Tally:
    """How many calls were placed, and in how many of them something is wrong. `wrong` says what, one line each."""

    placed: int = 0
    lost: int = 0
    """There is no entry, or one without an event that Asterisk reported."""
    doubled: int = 0
    """There is more than one entry, or an event comes again after a later one."""
    open: int = 0
    """The entry has no end."""
    wrong: list[str] = field(default_factory=list)

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            self.placed + other.placed,
            self.lost + other.lost,
            self.doubled + other.doubled,
            self.open + other.open,
            [*self.wrong, *other.wrong],
        )


def tally(placed: Sequence[Placed], log: Iterable[LogEntry], requests: Iterable[Received]) -> Tally:
    """Compare the caller log, entry by entry, with what was placed."""
    rows: dict[str, list[LogEntry]] = defaultdict(list)
    for row in log:
        rows[row.from_ if row.direction == "in" else row.to].append(row)
    sent = _sent(requests)
    result = Tally(placed=len(placed))
    for call in placed:
        _compare(call, rows.pop(call.number, []), sent, result)
    for number, strange in rows.items():
        result.doubled += len(strange)
        result.wrong.append(f"entries of a call that nobody placed: {number} {[row.call_id for row in strange]}")
    return result


def _sent(requests: Iterable[Received]) -> dict[tuple[str, str], list[Fields]]:
    """Return all that was posted of each event."""
    sent: dict[tuple[str, str], list[Fields]] = defaultdict(list)
    for request in requests:
        if request.fields not in sent[request.call_id, request.event]:
            sent[request.call_id, request.event].append(request.fields)
    return sent


def _compare(
    call: Placed, rows: Sequence[LogEntry], sent: dict[tuple[str, str], list[Fields]], result: Tally
) -> None:
    own = [row for row in rows if row.call_id == call.call_id]
    if len(rows) > len(own):
        result.doubled += 1
        result.wrong.append(f"{call.what}: entries {[row.call_id for row in rows]} of call {call.call_id}")
    if not own:
        result.lost += 1
        result.wrong.append(f"{call.what}: no entry of call {call.call_id}")
        return
    (row,) = own
    if row.state != "hangup":
        result.open += 1
        result.wrong.append(f"{call.what}: has not ended: {row.changes}")
        return
    kinds = list(dict.fromkeys(row.changes))
    missing = {"newCall", "hangup", *(["answer"] if call.expected.answered else [])} - set(kinds)
    if missing:
        result.lost += 1
        result.wrong.append(f"{call.what}: {missing} missing in {row.changes}")
        return
    # Allowed is the repetition of an event whose reply got lost; never one after another event has come.
    if row.changes != sorted(row.changes, key=ORDER.index) or row.changes.count("newCall") > 1:
        result.doubled += 1
        result.wrong.append(f"{call.what}: {row.changes}")
    for kind in kinds:
        if len(sent[row.call_id, kind]) > 1:
            result.wrong.append(f"{call.what}: {kind} was sent in several ways: {sent[row.call_id, kind]}")
    found = differences(call.expected, [sent[row.call_id, kind][0] for kind in kinds])
    if found:
        result.wrong.append(f"{call.what}: (expected, found) {found}")
