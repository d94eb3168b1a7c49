"""What may come near an AMI action or a channel variable, and which numbers are never held."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Final

import phonenumbers

# Digits with one + in front at most. 32 is twice what E.164 allows: room for a carrier's prefix.
_SAFE: Final = re.compile(r"\+?[0-9]{1,32}")


def safe_number(text: str) -> str:
    """Return a number that the help desk sent, if it is one; else an empty text."""
    return text if _SAFE.fullmatch(text) and len(text) <= 32 else ""  # noqa: PLR2004 - the sign counts too


@dataclass(frozen=True, slots=True)
class EmergencyNumbers:
    """The numbers that must go through: those that are configured, and the country's own.

    Source of the latter: phonenumbers' short number metadata. `prefix` is what is dialled to get an outside line.
    """

    country: str = "DE"
    configured: Collection[str] = field(default_factory=tuple)
    prefix: str = ""

    def __contains__(self, number: object) -> bool:
        """Say whether `number`, with or without the line prefix, is one."""
        if not isinstance(number, str):
            return False
        forms = {number, number.removeprefix(self.prefix)} if self.prefix else {number}
        return any(form in self.configured or self._of_country(form) for form in forms)

    def _of_country(self, number: str) -> bool:
        return bool(phonenumbers.is_emergency_number(number, self.country))
