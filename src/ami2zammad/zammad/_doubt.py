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
    """What became of the events of one Zammad so far."""

    accepted: int = 0
    accepted_at_once: int = 0
    """Those of them that never failed."""
    doubted: int = 0
    """Events that failed at least once in a way that may be their own fault."""


class Doubt:
    """Whether one event is itself the cause that it does not go through; begins with its first failure."""

    def __init__(self, tally: Tally) -> None:
        tally.doubted += 1
        self.tally = tally
        self._accepted_at_last = tally.accepted
        self._at_once_at_first = tally.accepted_at_once
        self._doubted_at_first = tally.doubted
        self._while_others_go_through = 0
        self.failures = 0
        """How often it has failed."""
        self.waited = 0.0
        """Seconds of pauses since then."""

    def failed(self) -> bool:
        """Count a failure of the event; say whether others have gone through since the last one."""
        self.failures += 1
        others_go_through = self.tally.accepted > self._accepted_at_last
        self._while_others_go_through += others_go_through
        self._accepted_at_last = self.tally.accepted
        return others_go_through

    @property
    def is_certain(self) -> bool:
        """Whether the event is the cause, beyond reasonable doubt."""
        if self._while_others_go_through < FEWEST_FAILURES or self.waited < SHORTEST:
            return False
        # What others met at their first attempt: later ones are mostly those of a few events that are tried again and
        # again, which would speak each other free.
        well = self.tally.accepted_at_once - self._at_once_at_first
        ill = self.tally.doubted - self._doubted_at_first
        # The share that fails, estimated so that few events prove little (rule of succession).
        share = (ill + 1) / (well + ill + 2)
        return self._while_others_go_through * math.log(share) <= math.log(BY_CHANCE)
