"""Telephone numbers as Zammad wants them: E.164 without `+`, extensions as they are.

Zammad compares digits only and its block list compares exact strings, so one form for every number matters
more than a pretty one. What is valid where comes from the phonenumbers library (ITU-T E.164 and the national
numbering plans).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

import phonenumbers

from .events import ANONYMOUS

# What Asterisk, SIP providers and RFC 3323 put where a number is withheld.
_WITHHELD: Final = frozenset(
    {
        "",
        "<unknown>",
        "anonymous",
        "unknown",
        "unavailable",
        "restricted",
        "private",
        "withheld",
        "asterisk",
        "s",
    }
)
_SEPARATORS: Final = re.compile(r"[\s().\-/]")
_DIALLABLE: Final = re.compile(r"\+?[0-9*#]*[0-9][0-9*#]*")
_CODE: Final = re.compile(r"[*#]")
_WITH_INTERNATIONAL_PREFIX: Final = phonenumbers.CountryCodeSource.FROM_NUMBER_WITH_IDD
# A number that no one could dial is no secret and no party; this only keeps absurd input small.
_LONGEST: Final = 64
# Digits of the shortest number that somebody outside could have, service numbers apart (Luxembourg has six).
_SHORTEST: Final = 6
# Digits of the longest number that is dialled without an area code: Berlin, Stockholm and Tokyo have eight.
_LONGEST_LOCAL: Final = 8


def is_diallable(text: str) -> bool:
    """Say whether `text` is something that a telephone could dial (not `s`, `h`, `<unknown>`)."""
    return len(text) <= _LONGEST and _DIALLABLE.fullmatch(text) is not None


@lru_cache(maxsize=256)
def _shortest(country: str) -> int:
    """Return from how many digits on a number without `+`, `00` and trunk prefix may be one of `country`.

    Shorter ones are extensions, service numbers or, where a trunk prefix (0, 8, 06 …) tells national from local
    numbers, local ones: nobody can tell which area they are in, and a guess would name somebody else.
    """
    metadata = phonenumbers.PhoneMetadata.metadata_for_region(country)
    if metadata is None or metadata.national_prefix is None or metadata.fixed_line is None:
        return _SHORTEST
    lengths = metadata.fixed_line.possible_length
    # Where all have the same length (Belgium, Liechtenstein …), there is no shorter, local way to write one.
    return int(lengths[0]) if len(lengths) == 1 else _LONGEST_LOCAL + 1


# The company's own numbers and those of the latest callers. Thousands would lie scattered between the calls, and memory
# from busy hours could never be given back.
@lru_cache(maxsize=64)
def _e164(digits: str, country: str, *, assigned: bool = True) -> str | None:
    """Return `digits` (with or without `+`) as E.164 without `+`, or None if they are no such number.

    `assigned` False also takes numbers that the country has not given out, if they begin with its trunk prefix.
    """
    metadata = phonenumbers.PhoneMetadata.metadata_for_region(country)
    trunk_prefix = (metadata.national_prefix if metadata is not None else None) or ""
    if not digits.startswith("+"):
        with_prefix = digits.startswith("0") or (trunk_prefix != "" and digits.startswith(trunk_prefix))
        if len(digits) < (_SHORTEST if with_prefix else _shortest(country)):
            return None
    # Where national numbers begin with a trunk prefix (0 in most of Europe), one without it is
    # international already; where they do not (North America, Spain), the national reading comes first.
    if digits.startswith("+"):
        readings = [digits]
    elif digits.startswith("0") or trunk_prefix != "0":
        readings = [digits, "+" + digits]
    else:
        readings = ["+" + digits, digits]
    for reading in readings:
        try:
            number = phonenumbers.parse(reading, country, keep_raw_input=True)
        except phonenumbers.NumberParseException:
            continue
        # Who writes + or 00 means it; anything else must be a number that the country has given out.
        explicit = digits.startswith("+") or number.country_code_source == _WITH_INTERNATIONAL_PREFIX
        if not assigned and trunk_prefix and digits.startswith(trunk_prefix) and reading == digits:
            explicit = True
        if phonenumbers.is_valid_number(number) or (explicit and phonenumbers.is_possible_number(number)):
            return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)[1:]
    return None


@dataclass(frozen=True, slots=True)
class NumberPlan:
    """How this PBX writes numbers.

    `country` (ISO 3166, two letters) says what a national number means; `outbound_prefix` is what is
    dialled before an outside number to get a line; `extensions` are left alone even where they look like a number.
    """

    country: str = "DE"
    outbound_prefix: str = ""
    extensions: frozenset[str] = field(default_factory=frozenset)

    def party(self, number: str) -> str:
        """Return a party's number for Zammad: E.164 without `+`, an extension as it is, or `anonymous`."""
        if number.strip().lower() in _WITHHELD:
            return ANONYMOUS
        if number in self.extensions:
            return number
        digits = _SEPARATORS.sub("", number)
        if not is_diallable(digits):
            return number[:_LONGEST]
        if _CODE.search(digits):
            # A feature code, perhaps with a number behind it (*31#, #21*…): no number that somebody has.
            return digits
        # A country gives out numbers faster than any library learns of them. Zammad takes what begins with 0 for a
        # German number, so a number that is not known yet is still better off with its own country in front.
        return _e164(digits, self.country) or _e164(digits, self.country, assigned=False) or digits.removeprefix("+")

    def is_known(self, number: str) -> bool:
        """Say whether `number` is one that its country has given out: no extension, no code, no misreading."""
        digits = _SEPARATORS.sub("", number)
        if number in self.extensions or not is_diallable(digits) or _CODE.search(digits):
            return False
        return _e164(digits, self.country) is not None

    def dialled(self, number: str) -> str:
        """Return an outside number that was dialled, without the line prefix, for Zammad."""
        # An emergency number can be dialled with and without the prefix, and may begin with it: 000 in Australia.
        if phonenumbers.is_emergency_number(number, self.country):
            return number
        if self.outbound_prefix and number not in self.extensions:
            number = number.removeprefix(self.outbound_prefix) or number
        return self.party(number)


def forget_numbers() -> None:
    """Forget the latest numbers, for the sake of the memory around them."""
    _e164.cache_clear()
