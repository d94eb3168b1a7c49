"""From Asterisk's signals to call events: the tracker in real time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from .asterisk.connection import AmiSession
from .asterisk.errors import AsteriskError
from .asterisk.intake import EventIntake
from .calls.events import CallEvent
from .calls.signalling import Signal
from .calls.tracker import MOST_CHANNELS, CallTracker

# Questions to Asterisk under way at once: they are about callers in an IVR, nothing waits for them.
_QUESTIONS_AT_ONCE: Final = 8


class Listener:
    """Feeds the tracker: with signals as they come, and with time when it waits for nothing else.

    `tell` gets what the tracker says to each batch of signals, in order. Asterisk is asked what the tracker wants to
    know, while there is a session. `taken_in` gets each batch of signals after the tracker.
    """

    def __init__(
        self,
        tracker: CallTracker,
        intake: EventIntake,
        *,
        tell: Callable[[list[CallEvent]], None],
        session: Callable[[], AmiSession | None],
        clock: Callable[[], float],
        taken_in: Callable[[list[Signal]], Awaitable[None]] | None = None,
    ) -> None:
        self._taken_in = taken_in
        self._tracker = tracker
        self._intake = intake
        self._tell = tell
        self._session = session
        self._clock = clock
        self._log = structlog.get_logger()
        self._questions: set[asyncio.Task[None]] = set()
        self._full = False
        self._untracked = 0
        self.busy_since: float | None = None
        """When it began with the signals that it is at; None while it waits for some."""

    async def run(self) -> None:
        """Listen until cancelled."""
        try:
            while True:
                self.busy_since = None
                batch = await self._next_signals()
                self.busy_since = self._clock()
                events: list[CallEvent] = []
                for signal in batch:
                    try:
                        # Apart from the signal: a fault in that must not lose what was due before it.
                        due = self._tracker.next_deadline
                        if due is not None and due <= signal.at:
                            events += self._tracker.advance(signal.at)
                        events += self._tracker.handle(signal)
                    except Exception:  # noqa: BLE001
                        # A fault of ours in one call must not end all others.
                        self._log.exception("call.fault", signal=type(signal).__name__)
                events += self._tracker.advance(self._clock())
                # At once for the whole batch: what a call has become is written once.
                self._tell(events)
                self._ask(self._tracker.take_questions())
                self._note_room()
                if self._taken_in is not None and batch:
                    await self._taken_in(batch)
        finally:
            for question in list(self._questions):
                await cancelled(question)

    def _note_room(self) -> None:
        """Say once that there are too many channels, and once that there is room again."""
        channels, untracked = self._tracker.live_channels, self._tracker.untracked
        if not self._full and untracked > self._untracked:
            self._full = True
            self._log.error("calls.too_many", limit=MOST_CHANNELS)
        elif self._full and channels <= MOST_CHANNELS // 2:
            self._full = False
            self._log.info("calls.relieved", channels=channels, untracked=untracked)
        self._untracked = untracked

    async def _next_signals(self) -> list[Signal]:
        deadline = self._tracker.next_deadline
        try:
            async with asyncio.timeout(None if deadline is None else max(deadline - self._clock(), 0)):
                return await self._intake.get_batch()
        except TimeoutError:
            return []

    def _ask(self, channels: list[str]) -> None:
        session = self._session()
        if session is None:
            return
        for channel in channels[: _QUESTIONS_AT_ONCE - len(self._questions)]:
            task = asyncio.create_task(self._application_of(session, channel))
            self._questions.add(task)
            task.add_done_callback(self._questions.discard)

    async def _application_of(self, session: AmiSession, channel: str) -> None:
        """Ask; the answer comes to the tracker among the signals. What stays unanswered is asked again by and by."""
        try:
            await session.application_of(channel)
        except AsteriskError as error:
            self._log.debug("ami.question_unanswered", channel=channel, problem=error.problem)


async def cancelled(task: asyncio.Task[None]) -> None:
    """End `task` and wait until it has cleaned up."""
    task.cancel()
    await asyncio.wait([task])
