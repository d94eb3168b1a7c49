"""A call event as a line of text, and back: what stands in the outbox's file."""

from __future__ import annotations

import json
from typing import Any, Final

from ami2zammad.calls.events import Answer, CallEvent, Cause, Direction, Hangup, NewCall

# Escapes all that is not ASCII: half a surrogate pair in a caller's name could not be stored.
_ENCODER: Final = json.JSONEncoder(separators=(",", ":"))


class UnreadableRecordError(Exception):
    """A text that is no event: damaged, or written by another version."""


def to_text(event: CallEvent) -> str:
    """Return `event` as JSON. Every event brings its whole newCall: Zammad may have to be told of that again."""
    call = event if isinstance(event, NewCall) else event.call
    document: dict[str, object] = {
        "direction": call.direction.value,
        "from": call.from_number,
        "to": call.to_number,
        "users": list(call.users),
        "queue": call.queue,
        "first_call_id": call.first_call_id,
    }
    if isinstance(event, Answer):
        document |= {"user": event.user, "answering_number": event.answering_number}
    elif isinstance(event, Hangup):
        document |= {"cause": event.cause.value, "answering_number": event.answering_number}
    return _ENCODER.encode(document)


def from_text(kind: str, call_id: str, text: str, at: float) -> CallEvent:
    """Return the event that `to_text` wrote; `at` as in `calls.events`. Raises `UnreadableRecordError`."""
    try:
        document: dict[str, Any] = json.loads(text)
        call = NewCall(
            at=at,
            call_id=call_id,
            direction=Direction(document["direction"]),
            from_number=str(document["from"]),
            to_number=str(document["to"]),
            users=tuple(str(user) for user in document["users"]),
            queue=str(document["queue"]),
            first_call_id=str(document["first_call_id"]),
        )
        match kind:
            case NewCall.kind:
                return call
            case Answer.kind:
                return Answer(at, call, str(document["user"]), str(document["answering_number"]))
            case Hangup.kind:
                return Hangup(at, call, Cause(document["cause"]), str(document["answering_number"]))
            case _:
                raise UnreadableRecordError(f"{kind} is no kind of event")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UnreadableRecordError(f"{type(error).__name__} in the {kind} of call {call_id}") from None
