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
_WITH_INTERNATIONAL_PREFIX: Final = phonenumbers.CountryCodeSource.FROM_NUMBER_WITH_IDD
# A number that no one could dial is no secret and no party; this only keeps absurd input small.
_LONGEST: Final = 64


def is_diallable(text: str) -> bool:
    """Say whether `text` is something that a telephone could dial (not `s`, `h`, `<unknown>`)."""
    return len(text) <= _LONGEST and _DIALLABLE.fullmatch(text) is not None


# The company's own numbers and those of the latest callers. Thousands would lie scattered between the calls, and memory
# from busy hours could never be given back.
@lru_cache(maxsize=64)
def _e164(digits: str, country: str) -> str | None:
    """Return `digits` (with or without `+`) as E.164 without `+`, or None if they are no such number."""
    metadata = phonenumbers.PhoneMetadata.metadata_for_region(country)
    # Where national numbers begin with a trunk prefix (0 in most of Europe), one without it is
    # international already; where they do not (North America, Spain), the national reading comes first.
    prefixed = metadata is not None and metadata.national_prefix == "0"
    if digits.startswith("+"):
        readings = [digits]
    elif digits.startswith("0") or not prefixed:
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
        return _e164(digits, self.country) or digits.removeprefix("+")

    def is_known(self, number: str) -> bool:
        """Say whether `number` is one that its country has given out: no extension, no code, no misreading."""
        digits = _SEPARATORS.sub("", number)
        return number not in self.extensions and is_diallable(digits) and _e164(digits, self.country) is not None

    def dialled(self, number: str) -> str:
        """Return an outside number that was dialled, without the line prefix, for Zammad."""
        if self.outbound_prefix and number not in self.extensions:
            number = number.removeprefix(self.outbound_prefix) or number
        return self.party(number)
