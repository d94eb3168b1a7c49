"""The hall: builds the parts, runs them in one TaskGroup, stops them in order.

Data goes one way: Asterisk's signals into the tracker, the tracker's events into the outbox, the outbox to
Zammad. Nothing here waits for Zammad while it listens to Asterisk.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal as unix_signal
import time
from collections.abc import Awaitable, Callable
from enum import Enum
from typing import TYPE_CHECKING, Final

import structlog
from structlog.typing import FilteringBoundLogger

from ami2zammad.calls.decisions import Decision

from .asterisk.connection import AmiEndpoint, AmiSession
from .asterisk.errors import AsteriskError
from .asterisk.fastagi import FastAgiServer
from .asterisk.intake import EventIntake
from .asterisk.reconnect import AmiFollower
from .calls.directory import Agent, Directory
from .calls.entry import LogEntry
from .calls.events import Answer, CallEvent, Hangup, NewCall
from .calls.numbers import NumberPlan
from .calls.signalling import ChannelGone, DialRequested, Signal
from .calls.tracker import CallTracker, TrackerRules
from .control.control import CallControl, ControlRules, DialRefusedError
from .control.numbers import EmergencyNumbers
from .control.screening import Screening
from .logs import Redaction
from .ops.activity import Activity
from .ops.notify import Notifier
from .ops.state import AsteriskState, BridgeState, CallState, OutboxState, Problem, Stage, ZammadState
from .outbox.outbox import Outbox
from .settings import Settings
from .zammad.client import ZammadClient
from .zammad.endpoint import ZammadEndpoint
from .zammad.errors import EventRefused, ZammadError
from .zammad.payloads import kind_of

if TYPE_CHECKING:
    from .ops.http import OpsServer

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


def control_rules(settings: Settings) -> ControlRules:
    """Return what Zammad's replies may do."""
    control = settings.control
    return ControlRules(
        reject=control.reject,
        decision_timeout=control.decision_timeout,
        originate=control.originate,
        originate_channel=control.originate_channel,
        agent_channel=control.agent_channel,
        caller_name=control.caller_name,
        emergency=EmergencyNumbers(
            settings.numbers.country, frozenset(control.emergency), settings.numbers.outbound_prefix
        ),
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


class CannotListenError(Exception):
    """An address of the settings cannot be listened on; the text names the setting."""


class Listener:
    """Feeds the tracker: with signals as they come, and with time when it waits for nothing else.

    `tell` gets what the tracker says, in order. Asterisk is asked what the tracker wants to know, while there is
    a session. `taken_in` gets each batch of signals after the tracker.
    """

    def __init__(
        self,
        tracker: CallTracker,
        intake: EventIntake,
        *,
        tell: Callable[[list[CallEvent]], None],
        session: Callable[[], AmiSession | None],
        clock: Clock,
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
        self.busy_since: float | None = None
        """When it began with the signals that it is at; None while it waits for some."""

    async def run(self) -> None:
        """Listen until cancelled."""
        try:
            while True:
                self.busy_since = None
                batch = await self._next_signals()
                self.busy_since = self._clock()
                for signal in batch:
                    try:
                        # Apart from the signal: a fault in that must not lose what was due before it.
                        self._tell(self._tracker.advance(signal.at))
                        self._tell(self._tracker.handle(signal))
                    except Exception:  # noqa: BLE001
                        # A fault of ours in one call must not end all others.
                        self._log.exception("call.fault", signal=type(signal).__name__)
                self._tell(self._tracker.advance(self._clock()))
                self._ask(self._tracker.take_questions())
                if self._taken_in is not None and batch:
                    await self._taken_in(batch)
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
        self._settings = settings
        self._log = structlog.get_logger()
        self._activity = Activity(clock)
        self._notifier = Notifier.of_environment(os.environ)
        self._started_at = clock()
        self._pbx_address = f"{settings.asterisk.host}:{settings.asterisk.port}"
        self._zammad_address = zammad_endpoint(settings).public_url.partition("/api/v1/cti/")[0]
        self._zammad = ZammadClient(zammad_endpoint(settings), on_failure=self._failed)
        self._tracker = CallTracker(tracker_rules(settings))
        self._control = CallControl(
            control_rules(settings),
            self._tracker,
            tell=self._tell,
            session=lambda: self._follower.session,
            trouble=lambda: self._zammad.trouble,
            clock=clock,
            count=self._activity.decided,
        )
        self._outbox: Outbox[Decision] = Outbox(
            self._zammad, refusal=EventRefused, on_reply=self._replied, limit=settings.outbox.limit
        )
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
            self._tracker,
            self._intake,
            tell=self._tell,
            session=lambda: self._follower.session,
            clock=clock,
            taken_in=self._taken_in,
        )
        self._fast_agi = _fast_agi_server(settings, self._control, self._log)
        self._ops = _ops_server(settings, self._control, self._state, self._activity)

    @property
    def fast_agi_port(self) -> int | None:
        """The port on which the dialplan may ask, None if it may not."""
        return self._fast_agi.port if self._fast_agi is not None else None

    async def run(self, stop: asyncio.Event) -> None:
        """Bridge until `stop` is set; then let go of Asterisk and deliver what is left, for a while.

        Raises `ZammadError` or `CannotListenError` for what no retry can mend, such as a CA file that cannot be read or
        a port that is in use.
        """
        async with contextlib.AsyncExitStack() as servers:
            await servers.enter_async_context(self._zammad)
            listening = await servers.enter_async_context(contextlib.AsyncExitStack())
            await _listen(listening, self._fast_agi, "control.listen")
            await _listen(listening, self._ops, "ops.listen")
            await self._run(stop, listening)

    async def _run(self, stop: asyncio.Event, listening: contextlib.AsyncExitStack) -> None:
        async with asyncio.TaskGroup() as group:
            outbox = group.create_task(self._outbox.run(), name="outbox")
            tracking = group.create_task(self._listener.run(), name="tracking")
            following = group.create_task(self._follower.run(), name="ami")
            notifying = group.create_task(self._notifier.run(self._state), name="notify")
            self._log.info("bridge.started")
            await stop.wait()
            self._notifier.stopping()
            await cancelled(notifying)
            self._log.info("bridge.stopping", waiting=self._outbox.waiting, live_calls=self._tracker.live_calls)
            # First those whom calls wait for: they go on without an answer.
            await listening.aclose()
            await self._control.close()
            await cancelled(following)
            await cancelled(tracking)
            left = await self._outbox.drain(self._settings.outbox.shutdown_timeout)
            await cancelled(outbox)
        self._log.info("bridge.stopped", undelivered=len(left))

    def _failed(self, event: CallEvent, reason: str, refused: bool) -> None:  # noqa: FBT001
        self._activity.attempt_failed(event.call_id, kind_of(event), reason, refused=refused)
        self._control.failed(event, reason)

    def _replied(self, event: CallEvent, decision: Decision) -> None:
        self._activity.delivered(event.call_id, kind_of(event), self._clock() - event.at)
        self._control.replied(event, decision)

    def _tell(self, events: list[CallEvent]) -> None:
        for event in events:
            self._control.told(event)
            call = event if isinstance(event, NewCall) else event.call
            self._outbox.put(event, family=call.first_call_id)
            if isinstance(event, Hangup):
                self._activity.call_ended(event.call.direction.value, event.cause.value)
            # Last: whatever becomes of the line, Zammad gets the event.
            self._log_event(event)

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

    async def _taken_in(self, batch: list[Signal]) -> None:
        for signal in batch:
            if isinstance(signal, DialRequested):
                self._control.dial_requested(signal)
            elif isinstance(signal, ChannelGone):
                self._control.channel_gone(signal.uniqueid)
        await self._control.signals_taken_in()

    async def _connected(self, session: AmiSession) -> None:
        """Learn what went on while nobody listened; the snapshot goes to the tracker among the signals."""
        self._notifier.changed()
        snapshot = await session.snapshot()
        self._log.info("ami.snapshot", channels=len(snapshot.channels))

    async def _disconnected(self, reason: AsteriskError) -> None:
        """Keep all calls: Asterisk goes on with them, and the next snapshot tells which have ended."""
        self._log.info("calls.unobserved", reason=reason.code, live_calls=self._tracker.live_calls)

    def _state(self) -> BridgeState:
        """Say how everything is, for operators."""
        follower, intake, zammad = self._follower, self._intake, self._zammad
        trouble = follower.trouble
        return BridgeState(
            now=self._clock(),
            started_at=self._started_at,
            instance=self._settings.instance,
            asterisk=AsteriskState(
                self._pbx_address,
                follower.connected_since,
                Problem(trouble.problem, trouble.remedy) if trouble is not None else None,
                signals=intake.total,
                waiting=intake.waiting,
                full_count=intake.full_count,
                reconnects=max(follower.connections - 1, 0),
            ),
            zammad=ZammadState(
                self._zammad_address,
                Problem(zammad.trouble, zammad.remedy) if zammad.trouble else None,
            ),
            # Kept in memory, the outbox has no more to say. One that is kept on disk also knows durable, oldest_age,
            # dead_letters and problem.
            outbox=OutboxState(durable=False, waiting=self._outbox.waiting),
            calls=tuple(map(_call_state, self._tracker.open_entries)),
            busy_since=self._listener.busy_since,
        )


def _call_state(entry: LogEntry) -> CallState:
    answer, new_call = entry.answer_event, entry.new_call
    stage = Stage.ARRIVING if new_call is None else Stage.RINGING if answer is None else Stage.ANSWERED
    said = answer or new_call
    return CallState(
        call_id=entry.call_id,
        direction=entry.direction.value,
        from_number=entry.from_number,
        to_number=entry.to_number,
        users=(answer.user,) if answer is not None and answer.user else tuple(entry.users),
        queue=entry.queue,
        stage=stage,
        since=said.at if said is not None else None,
    )


async def _listen(servers: contextlib.AsyncExitStack, server: FastAgiServer | OpsServer | None, setting: str) -> None:
    """Start `server`, if there is one, until `servers` is closed. Raises `CannotListenError`."""
    try:
        if server is not None:
            await servers.enter_async_context(server)
    except OSError as error:
        raise CannotListenError(f"cannot listen on {setting}: {error.strerror}; correct it") from None


async def cancelled(task: asyncio.Task[None]) -> None:
    """End `task` and wait until it has cleaned up."""
    task.cancel()
    await asyncio.wait([task])


def _address(listen: str) -> tuple[str, int]:
    """Split `address:port` (the settings have checked its form)."""
    host, _, port = listen.rpartition(":")
    return host.strip("[]"), int(port)


def _fast_agi_server(settings: Settings, control: CallControl, log: FilteringBoundLogger) -> FastAgiServer | None:
    if not settings.control.listen:
        return None
    host, port = _address(settings.control.listen)
    return FastAgiServer(Screening(control, settings.control.caller_name).answer, host=host, port=port, log=log)


def _ops_server(
    settings: Settings, control: CallControl, state: Callable[[], BridgeState], activity: Activity
) -> OpsServer | None:
    if not settings.ops.listen:
        return None
    # Pages, metrics and an HTTP server take a while to load, and few bridges have all three.
    from .ops.http import OpsServer  # noqa: PLC0415
    from .ops.pages import Pages  # noqa: PLC0415

    pages = Pages(state, activity, clean=Redaction(settings.secrets()).text)
    host, port = _address(settings.ops.listen)
    token = settings.ops.token
    secret = token.get_secret_value() if token is not None else ""
    return OpsServer(host, port, token=secret, dial=control.dial, refusal=DialRefusedError, pages=pages)


class Outcome(Enum):
    """How the daemon ended."""

    STOPPED = "stopped"
    FAILED = "failed"
    UNUSABLE = "unusable"
    """The settings cannot be used on this machine; trying again does not help."""


async def serve(settings: Settings) -> Outcome:
    """Run the daemon until SIGTERM or SIGINT; say in the log why it ended otherwise."""
    log = structlog.get_logger()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (unix_signal.SIGTERM, unix_signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        await Bridge(settings).run(stop)
    except (ZammadError, CannotListenError) as error:
        log.critical("bridge.failed", problem=str(error), remedy="correct the settings; `ami2zammad check` helps")
        return Outcome.UNUSABLE
    except Exception:
        log.critical("bridge.failed", problem="a fault of ami2zammad", remedy="please report it", exc_info=True)
        return Outcome.FAILED
    return Outcome.STOPPED
