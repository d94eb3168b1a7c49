"""A call as a text that outlives the bridge, and back.

What is kept is what Zammad knows of a call and by which channels the call goes on; the rest a snapshot tells.
"""

from __future__ import annotations

import json
from typing import Any, Final

from .call import Call, Channel
from .entry import LogEntry
from .events import Answer, Cause, Direction, NewCall
from .sides import Side

_VERSION: Final = 1
_ENCODER: Final = json.JSONEncoder(separators=(",", ":"))


class UnreadableDocumentError(Exception):
    """A text that is no call: damaged, or written by another version."""


def to_document(call: Call) -> str:
    """Return what must be kept of `call`."""
    return _ENCODER.encode(
        {
            "version": _VERSION,
            "call_id": call.call_id,
            "linkedids": sorted(call.linkedids),
            "direction": call.direction,
            "party": call.party.uniqueid if call.party is not None else "",
            "agent": call.agent.uniqueid if call.agent is not None else "",
            "first_device": call.first_device,
            "entries": call.entries,
            "entry": _of_entry(call.entry) if call.entry is not None else None,
            "queue": call.queue,
            "transferred_to": call.transferred_to,
            "transferred_to_queue": call.transferred_to_queue,
            "parked": call.parked,
            "channels": [_of_channel(channel) for channel in call.channels.values()],
        }
    )


def from_document(document: str, at: float) -> Call:
    """Return the call that `to_document` wrote; `at` is the time of its events. Raises `UnreadableDocumentError`."""
    try:
        read: dict[str, Any] = json.loads(document)
        if read["version"] != _VERSION:
            raise UnreadableDocumentError(f"a call in the form {read['version']}, this version knows {_VERSION}")
        return _call(read, at)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UnreadableDocumentError(f"{type(error).__name__} in what was kept of a call") from None


def _of_entry(entry: LogEntry) -> dict[str, object]:
    answer = entry.answer_event
    return {
        "call_id": entry.call_id,
        "from": entry.from_number,
        "to": entry.to_number,
        "users": entry.users,
        "queue": entry.queue,
        "announced": entry.announced,
        "to_be_announced": entry.announce_at is not None,
        "answer": [answer.user, answer.answering_number] if answer is not None else None,
        "talker": entry.talker,
        "tried": entry.tried,
        "outcome": entry.outcome,
        "caller_gave_up": entry.caller_gave_up,
        "refused": entry.refused,
        "ended": entry.ended,
    }


def _of_channel(channel: Channel) -> dict[str, object]:
    return {
        "uniqueid": channel.uniqueid,
        "linkedid": channel.linkedid,
        "name": channel.name,
        "side": channel.side.value,
        "context": channel.context,
        "exten": channel.exten,
        "caller_number": channel.caller_number,
        "caller_name": channel.caller_name,
        "state": channel.state,
        "bridge": channel.bridge,
        "local_peer": channel.local_peer,
        "member_name": channel.member_name,
        "number": channel.number,
        "dialled": channel.dialled,
        "dial_status": channel.dial_status,
    }


def _call(read: dict[str, Any], at: float) -> Call:
    call = Call(
        call_id=str(read["call_id"]),
        linkedids={str(linkedid) for linkedid in read["linkedids"]},
        direction=Direction(read["direction"]) if read["direction"] is not None else None,
        first_device=str(read["first_device"]),
        entries=int(read["entries"]),
        queue=str(read["queue"]),
        transferred_to=str(read["transferred_to"]),
        transferred_to_queue=str(read["transferred_to_queue"]),
        parked=bool(read["parked"]),
    )
    for one in read["channels"]:
        channel = _channel(one, call)
        call.channels[channel.uniqueid] = channel
    call.party = call.channels.get(read["party"])
    call.agent = call.channels.get(read["agent"])
    if read["entry"] is not None:
        call.entry = _entry(read["entry"], call, at)
    return call


def _channel(read: dict[str, Any], call: Call) -> Channel:
    return Channel(**{**read, "side": Side(read["side"]), "state": int(read["state"])}, call=call)


def _entry(read: dict[str, Any], call: Call, at: float) -> LogEntry:
    if call.direction is None:
        raise ValueError("an entry without a direction")
    entry = LogEntry(
        call_id=str(read["call_id"]),
        first_call_id=call.call_id,
        direction=call.direction,
        from_number=str(read["from"]),
        to_number=str(read["to"]),
        users=[str(user) for user in read["users"]],
        queue=str(read["queue"]),
        announce_at=at if read["to_be_announced"] else None,
        tried=bool(read["tried"]),
        outcome=Cause(read["outcome"]) if read["outcome"] is not None else None,
        caller_gave_up=bool(read["caller_gave_up"]),
        refused=bool(read["refused"]),
    )
    new_call = NewCall(
        at, entry.call_id, entry.direction, entry.from_number, entry.to_number, tuple(entry.users), entry.queue,
        call.call_id,
    )  # fmt: skip
    answer = Answer(at, new_call, *map(str, read["answer"])) if read["answer"] is not None else None
    if read["announced"]:
        entry.resume(new_call, answer, talker=str(read["talker"]), ended=bool(read["ended"]))
    return entry
