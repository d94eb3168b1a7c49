"""What a bridge has done since its start: counts with few labels, and the latest of it; all of it bounded."""

from __future__ import annotations

import itertools
from bisect import bisect_left
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

KINDS: Final = ("newCall", "answer", "hangup")
DIRECTIONS: Final = ("in", "out")
OUTCOMES: Final = ("normalClearing", "busy", "cancel", "noAnswer", "congestion", "notFound", "forwarded")
RESULTS: Final = ("delivered", "refused")
DECISIONS: Final = (
    "nothing",
    "reject",
    "dial",
    "rejected",
    "too_late",
    "late",
    "timeout",
    "unavailable",
    "emergency",
    "failed",
)
"""What became of asking Zammad: what a call that asked was told (the first three), a call that was rejected without
having asked, and why nothing was done. docs/operations.md explains each."""
OTHER: Final = "other"
"""Stands for whatever is not in these lists: what comes from outside never makes a label of its own."""
LATENCIES: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 3600.0)
"""Upper bounds in seconds: from a healthy Zammad next door to an outage."""
LATEST: Final = 20
"""How many deliveries and failures are remembered."""


class Tally:
    """Counts by labels of which each has a fixed list of values. All start at 0, so that a rate has a beginning."""

    def __init__(self, *labels: tuple[str, ...]) -> None:
        self._labels = labels
        self.counts: dict[tuple[str, ...], int] = dict.fromkeys(itertools.product(*labels), 0)

    def add(self, *values: str) -> None:
        """Count one more; a value that is not in its list counts as OTHER."""
        key = tuple(value if value in known else OTHER for value, known in zip(values, self._labels, strict=True))
        self.counts[key] = self.counts.get(key, 0) + 1

    @property
    def total(self) -> int:
        """All of them."""
        return sum(self.counts.values())


class Latencies:
    """A histogram of seconds."""

    def __init__(self) -> None:
        self._counts = [0] * (len(LATENCIES) + 1)
        self.sum = 0.0

    def add(self, seconds: float) -> None:
        """Count one more."""
        self._counts[bisect_left(LATENCIES, seconds)] += 1
        self.sum += seconds

    def cumulative(self) -> list[tuple[float, int]]:
        """Return how many were not longer than each bound; the last bound is infinite."""
        return list(zip((*LATENCIES, float("inf")), itertools.accumulate(self._counts), strict=True))


@dataclass(frozen=True, slots=True)
class Delivery:
    """An event that Zammad has. `at` is of the bridge's clock, `seconds` the time since Asterisk told of it."""

    at: float
    call_id: str
    kind: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Failure:
    """An attempt that failed, or several alike in a row: `call_id`, `kind` and `at` are the last one's."""

    at: float
    call_id: str
    kind: str
    reason: str
    refused: bool
    """Zammad will never take the event; else it is tried again."""
    times: int = 1


class Activity:
    """Told by the bridge what happens. `clock` is the bridge's.

    Counting costs a few hundred nanoseconds, so it is done whether anybody asks or not.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.calls = Tally(DIRECTIONS, OUTCOMES)
        self.deliveries = Tally(KINDS, RESULTS)
        self.failed_attempts = Tally(KINDS)
        self.decisions = Tally(DECISIONS)
        self.latencies = {kind: Latencies() for kind in KINDS}
        self.latest_deliveries: deque[Delivery] = deque(maxlen=LATEST)
        self.latest_failures: deque[Failure] = deque(maxlen=LATEST)

    @property
    def last_delivery_at(self) -> float | None:
        """When Zammad last took an event; None before the first."""
        return self.latest_deliveries[-1].at if self.latest_deliveries else None

    def call_ended(self, direction: str, outcome: str) -> None:
        """Count a log entry that ended with the cause `outcome`."""
        self.calls.add(direction, outcome)

    def delivered(self, call_id: str, kind: str, seconds: float) -> None:
        """Count an event that Zammad has now, `seconds` after Asterisk told of it.

        Negative seconds are of another clock (an event from before a reboot, say): they say nothing about latency.
        """
        self.deliveries.add(kind, "delivered")
        if seconds >= 0 and kind in self.latencies:
            self.latencies[kind].add(seconds)
        self.latest_deliveries.append(Delivery(self._clock(), call_id, kind, max(seconds, 0.0)))

    def attempt_failed(self, call_id: str, kind: str, reason: str, *, refused: bool = False) -> None:
        """Count an attempt that failed; with `refused` it was the event's last."""
        self.failed_attempts.add(kind)
        if refused:
            self.deliveries.add(kind, "refused")
        last = self.latest_failures[-1] if self.latest_failures else None
        times = 1
        if last is not None and (last.reason, last.refused) == (reason, refused):
            # An outage would push everything else out of the list.
            times += self.latest_failures.pop().times
        self.latest_failures.append(Failure(self._clock(), call_id, kind, reason, refused, times))

    def decided(self, decision: str) -> None:
        """Count what became of asking Zammad about a call (see DECISIONS)."""
        self.decisions.add(decision)
