"""The gate that all requests to one endpoint pass: open while it works, one probe at a time while it does not.

Without it every waiting call would knock at the door of a Zammad that is just starting.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

import structlog

from ami2zammad.zammad.replies import Judgement, Verdict

Sleep = Callable[[float], Awaitable[None]]

FIRST_PAUSE = 0.5
"""Seconds: the upper bound of the pause before the second attempt."""
LONGEST_PAUSE = 30.0
"""Seconds: the bound doubles up to here."""
CONFIGURATION_PAUSE = 60.0
"""Seconds, give or take a tenth: nobody corrects a setting within seconds."""
LONGEST_RETRY_AFTER = 300.0
"""Seconds of a server's `Retry-After` that are obeyed."""


def back_off(failures: int, rng: random.Random) -> float:
    """Return the seconds to wait after `failures` (1 or more) in a row: exponential, with full jitter."""
    # The exponent is bounded because a float is; the pause reaches its bound long before.
    return rng.uniform(0.0, min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(failures - 1, 16)))


class Circuit:
    """Lets requests through, or one after the other while nothing goes through anyway.

    Which request is the probe changes with every attempt: one that makes Zammad fail cannot keep all others
    waiting. `sleep` and `rng` are injected for the tests.
    """

    def __init__(self, *, sleep: Sleep, rng: random.Random) -> None:
        self._sleep = sleep
        self._rng = rng
        self._log = structlog.get_logger()
        self._turn = asyncio.Lock()
        self._fault: Judgement | None = None
        self._recoveries = 0
        self._failures = 0
        self._pause = 0.0
        self._nudged = asyncio.Event()

    @property
    def fault(self) -> Judgement | None:
        """What keeps requests from going through at the moment."""
        return self._fault

    async def send(self, attempt: Callable[[], Awaitable[Judgement]]) -> Judgement:
        """Wait until it is this request's turn, make `attempt` and return its judgement."""
        if self._fault is not None:
            async with self._turn:
                # Another probe may have succeeded while this one waited; then all may go at once.
                if self._fault is not None:
                    await self._wait()
                    judgement = await attempt()
                    self._note(judgement, probe=True)
                    return judgement
        recoveries = self._recoveries
        judgement = await attempt()
        # A request that began before the latest recovery says nothing about the state after it.
        if judgement.from_zammad or recoveries == self._recoveries:
            self._note(judgement, probe=False)
        return judgement

    def nudge(self) -> None:
        """Try again at once: somebody has changed a setting."""
        if self._fault is not None:
            self._failures = 0
            self._nudged.set()

    async def _wait(self) -> None:
        """Wait for the pause to be over, or for a nudge."""
        waits = [asyncio.ensure_future(self._sleep(self._pause)), asyncio.ensure_future(self._nudged.wait())]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            # Not before the wait: a nudge during an attempt counts for the next one.
            self._nudged.clear()
            for one in waits:
                one.cancel()

    def _note(self, judgement: Judgement, *, probe: bool) -> None:
        if judgement.from_zammad:
            self._close()
        elif judgement.verdict in {Verdict.OUTAGE, Verdict.MISCONFIGURED}:
            # Requests that were under way together fail together: that is one failure, not many.
            if probe or self._fault is None:
                self._failures += 1
            self._open(judgement)
        elif probe:
            self._failures += 1

    def _open(self, judgement: Judgement) -> None:
        before = self._fault
        self._fault = judgement
        misconfigured = judgement.verdict is Verdict.MISCONFIGURED
        if misconfigured:
            self._pause = CONFIGURATION_PAUSE * self._rng.uniform(0.9, 1.1)
        elif judgement.retry_after:
            self._pause = min(judgement.retry_after, LONGEST_RETRY_AFTER)
        else:
            self._pause = back_off(self._failures, self._rng)
        # One outage is like another; but another wrong setting needs another hand.
        if before is not None and _sort(before) == _sort(judgement):
            return
        fields = {"status": judgement.status, "reason": judgement.reason, "remedy": judgement.remedy}
        if misconfigured:
            self._log.error("zammad.configuration_fault", **fields)
        else:
            self._log.warning("zammad.unreachable", **fields)

    def _close(self) -> None:
        if self._fault is None:
            return
        self._log.info("zammad.recovered", failures=self._failures)
        self._fault = None
        self._failures = 0
        self._pause = 0.0
        self._recoveries += 1


def _sort(fault: Judgement) -> tuple[Verdict, str]:
    return fault.verdict, fault.remedy if fault.verdict is Verdict.MISCONFIGURED else ""
