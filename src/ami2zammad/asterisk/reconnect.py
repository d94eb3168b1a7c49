"""When to connect: always, again and again, each time a bit later, until the task is cancelled."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final, NoReturn

from ami2zammad.asterisk.connection import AmiEndpoint, AmiSession
from ami2zammad.asterisk.errors import ActionRefused, AsteriskError, LoginRefused

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from ami2zammad.asterisk.intake import EventIntake
    from ami2zammad.asterisk.protocol import Tap
    from ami2zammad.asterisk.waiting import Clock, Sleep

FIRST_DELAY: Final = 0.5
LONGEST_DELAY: Final = 30.0
STABLE_AFTER: Final = 10.0
"""Seconds after which a session counts as one that worked, so that the next delay is the first again."""


class Backoff:
    """Delays in seconds: 0.5, 1, 2 … 30, each shortened by up to half at random.

    `uniform` gives a number from 0 up to, not including, 1. Without the jitter many bridges would come back to a
    restarted Asterisk in the same moment.
    """

    def __init__(self, uniform: Callable[[], float] = random.random) -> None:
        self._uniform = uniform
        self._next = FIRST_DELAY

    def delay(self) -> float:
        """Give the next delay, in seconds."""
        delay, self._next = self._next, min(self._next * 2, LONGEST_DELAY)
        return delay * (1 - self._uniform() / 2)

    def reset(self) -> None:
        """Begin again with the first delay."""
        self._next = FIRST_DELAY

    def slowest(self) -> None:
        """Go on with the longest delay."""
        self._next = LONGEST_DELAY


class AmiFollower:
    """Keeps a session with one Asterisk; its signals go into `intake`, across all sessions in order.

    `on_connected(session)` runs after each login, while events already flow (typically: `session.snapshot()`);
    an AsteriskError out of it ends the session like any other reason. `on_disconnected(reason)` runs after each session
    that was connected, but not when the follower itself is cancelled.
    """

    def __init__(
        self,
        endpoint: AmiEndpoint,
        intake: EventIntake,
        log: FilteringBoundLogger,
        *,
        on_connected: Callable[[AmiSession], Awaitable[None]],
        on_disconnected: Callable[[AsteriskError], Awaitable[None]],
        backoff: Backoff | None = None,
        clock: Clock = time.monotonic,
        sleep: Sleep = asyncio.sleep,
        tap: Tap | None = None,
    ) -> None:
        self._endpoint = endpoint
        self._intake = intake
        self._log = log
        self._on_connected = on_connected
        self._on_disconnected = on_disconnected
        self._backoff = backoff or Backoff()
        self._clock = clock
        self._sleep = sleep
        self._tap = tap
        self._unreachable = ""
        self.session: AmiSession | None = None
        """The session that stands at the moment."""
        self.connected_since: float | None = None
        """When it began; None without one."""
        self.connections = 0
        """How many there were, this one included."""
        self.trouble: AsteriskError | None = None
        """Why there is no session, or why the last one ended; None while one stands."""

    async def run(self) -> NoReturn:
        """Follow until cancelled; then log off and close."""
        while True:
            try:
                session = await AmiSession.open(
                    self._endpoint, self._intake.put, clock=self._clock, sleep=self._sleep, tap=self._tap
                )
            except AsteriskError as error:
                self.trouble = error
                self._report_unreachable(error)
                if isinstance(error, LoginRefused):
                    # It will not get better by asking often, and fail2ban counts.
                    self._backoff.slowest()
            else:
                self._unreachable = ""
                await self._follow(session)
            await self._sleep(self._backoff.delay())

    async def _follow(self, session: AmiSession) -> None:
        since = self.connected_since = self._clock()
        self.connections += 1
        self.trouble = None
        self.session = session
        self._intake.attach(session)
        self._log.info("ami.connected", host=self._endpoint.host, port=self._endpoint.port, version=session.version)
        try:
            await self._on_connected(session)
            reason = await session.closed()
        except AsteriskError as error:
            reason = error
            if isinstance(error, ActionRefused):
                # An account with too few rights: it will not get better by asking often.
                self._backoff.slowest()
        finally:
            self.session = self.connected_since = None
            self._intake.detach()
            await session.close()
        self.trouble = reason
        seconds = self._clock() - since
        self._log.warning(
            "ami.disconnected",
            host=self._endpoint.host,
            port=self._endpoint.port,
            reason=reason.code,
            problem=reason.problem,
            remedy=reason.remedy,
            seconds=round(seconds, 1),
        )
        if seconds >= STABLE_AFTER:
            self._backoff.reset()
        await self._on_disconnected(reason)

    def _report_unreachable(self, error: AsteriskError) -> None:
        """Say why there is no session, once for each reason in a row."""
        if error.code == self._unreachable:
            return
        self._unreachable = error.code
        self._log.error(
            "ami.unreachable",
            host=self._endpoint.host,
            port=self._endpoint.port,
            reason=error.code,
            problem=error.problem,
            remedy=error.remedy,
        )
