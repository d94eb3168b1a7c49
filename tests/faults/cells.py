"""The matrix: what can go wrong with Zammad, with Asterisk and with the bridge, and every combination of the three."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from enum import StrEnum


class ZammadFault(StrEnum):
    """What Zammad does."""

    REFUSES = "refuses connections"
    RESETS = "resets mid-reply"
    HANGS = "hangs"
    STORES_AND_FAILS = "500 after having stored"
    BAD_GATEWAY = "502 HTML"
    TOO_MANY = "429"
    WRONG_TOKEN = "wrong token, then right"
    RESTARTS = "restarts"


class AsteriskFault(StrEnum):
    """What Asterisk, or the way to it, does."""

    KILLED = "killed"
    RESTARTED = "restarted"
    HALF_OPEN = "half-open"
    SLOW = "slow"
    GARBAGE = "sends garbage"
    CLOSES_LOGIN = "closes during login"

    @property
    def ends_calls(self) -> bool:
        """Whether no call outlives it."""
        return self in {AsteriskFault.KILLED, AsteriskFault.RESTARTED}

    @property
    def takes_a_real_one(self) -> bool:
        """Whether a real Asterisk can be made to do it."""
        return self in {AsteriskFault.KILLED, AsteriskFault.RESTARTED, AsteriskFault.HALF_OPEN}


class BridgeFault(StrEnum):
    """What happens to the bridge."""

    TERMINATED = "SIGTERM, started again"
    KILLED = "SIGKILL, started again"
    DISK_FULL = "out of disk"
    CLOCK_JUMPS = "clock jumps"

    @property
    def restarts(self) -> bool:
        """Whether another process goes on."""
        return self in {BridgeFault.TERMINATED, BridgeFault.KILLED}


@dataclass(frozen=True, slots=True)
class Cell:
    """All three at the same time."""

    zammad: ZammadFault
    asterisk: AsteriskFault
    bridge: BridgeFault

    def __str__(self) -> str:
        return f"{self.zammad} - {self.asterisk} - {self.bridge}"

    @property
    def zammad_heals_first(self) -> bool:
        """Who comes back first: in every other cell Zammad, in the others Asterisk."""
        return (list(ZammadFault).index(self.zammad) + list(AsteriskFault).index(self.asterisk)) % 2 == 0


CELLS = tuple(Cell(*faults) for faults in itertools.product(ZammadFault, AsteriskFault, BridgeFault))
