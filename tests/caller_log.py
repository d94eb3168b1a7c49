"""What is posted for a call, compared with what a scenario expects, field by field."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from tests.e2e.scenarios import Entry

Fields = Mapping[str, object]
ORDER = ("newCall", "answer", "hangup")


def by_entry(posted: Iterable[Fields]) -> list[list[Fields]]:
    """Return the events of each log entry, the entries in the order of their beginnings."""
    entries: dict[str, list[Fields]] = {}
    for fields in posted:
        entries.setdefault(str(fields["callId"]), []).append(fields)
    return list(entries.values())


def mismatches(expected: Sequence[Entry], posted: Iterable[Fields]) -> list[object]:
    """Return what is wrong with what was posted for a scenario; empty if all is as expected."""
    entries = by_entry(posted)
    if len(entries) != len(expected):
        return [f"{len(entries)} entries instead of {len(expected)}", entries]
    wrong: list[object] = []
    remaining = list(entries)
    for entry in expected:
        # Calls at the same time may come in any order.
        fitting = next((events for events in remaining if not differences(entry, events)), None)
        if fitting is None:
            wrong += [differences(entry, events) for events in remaining]
        else:
            remaining.remove(fitting)
    return wrong or _wrong_identities(entries)


def differences(entry: Entry, events: Sequence[Fields]) -> dict[str, tuple[object, object]]:
    """Return the fields in which one entry is not as expected: (expected, found)."""
    kinds = [str(fields["event"]) for fields in events]
    expected_kinds = ["newCall", "answer", "hangup"] if entry.answered else ["newCall", "hangup"]
    if kinds != expected_kinds:
        return {"events": (expected_kinds, kinds)}
    new, hangup = events[0], events[-1]
    pairs: dict[str, tuple[object, object]] = {
        "direction": (entry.direction, new["direction"]),
        "from": (entry.from_number, new["from"]),
        "to": (entry.to_number, new["to"]),
        "users": (None if entry.users is None else set(entry.users), set(_names(new))),
        "queue": (entry.queue, new.get("queue", "")),
        "cause": (entry.cause, hangup["cause"]),
    }
    for name in ("from", "to", "direction"):
        pairs[f"{name} of every event"] = (new[name],) * len(events), tuple(fields[name] for fields in events)
    number = ""
    if entry.answered:
        answer = events[1]
        number = str(answer.get("answeringNumber", ""))
        pairs["answered_by"] = (entry.answered_by, answer.get("user", ""))
        pairs["answering_number"] = (entry.answering_number, number)
    pairs["hangup's answering number"] = (number, hangup.get("answeringNumber", ""))
    return {name: pair for name, pair in pairs.items() if pair[0] is not None and pair[0] != pair[1]}


def _names(new: Fields) -> list[str]:
    user = new.get("user", [])
    return [str(name) for name in user] if isinstance(user, list) else [str(user)]


def _wrong_identities(entries: Sequence[Sequence[Fields]]) -> list[object]:
    """The entries of one call are `X`, `X-2`, `X-3`, in this order."""
    calls: dict[str, list[str]] = {}
    for events in entries:
        call_id = str(events[0]["callId"])
        head, _, number = call_id.rpartition("-")
        calls.setdefault(head if head and "." not in number else call_id, []).append(call_id)
    return [
        f"{ids} are not the entries of {call_id}"
        for call_id, ids in calls.items()
        if ids != [call_id, *(f"{call_id}-{number}" for number in range(2, len(ids) + 1))]
    ]
