"""What the help desk wants done about a call, as it answers a newCall."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Nothing:
    """Let the call go on."""


@dataclass(frozen=True, slots=True)
class Reject:
    """The caller is on the block list: end the call. Its hangup must still be told."""

    reason: str


@dataclass(frozen=True, slots=True)
class Dial:
    """A routing rule matches: dial `number` and show `caller_id`. Both as the help desk wrote them."""

    caller_id: str
    number: str


Decision = Nothing | Reject | Dial
