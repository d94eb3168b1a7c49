"""The hall: builds the parts, runs them in one TaskGroup, stops them in order.

Data goes one way: Asterisk's signals into the tracker, the tracker's events into the outbox, the outbox to
Zammad. Nothing here waits for Zammad while it listens to Asterisk.
"""

from __future__ import annotations

import asyncio
import signal as unix_signal
import time
from collections.abc import Callable
from typing import Final

import structlog

from .asterisk.connection import AmiEndpoint, AmiSession
from .asterisk.errors import AsteriskError
from .asterisk.intake import EventIntake
from .asterisk.reconnect import AmiFollower
from .calls.directory import Agent, Directory
from .calls.events import Answer, CallEvent, Hangup, NewCall
from .calls.numbers import NumberPlan
from .calls.signalling import Signal
from .calls.tracker import CallTracker, TrackerRules
from .outbox.outbox import Outbox
from .settings import Settings
from .zammad.client import ZammadClient
from .zammad.endpoint import ZammadEndpoint
from .zammad.errors import EventRefused, ZammadError
from .zammad.replies import Reply

# What is still to be delivered when the bridge is told to stop gets this many seconds.
SHUTDOWN_TIMEOUT: Final = 10.0
# Questions to Asterisk under way at once: they are about callers in an IVR, nothing waits for them.
_QUESTIONS_AT_ONCE: Final = 8

Clock = Callable[[], float]


def ami_endpoint(settings: Settings) -> AmiEndpoint:
    """Return where Asterisk is."""
    asterisk = settings.asterisk
    return AmiEndpoint(
        host=asterisk.host,
        port=asterisk.port,
        username=asterisk.username,
        secret=asterisk.secret.get_secret_value(),
        tls=asterisk.tls,
        ca_file=asterisk.ca_file,
        auth=asterisk.auth,
        ping_interval=asterisk.ping_interval,
        ping_timeout=asterisk.ping_timeout,
    )


def zammad_endpoint(settings: Settings) -> ZammadEndpoint:
    """Return where Zammad is."""
    zammad = settings.zammad
    return ZammadEndpoint(
        url=zammad.url.get_secret_value(),
        format=zammad.format,
        timeout=zammad.timeout,
        ca_file=zammad.ca_file,
        verify_tls=zammad.verify_tls,
        queue_as_to=zammad.queue_as_to,
    )


def tracker_rules(settings: Settings) -> TrackerRules:
    """Return how this PBX is set up."""
    directory = Directory(
        Agent(agent.extension, agent.name, agent.answering_number, agent.number) for agent in settings.agents
    )
    return TrackerRules(
        instance=settings.instance,
        trunks=settings.asterisk.trunks,
        trunk_contexts=settings.asterisk.trunk_contexts,
        announce_on_arrival=settings.calls.announce == "arrival",
        settle=settings.calls.settle,
        voicemail_applications=settings.calls.voicemail_applications,
        ignore_contexts=settings.calls.ignore_contexts,
        numbers=NumberPlan(settings.numbers.country, settings.numbers.outbound_prefix, directory.extensions),
        directory=directory,
    )


class Listener:
    """Feeds the tracker: with signals as they come, and with time when it waits for nothing else.

    `tell` gets what the tracker says, in order. Asterisk is asked what the tracker wants to know, while there is
    a session.
    """

    def __init__(
        self,
        tracker: CallTracker,
        intake: EventIntake,
        *,
        tell: Callable[[list[CallEvent]], None],
        session: Callable[[], AmiSession | None],
        clock: Clock,
    ) -> None:
        self._tracker = tracker
        self._intake = intake
        self._tell = tell
        self._session = session
        self._clock = clock
        self._log = structlog.get_logger()
        self._questions: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Listen until cancelled."""
        try:
            while True:
                for signal in await self._next_signals():
                    try:
                        self._tell(self._tracker.handle(signal))
                    except Exception:  # noqa: BLE001
                        # A fault of ours in one call must not end all others.
                        self._log.exception("call.fault", signal=type(signal).__name__)
                self._tell(self._tracker.advance(self._clock()))
                self._ask(self._tracker.take_questions())
        finally:
            for question in list(self._questions):
                await cancelled(question)

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


class Bridge:
    """One PBX, one Zammad. `clock` gives seconds and never goes back."""

    def __init__(self, settings: Settings, *, clock: Clock = time.monotonic) -> None:
        self._clock = clock
        self._log = structlog.get_logger()
        self._zammad = ZammadClient(zammad_endpoint(settings))
        self._tracker = CallTracker(tracker_rules(settings))
        self._outbox: Outbox[Reply] = Outbox(self._zammad, refusal=EventRefused)
        self._intake = EventIntake(self._log, clock=clock)
        self._follower = AmiFollower(
            ami_endpoint(settings),
            self._intake,
            self._log,
            on_connected=self._connected,
            on_disconnected=self._disconnected,
            clock=clock,
        )
        self._listener = Listener(
            self._tracker, self._intake, tell=self._tell, session=lambda: self._follower.session, clock=clock
        )

    async def run(self, stop: asyncio.Event) -> None:
        """Bridge until `stop` is set; then let go of Asterisk and deliver what is left, for a while.

        Raises `ZammadError` for what no retry can mend, such as a CA file that cannot be read.
        """
        async with self._zammad, asyncio.TaskGroup() as group:
            outbox = group.create_task(self._outbox.run(), name="outbox")
            tracking = group.create_task(self._listener.run(), name="tracking")
            following = group.create_task(self._follower.run(), name="ami")
            self._log.info("bridge.started")
            await stop.wait()
            self._log.info("bridge.stopping", waiting=self._outbox.waiting, live_calls=self._tracker.live_calls)
            await cancelled(following)
            await cancelled(tracking)
            left = await self._outbox.drain(SHUTDOWN_TIMEOUT)
            await cancelled(outbox)
        self._log.info("bridge.stopped", undelivered=len(left))

    def _tell(self, events: list[CallEvent]) -> None:
        for event in events:
            self._log_event(event)
            call = event if isinstance(event, NewCall) else event.call
            self._outbox.put(event, family=call.first_call_id)

    def _log_event(self, event: CallEvent) -> None:
        match event:
            case NewCall():
                self._log.info(
                    "call.new",
                    call_id=event.call_id,
                    direction=event.direction.value,
                    from_number=event.from_number,
                    to_number=event.to_number,
                    users=list(event.users),
                    queue=event.queue,
                )
            case Answer():
                self._log.info(
                    "call.answered", call_id=event.call_id, user=event.user, answering_number=event.answering_number
                )
            case Hangup():
                self._log.info("call.ended", call_id=event.call_id, cause=event.cause.value)

    async def _connected(self, session: AmiSession) -> None:
        """Learn what went on while nobody listened; the snapshot goes to the tracker among the signals."""
        snapshot = await session.snapshot()
        self._log.info("ami.snapshot", channels=len(snapshot.channels))

    async def _disconnected(self, reason: AsteriskError) -> None:
        """Keep all calls: Asterisk goes on with them, and the next snapshot tells which have ended."""
        self._log.info("calls.unobserved", reason=reason.code, live_calls=self._tracker.live_calls)


async def cancelled(task: asyncio.Task[None]) -> None:
    """End `task` and wait until it has cleaned up."""
    task.cancel()
    await asyncio.wait([task])


async def serve(settings: Settings) -> bool:
    """Run the daemon until SIGTERM or SIGINT; return False if it failed instead. Says why in the log."""
    log = structlog.get_logger()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (unix_signal.SIGTERM, unix_signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        await Bridge(settings).run(stop)
    except ZammadError as error:
        log.critical("bridge.failed", problem=str(error))
    except Exception:
        log.critical("bridge.failed", problem="a fault of ami2zammad: please report it", exc_info=True)
    else:
        return True
    return False
