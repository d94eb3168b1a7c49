"""From an event to the fields of a request, cut to what Zammad's columns hold.

Zammad refuses a whole event for one value that is too long (422), and a refused newCall is a lost call. A
shortened name is the lesser evil, as long as it can be seen that it was shortened.
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from typing import Literal
from urllib.parse import urlencode

from ami2zammad.calls.events import ANONYMOUS, Answer, CallEvent, Direction, Hangup, NewCall

Format = Literal["json", "form"]
Fields = dict[str, str | list[str]]
"""The names and values of one request. A list is a list of names."""

NUMBER_LIMIT = 100
"""Characters that the columns of `from` and `to` hold."""
TEXT_LIMIT = 250
"""Characters that the columns of `callId`, `queue` and `user` hold; a list counts as joined with `, `."""
CAUSE_LIMIT = 500
"""Characters that the column of `cause` holds."""

_SEPARATOR = ", "
_ELLIPSIS = "\N{HORIZONTAL ELLIPSIS}"
_SURROGATES = re.compile("[\ud800-\udfff]")
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f]")
_DIGEST_LENGTH = 32
"""Hex digits that keep shortened callIds apart: 128 bits."""


def fields_of(event: CallEvent, *, queue_as_to: bool = False) -> Fields:
    """Return the fields of `event`, ready for `encode`.

    With `queue_as_to`, `to` is the queue's name in every event of an inbound entry that has a queue: Zammad
    opens the pop-up of a new call for agents whose Caller Log Filter equals `to`, not `queue`.
    """
    call = event if isinstance(event, NewCall) else event.call
    to = call.to_number
    if queue_as_to and call.direction is Direction.IN and call.queue:
        to = call.queue
    fields: Fields = {
        "event": event.kind,
        "callId": _call_id(call.call_id),
        "direction": call.direction.value,
        # An absent `from` is refused. A caller without a number is what Zammad calls anonymous.
        "from": cut(call.from_number, NUMBER_LIMIT) or ANONYMOUS,
        "to": cut(to, NUMBER_LIMIT),
    }
    match event:
        case NewCall():
            names = cut_names(event.users)
            if names:
                fields["user"] = names if len(names) > 1 else names[0]
            if event.queue:
                fields["queue"] = cut(event.queue, TEXT_LIMIT)
        case Answer():
            # On `out` Zammad would put the agent's name in the customer's place.
            if event.user and call.direction is Direction.IN:
                fields["user"] = cut(event.user, TEXT_LIMIT)
        case Hangup():
            fields["cause"] = cut(event.cause.value, CAUSE_LIMIT)
    if not isinstance(event, NewCall) and event.answering_number:
        fields["answeringNumber"] = cut(event.answering_number, TEXT_LIMIT)
    return fields


def encode(fields: Fields, form: Format) -> tuple[bytes, str]:
    """Return body and content type of a request with `fields`; in a form, lists are repeated as `name[]`."""
    if form == "json":
        return json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode(), "application/json"
    pairs: list[tuple[str, str]] = []
    for name, value in fields.items():
        if isinstance(value, list):
            pairs.extend((f"{name}[]", item) for item in value)
        else:
            pairs.append((name, value))
    return urlencode(pairs).encode("ascii"), "application/x-www-form-urlencoded"


def cut(text: str, limit: int) -> str:
    """Return `text` with at most `limit` characters, the last of them an ellipsis where something is missing.

    What makes up one visible character (accents, skin tones, flags, joined emoji) is kept or left out as one.
    Control characters become spaces and lone surrogates U+FFFD: the first would end a log line or be refused
    by the database (NUL), the second are no UTF-8.
    """
    text = _clean(text)
    if len(text) <= limit:
        return text
    end = limit - 1
    while end > 0 and _belong_together(text[end - 1], text[end]):
        end -= 1
    # One "character" longer than the column is not written by people; it has no right place to be cut at.
    return text[: end or limit - 1] + _ELLIPSIS


def cut_names(names: tuple[str, ...], limit: int = TEXT_LIMIT) -> list[str]:
    """Return as many whole names as fit in `limit` characters when joined, then `+N` for the N that do not.

    Empty names are left out. Only if not even the first name fits is that one cut.
    """
    cleaned = [name for name in (_clean(name).strip() for name in names) if name]
    if not cleaned or len(_SEPARATOR.join(cleaned)) <= limit:
        return cleaned
    if len(cleaned) == 1:
        return [cut(cleaned[0], limit)]
    kept: list[str] = []
    length = 0
    for name in cleaned:
        rest = f"+{len(cleaned) - len(kept) - 1}"
        if length + len(name) + len(_SEPARATOR) + len(rest) > limit:
            break
        kept.append(name)
        length += len(name) + len(_SEPARATOR)
    if not kept:
        rest = f"+{len(cleaned) - 1}"
        return [cut(cleaned[0], limit - len(_SEPARATOR) - len(rest)), rest]
    return [*kept, f"+{len(cleaned) - len(kept)}"]


def _call_id(raw: str) -> str:
    """Return `raw`, or if it cannot be sent as it is, a text that no other callId becomes."""
    cleaned = _clean(raw)
    if cleaned == raw and len(raw) <= TEXT_LIMIT:
        return raw
    digest = hashlib.sha256(raw.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGEST_LENGTH]
    return f"{cleaned[: TEXT_LIMIT - _DIGEST_LENGTH - 1]}~{digest}"


def _clean(text: str) -> str:
    return _CONTROLS.sub(" ", _SURROGATES.sub("\N{REPLACEMENT CHARACTER}", text))


def _belong_together(before: str, after: str) -> bool:
    """Whether a cut between the two would tear a visible character (after Unicode's UAX 29, roughly)."""
    return (
        unicodedata.category(after) in {"Mn", "Mc", "Me"}  # accents, vowel signs, variation selectors
        or "\N{ZERO WIDTH JOINER}" in {before, after}
        or "\U0001f3fb" <= after <= "\U0001f3ff"  # skin tones
        or "\U000e0020" <= after <= "\U000e007f"  # tags: flags of regions
        or (_is_flag_half(before) and _is_flag_half(after))
        or "\u1160" <= after <= "\u11ff"  # vowels and finals of Hangul written in parts
    )


def _is_flag_half(character: str) -> bool:
    return "\U0001f1e6" <= character <= "\U0001f1ff"
