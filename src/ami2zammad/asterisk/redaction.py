"""Makes a recording fit to be shown to others: numbers and names out, the course of events kept.

What is replaced: every run of five digits or more, the whole number (with its blanks and dashes) in headers that hold
one, and names in the headers, quotations and variables that hold one, also where such a name turns up again elsewhere.
What stays: ids of channels, calls and bridges, times, extensions of up to four digits, names of endpoints,
contexts and queues. Under one key the same always becomes the same, and two never become one.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from typing import Final

_KEPT_HEADERS: Final = re.compile(
    r"(?:Event|Response|Privilege|ActionID|Timestamp|SequenceNumber|BridgeID|\w*(?:Uniqueid|Linkedid|UniqueID))",
)
_NAME_HEADERS: Final = re.compile(r"\w*(?:CallerIDName|ConnectedLineName|MemberName)")
_NUMBER_HEADERS: Final = re.compile(r"\w*(?:CallerIDNum|ConnectedLineNum|Exten|Extension|DNID|CallerID|Number)")
_CHANNEL_HEADERS: Final = re.compile(r"\w*(?:Channel|Newname|Interface)")

_STRUCTURE: Final = re.compile(
    r"(?:\w*Context|Application|Queue|DialStatus|DialString|\w*ChannelState(?:Desc)?|Bridge\w*|Cause(?:-txt)?)"
)
"""Headers by which events are understood: no name stands there, but a caller may call himself like a queue."""

_UNIQUEID: Final = r"(?<![0-9])1[0-9]{9}\.[0-9]{1,9}(?![0-9])"
"""`epoch.sequence` inside a value (variables, file names), until the year 2033."""
_CHANNEL_SUFFIX: Final = re.compile(r"-[0-9a-f]{8}(?:;[12])?$")
_SUFFIX_IN_TEXT: Final = r"-000[0-9a-f]{5}(?![0-9A-Za-z@])"
"""The counter behind a channel's name; it begins with zeros for the first million channels, a phone number does not."""
_DIGITS: Final = re.compile(rf"(?P<kept>{_UNIQUEID}|{_SUFFIX_IN_TEXT})|[0-9]{{5,}}")
_SPACED_NUMBER: Final = re.compile(r"[0-9](?:[ ()/.-]{0,3}[0-9]){4,}")
_QUOTED_NAME: Final = re.compile(r'"([^"]*)"(?=\s*<)')
_SET_NAME: Final = re.compile(r"(\(name[^)]*\)=)([^,)]+)", re.IGNORECASE)

_COUNTRY: Final = 2
"""Digits in front that stay in a number of eight digits or more: the country's part of it."""
_SHORT: Final = 8
_ROUNDS: Final = 8
_CONSONANTS: Final = "bdfghklmnprstvwz"
_VOWELS: Final = "aeio"
_REMEMBERED: Final = 500


class Redactor:
    """Redacts messages under one key (random unless given); the last 500 names are found again in any text."""

    def __init__(self, key: bytes | None = None) -> None:
        self._key = key if key is not None else secrets.token_bytes(32)
        self._names: dict[str, str] = {}

    def redact(self, message: bytes) -> bytes:
        """Give the message (one, with CRLF between its lines) with numbers and names replaced."""
        lines = message.decode("utf-8", "surrogateescape").split("\r\n")
        named = {name: value for name, _, value in (line.partition(": ") for line in lines)}
        for header, value in named.items():
            if _NAME_HEADERS.fullmatch(header):
                self.name(value)
        variable = named.get("Variable", "")
        return "\r\n".join(self._line(line, variable) for line in lines).encode("utf-8", "surrogateescape")

    def _line(self, line: str, variable: str) -> str:
        header, separator, value = line.partition(": ")
        if not separator or _KEPT_HEADERS.fullmatch(header):
            return line
        if _NAME_HEADERS.fullmatch(header) or (header == "Value" and "name" in variable.lower()):
            return f"{header}: {self.name(value)}"
        if _CHANNEL_HEADERS.fullmatch(header):
            suffix = _CHANNEL_SUFFIX.search(value)
            cut = suffix.start() if suffix else len(value)
            return f"{header}: {self._digits(value[:cut])}{value[cut:]}"
        if _STRUCTURE.fullmatch(header):
            return f"{header}: {self._digits(value)}"
        value = self._names_in(value)
        return f"{header}: {self._spaced(value) if _NUMBER_HEADERS.fullmatch(header) else self._digits(value)}"

    def name(self, name: str) -> str:
        """Give a made-up name for a name. What stands for none stays; a number as a name is treated as a number."""
        if name == "<unknown>" or not any(map(str.isalpha, name)):
            return self._spaced(name)
        made_up = self._names.pop(name, None)
        if made_up is None:
            bits = int.from_bytes(self._hash(b"name", name)[:5], "big")
            syllables = [_CONSONANTS[bits >> shift & 15] + _VOWELS[bits >> shift + 4 & 3] for shift in range(0, 36, 6)]
            made_up = f"{''.join(syllables[:2])} {''.join(syllables[2:])}".title()
        self._names[name] = made_up
        if len(self._names) > _REMEMBERED:
            del self._names[next(iter(self._names))]
        return made_up

    def number(self, digits: str) -> str:
        """Give another number of the same length; leading zeros, and of a long number the next two digits, stay.

        A number with a prefix of zeros (to get a line, say) so becomes what it becomes without, with that prefix.
        """
        body = digits.lstrip("0")
        kept = _COUNTRY if len(body) >= _SHORT else 0
        zeros = len(digits) - len(body)
        body = body[kept:]
        if len(body) < 2:  # noqa: PLR2004 -- "00001" says nothing about anyone
            return digits
        return digits[: zeros + kept] + self._shuffled(body)

    def _shuffled(self, digits: str) -> str:
        # A Feistel network on the two halves: a one-to-one map, hence two extensions never become one.
        cut = len(digits) // 2
        left, right = digits[:cut], digits[cut:]
        for turn in range(_ROUNDS):
            label = b"%d/%d" % (turn, len(digits))
            if turn % 2:
                right = self._added(right, label, left)
            else:
                left = self._added(left, label, right)
        return left + right

    def _added(self, digits: str, label: bytes, other: str) -> str:
        addend = int.from_bytes(self._hash(label, other), "big")
        return str((int(digits) + addend) % 10 ** len(digits)).zfill(len(digits))

    def _spaced(self, text: str) -> str:
        """Replace numbers, also where they are written with blanks and dashes."""

        def replace(found: re.Match[str]) -> str:
            digits = iter(self.number("".join(filter(str.isdigit, found[0]))))
            return "".join(next(digits) if c.isdigit() else c for c in found[0])

        return _SPACED_NUMBER.sub(replace, text)

    def _digits(self, text: str) -> str:
        """Replace runs of five digits or more."""
        return _DIGITS.sub(lambda found: found["kept"] or self.number(found[0]), text)

    def _names_in(self, text: str) -> str:
        """Replace names, by where they stand and by having been seen before. Numbers are left for later."""

        def replace(before: str, name: str, after: str = "") -> str:
            return before + (self.name(name) if any(map(str.isalpha, name)) else name) + after

        text = _QUOTED_NAME.sub(lambda found: replace('"', found[1], '"'), text)
        text = _SET_NAME.sub(lambda found: replace(found[1], found[2]), text)
        for name in sorted(self._names, key=len, reverse=True):
            # A name of one or two letters would be found everywhere.
            if name in text and len(name) > 2:  # noqa: PLR2004
                text = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", self._names[name], text)
        return text

    def _hash(self, label: bytes, text: str) -> bytes:
        data = label + b"\0" + text.encode("utf-8", "surrogateescape")
        return hashlib.blake2b(data, key=self._key, digest_size=16).digest()
