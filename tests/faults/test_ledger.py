"""The ledger sees what is wrong: else every trial would be good."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ami2zammad.sandbox.zammad import LogEntry, Received
from tests.e2e.scenarios import missed, taken
from tests.faults.ledger import Placed, Tally, tally

CALLER, DID = "4917699999999", "4930600190"
EMMA, CHRIS = "Emma Taylor", "Christopher Miller"
TAKEN = Placed("taken", "1.0", (taken("100", EMMA, to=DID),))
PASSED_ON = Placed("passed on", "1.0", (taken("100", EMMA, to=DID, cause="forwarded"), taken("101", CHRIS, to="101")))
MISSED = Placed("missed", "1.0", (replace(missed("", EMMA, to=DID), cause=None),), ("cancel", "noAnswer"))


class Log:
    """A caller log, and the requests that made it."""

    def __init__(self) -> None:
        self.rows: list[LogEntry] = []
        self.requests: list[Received] = []

    def entry(
        self,
        call_id: str,
        *changes: str,
        to: str = DID,
        phone: str = "100",
        name: str = EMMA,
        cause: str = "normalClearing",
    ) -> Log:
        row = LogEntry(call_id, "in", CALLER, to, 0.0)
        row.changes = list(changes)
        row.state = changes[-1]  # type: ignore[assignment]  # a literal
        row.cause = cause if changes[-1] == "hangup" else ""
        self.rows.append(row)
        fields = {"callId": call_id, "direction": "in", "from": CALLER, "to": to}
        number = {"answeringNumber": phone} if "answer" in changes else {}
        own: dict[str, dict[str, object]] = {
            "newCall": {"user": [name]},
            "answer": {"user": name, **number},
            "hangup": {"cause": cause, **number},
        }
        for event in changes:
            more = own[event]
            self.requests.append(Received(0.0, {"event": event, **fields, **more}, "", "", "", 200))
        return self

    def tally(self, *placed: Placed) -> Tally:
        return tally(placed, self.rows, self.requests)


def counts(one: Tally) -> tuple[int, int, int, int, int]:
    return one.placed, one.lost, one.doubled, one.open, len(one.wrong)


ALL = ("newCall", "answer", "hangup")


def test_good_ones() -> None:
    assert counts(Log().entry("1.0", *ALL).tally(TAKEN)) == (1, 0, 0, 0, 0)
    # A reply got lost, and the event came again at once.
    assert counts(Log().entry("1.0", "newCall", "answer", "answer", "hangup", "hangup").tally(TAKEN)) == (1, 0, 0, 0, 0)
    both = Log().entry("1.0", *ALL, cause="forwarded").entry("1.0-2", *ALL, to="101", phone="101", name=CHRIS)
    assert counts(both.tally(PASSED_ON)) == (1, 0, 0, 0, 0)
    for cause in ("cancel", "noAnswer"):
        assert counts(Log().entry("1.0", "newCall", "hangup", cause=cause).tally(MISSED)) == (1, 0, 0, 0, 0)


@pytest.mark.parametrize(
    ("log", "placed", "expected"),
    [
        (Log(), TAKEN, (1, 1, 0, 0, 1)),
        (Log().entry("1.0", "newCall", "hangup"), TAKEN, (1, 1, 0, 0, 1)),
        (Log().entry("1.0", *ALL, cause="forwarded"), PASSED_ON, (1, 1, 0, 0, 1)),
        (Log().entry("1.0", "newCall", "answer"), TAKEN, (1, 0, 0, 1, 1)),
        (Log().entry("1.0", *ALL, "answer"), TAKEN, (1, 0, 0, 1, 1)),
        (Log().entry("1.0", *ALL).entry("7.0", *ALL), TAKEN, (1, 0, 1, 0, 1)),
        (Log().entry("1.0", *ALL).entry("1.0-2", *ALL), TAKEN, (1, 0, 1, 0, 1)),
        (Log().entry("1.0", "newCall", "answer", "hangup", "answer", "hangup"), TAKEN, (1, 0, 1, 0, 1)),
        (Log().entry("1.0", *ALL, cause="cancel"), TAKEN, (1, 0, 0, 0, 1)),
        (Log().entry("1.0", *ALL, name="Somebody"), TAKEN, (1, 0, 0, 0, 1)),
        (Log().entry("1.0", "newCall", "hangup", cause="busy"), MISSED, (1, 0, 0, 0, 1)),
        (Log().entry("1.0", *ALL), MISSED, (1, 0, 0, 0, 1)),
    ],
)
def test_bad_ones(log: Log, placed: Placed, expected: tuple[int, int, int, int, int]) -> None:
    assert counts(log.tally(placed)) == expected


def test_a_call_that_nobody_placed_is_one_too_many() -> None:
    assert counts(Log().entry("1.0", *ALL).tally()) == (0, 0, 1, 0, 1)


def test_an_event_that_is_sent_in_two_ways_is_wrong() -> None:
    log = Log().entry("1.0", *ALL)
    log.requests.append(replace(log.requests[-1], fields={**log.requests[-1].fields, "cause": "cancel"}))
    (wrong,) = log.tally(TAKEN).wrong
    assert "several ways" in wrong
