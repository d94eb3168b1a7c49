"""Tells an event that Zammad cannot take from one that has bad luck with a Zammad that is half broken.

Nothing may be lost, so an event is given up only when nothing else explains its failures: they went on while other
events went through, for minutes, and more often than chance would have it at the rate at which others failed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

FEWEST_FAILURES = 8
"""Failures of one event, each after others had gone through, before it can be given up."""
SHORTEST = 300.0
"""Seconds over which its failures must have been spread: a restart or a migration of Zammad is over by then."""
BY_CHANCE = 1e-6
"""An event is given up only if bad luck alone had been less likely than this."""


@dataclass(slots=True)
class Tally:
    """What became of all attempts at one Zammad so far."""

    accepted: int = 0
    failed: int = 0
    """Attempts that Zammad, or what stands before it, refused or failed on in a way that may be the event's fault."""


class Doubt:
    """Whether one event is itself the cause that it does not go through; begins with its first failure."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._accepted_at_first = self._accepted_at_last = tally.accepted
        self._failed_at_first = tally.failed
        self._own = 0
        self._while_others_go_through = 0
        self.waited = 0.0
        """Seconds of pauses since then."""

    @property
    def failures(self) -> int:
        """How often it has failed."""
        return self._own

    def failed(self) -> None:
        """Count a failure of the event."""
        self._tally.failed += 1
        self._own += 1
        if self._tally.accepted > self._accepted_at_last:
            self._while_others_go_through += 1
        self._accepted_at_last = self._tally.accepted

    @property
    def is_certain(self) -> bool:
        """Whether the event is the cause, beyond reasonable doubt."""
        if self._while_others_go_through < FEWEST_FAILURES or self.waited < SHORTEST:
            return False
        accepted = self._tally.accepted - self._accepted_at_first
        failed = self._tally.failed - self._failed_at_first - self._own
        # The share of the others' attempts that fail, estimated so that few of them prove little (rule of succession).
        share = (failed + 1) / (accepted + failed + 2)
        return self._while_others_go_through * math.log(share) <= math.log(BY_CHANCE)
