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
from collections.abc import Awaitable, Callable, Mapping
from enum import Enum
from typing import TYPE_CHECKING, Final, NoReturn

import structlog
from structlog.typing import FilteringBoundLogger

from ami2zammad.calls.decisions import Decision

from .asterisk.connection import AmiEndpoint, AmiSession
from .asterisk.errors import AsteriskError
from .asterisk.fastagi import FastAgiServer
from .asterisk.intake import EventIntake
from .asterisk.reconnect import AmiFollower
from .calls.directory import Agent, Directory
from .calls.documents import UnreadableDocumentError
from .calls.entry import LogEntry
from .calls.events import Answer, CallEvent, Hangup, NewCall
from .calls.numbers import NumberPlan
from .calls.signalling import ChannelGone, DialRequested, Signal
from .calls.tracker import MOST_CHANNELS, CallTracker, TrackerRules
from .control.control import CallControl, ControlRules, DialRefusedError
from .control.numbers import EmergencyNumbers
from .control.screening import Screening
from .logs import Redaction, configure_logging
from .ops.activity import Activity
from .ops.notify import Notifier
from .ops.state import AsteriskState, BridgeState, CallState, OutboxState, Problem, Stage, ZammadState
from .outbox import Outbox, OutboxError, OutboxRules
from .settings import RELOADED, ConfigurationError, Settings
from .zammad.client import ZammadClient
from .zammad.endpoint import ZammadEndpoint
from .zammad.errors import EventRefused, ZammadError
from .zammad.payloads import kind_of

if TYPE_CHECKING:
    from .ops.http import OpsServer

# Questions to Asterisk under way at once: they are about callers in an IVR, nothing waits for them.
_QUESTIONS_AT_ONCE: Final = 8
# Seconds between two looks whether Asterisk has been away for too long.
_LOOK_AROUND_EVERY: Final = 15.0
_OUTBOX_REMEDY: Final = "Make outbox.path a file that can be written; the bridge keeps trying."

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


def outbox_rules(settings: Settings) -> OutboxRules:
    """Return where events wait, and for how long."""
    outbox = settings.outbox
    return OutboxRules(path=outbox.path, limit=outbox.limit, max_age=outbox.max_age, drain_rate=outbox.drain_rate)


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


def directory_of(settings: Settings) -> Directory:
    """Return who the agents are."""
    return Directory(
        Agent(agent.extension, agent.name, agent.answering_number, agent.number) for agent in settings.agents
    )


def tracker_rules(settings: Settings) -> TrackerRules:
    """Return how this PBX is set up."""
    directory = directory_of(settings)
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
                for signal in batch:
                    try:
                        # Apart from the signal: a fault in that must not lose what was due before it.
                        due = self._tracker.next_deadline
                        if due is not None and due <= signal.at:
                            self._tell(self._tracker.advance(signal.at))
                        self._tell(self._tracker.handle(signal))
                    except Exception:  # noqa: BLE001
                        # A fault of ours in one call must not end all others.
                        self._log.exception("call.fault", signal=type(signal).__name__)
                self._tell(self._tracker.advance(self._clock()))
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


class Bridge:
    """One PBX, one Zammad. `clock` gives seconds and never goes back; `sleep` waits for seconds."""

    def __init__(
        self,
        settings: Settings,
        *,
        clock: Clock = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._clock = clock
        self._sleep = sleep
        self._settings = settings
        self._log = structlog.get_logger()
        self._activity = Activity(clock)
        self.notifier = Notifier.of_environment(os.environ)
        """Tells systemd how the bridge is."""
        self._secrets = set(settings.secrets())
        self._redaction = Redaction(self._secrets)
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
            self._zammad,
            refusal=EventRefused,
            rules=outbox_rules(settings),
            on_reply=self._replied,
            on_calls=self._resume_late,
            all_calls=self._tracker.documents,
            clock=clock,
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
        self._unobserved_since: float | None = clock()
        self._look_again = asyncio.Event()
        self._fast_agi = _fast_agi_server(settings, self._control, self._log)
        self._ops = _ops_server(settings, self._control, self._state, self._activity, self._without_secrets)

    @property
    def fast_agi_port(self) -> int | None:
        """The port on which the dialplan may ask, None if it may not."""
        return self._fast_agi.port if self._fast_agi is not None else None

    async def run(self, stop: asyncio.Event) -> None:
        """Bridge until `stop` is set; then let go of Asterisk and deliver what is left, for a while.

        Raises `ZammadError`, `CannotListenError` or `OutboxError` for what no retry can mend, such as a CA file that
        cannot be read, a port that is in use, or an outbox that another bridge has.
        """
        async with contextlib.AsyncExitStack() as servers:
            await servers.enter_async_context(self._zammad)
            self._resume(await servers.enter_async_context(self._outbox.opened()))
            listening = await servers.enter_async_context(contextlib.AsyncExitStack())
            await _listen(listening, self._fast_agi, "control.listen")
            await _listen(listening, self._ops, "ops.listen")
            await self._run(stop, listening)

    async def _run(self, stop: asyncio.Event, listening: contextlib.AsyncExitStack) -> None:
        async with asyncio.TaskGroup() as group:
            outbox = group.create_task(self._outbox.run(), name="outbox")
            tracking = group.create_task(self._listener.run(), name="tracking")
            following = group.create_task(self._follower.run(), name="ami")
            watching = [
                group.create_task(self._end_what_nobody_sees(), name="unobserved"),
                group.create_task(self._ask_again(), name="snapshot"),
            ]
            notifying = group.create_task(self.notifier.run(self._state), name="notify")
            self._log.info("bridge.started")
            await stop.wait()
            self.notifier.stopping()
            await cancelled(notifying)
            self._log.info("bridge.stopping", waiting=self._outbox.waiting, live_calls=self._tracker.live_calls)
            # First those whom calls wait for: they go on without an answer.
            await listening.aclose()
            await self._control.close()
            for task in (*watching, following, tracking):
                await cancelled(task)
            left = await self._outbox.drain(self._settings.outbox.shutdown_timeout)
            await cancelled(outbox)
        self._log.info("bridge.stopped", undelivered=len(left))

    def _failed(self, event: CallEvent, reason: str, refused: bool) -> None:  # noqa: FBT001
        self._activity.attempt_failed(event.call_id, kind_of(event), reason, refused=refused)
        self._control.failed(event, reason)
        if not refused:
            self._outbox.set_back(event, reason, alone=not self._zammad.trouble)

    def _resume(self, documents: Mapping[str, str]) -> None:
        """Go on with the calls that were live when the bridge ended."""
        for call_id, document in documents.items():
            try:
                self._tell(self._tracker.resume(document, self._clock()))
            except UnreadableDocumentError as error:
                self._log.error("calls.unreadable", call_id=call_id, problem=str(error))
                self._outbox.remember({call_id: None})
        if documents:
            self._log.info("calls.resumed", live_calls=self._tracker.live_calls)

    def _resume_late(self, documents: Mapping[str, str]) -> None:
        """Go on with calls of an outbox that could not be read before; the PBX must say again which of them live."""
        self._resume(documents)
        self._look_again.set()

    async def reload(self, settings: Settings) -> list[str]:
        """Use other settings from now on, as far as that can be done while calls are up.

        These are the agents and all of `zammad`. Returns the names of other sections that differ from those of the
        start: they need a restart.
        Raises `ZammadError` if the endpoint cannot be used; then nothing changes.
        """
        await self._zammad.use(zammad_endpoint(settings))
        self._tracker.use(directory_of(settings))
        self._zammad_address = zammad_endpoint(settings).public_url.partition("/api/v1/cti/")[0]
        # What was a secret stays one.
        self._secrets.update(settings.secrets())
        self._redaction = Redaction(self._secrets)
        return [
            name
            for name in type(settings).model_fields
            if name not in RELOADED and getattr(settings, name) != getattr(self._settings, name)
        ]

    def _replied(self, event: CallEvent, decision: Decision) -> None:
        self._activity.delivered(event.call_id, kind_of(event), self._clock() - event.at)
        self._control.replied(event, decision)

    def _tell(self, events: list[CallEvent]) -> None:
        if self._settings.outbox.path is not None:
            self._outbox.remember(self._tracker.changes_with(events))
        else:
            self._tracker.forget_changes()
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
        self.notifier.changed()
        snapshot = await session.snapshot()
        self._unobserved_since = None
        self._log.info("ami.snapshot", channels=len(snapshot.channels))

    async def _disconnected(self, reason: AsteriskError) -> None:
        """Keep all calls: Asterisk goes on with them, and the next snapshot tells which have ended."""
        # A session that gave no list of channels has observed nothing.
        if self._unobserved_since is None:
            self._unobserved_since = self._clock()
        self._log.info("calls.unobserved", reason=reason.code, live_calls=self._tracker.live_calls)

    async def _ask_again(self) -> None:
        """List all channels once more, whenever calls turn up of which it is not known whether they are still live."""
        while True:
            await self._look_again.wait()
            self._look_again.clear()
            session = self._follower.session
            # Without one, the next begins with a list.
            if session is not None:
                with contextlib.suppress(AsteriskError):
                    await session.snapshot()

    async def _end_what_nobody_sees(self) -> None:
        """End the entries of all calls when Asterisk has been away for too long: none may stay open for ever."""
        while True:
            await self._sleep(_LOOK_AROUND_EVERY)
            since, limit = self._unobserved_since, self._settings.calls.unobserved_limit
            if since is not None and self._clock() - since >= limit and self._tracker.live_calls:
                self._log.warning("calls.given_up", live_calls=self._tracker.live_calls, seconds=limit)
                self._tell(self._tracker.give_up(self._clock()))

    def _without_secrets(self, text: str) -> str:
        return self._redaction.text(text)

    def _state(self) -> BridgeState:
        """Say how everything is, for operators."""
        follower, intake, zammad, outbox = self._follower, self._intake, self._zammad, self._outbox
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
            outbox=OutboxState(
                durable=outbox.durable,
                waiting=outbox.waiting,
                oldest_age=outbox.oldest_age if outbox.waiting else None,
                dead_letters=outbox.dead_letters,
                problem=Problem(f"events are in memory only: {outbox.problem}", _OUTBOX_REMEDY)
                if outbox.problem
                else None,
            ),
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
    settings: Settings,
    control: CallControl,
    state: Callable[[], BridgeState],
    activity: Activity,
    clean: Callable[[str], str],
) -> OpsServer | None:
    if not settings.ops.listen:
        return None
    # Pages, metrics and an HTTP server take a while to load, and few bridges have all three.
    from .ops.http import OpsServer  # noqa: PLC0415
    from .ops.pages import Pages  # noqa: PLC0415

    pages = Pages(state, activity, clean=clean)
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


async def serve(settings: Settings, reread: Callable[[], Settings] | None = None) -> Outcome:
    """Run the daemon until SIGTERM or SIGINT; say in the log why it ended otherwise.

    At SIGHUP it goes on with what `reread` gives.
    """
    log = structlog.get_logger()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (unix_signal.SIGTERM, unix_signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    bridge = Bridge(settings)
    hangups = asyncio.Event()
    reloading = asyncio.create_task(_reload_at(hangups, bridge, settings, reread or (lambda: settings)))
    loop.add_signal_handler(unix_signal.SIGHUP, hangups.set)
    try:
        await bridge.run(stop)
    except (ZammadError, CannotListenError, OutboxError) as error:
        log.critical("bridge.failed", problem=str(error), remedy="correct the settings; `ami2zammad check` helps")
        return Outcome.UNUSABLE
    except Exception:
        log.critical("bridge.failed", problem="a fault of ami2zammad", remedy="please report it", exc_info=True)
        return Outcome.FAILED
    finally:
        await cancelled(reloading)
    return Outcome.STOPPED


async def _reload_at(
    hangups: asyncio.Event, bridge: Bridge, settings: Settings, reread: Callable[[], Settings]
) -> NoReturn:
    """Read the settings again at each SIGHUP, and use what can be used without a restart."""
    log = structlog.get_logger()
    secrets, log_settings = set(settings.secrets()), settings.log
    while True:
        await hangups.wait()
        hangups.clear()
        bridge.notifier.reloading()
        try:
            new = await asyncio.to_thread(reread)
            # What was a secret stays one.
            secrets |= set(new.secrets())
            configure_logging(level=log_settings.level, form=log_settings.format, secrets=secrets)
            restart_needed = await bridge.reload(new)
            log_settings = new.log
            configure_logging(level=log_settings.level, form=log_settings.format, secrets=secrets)
        except ConfigurationError as error:
            log.error("bridge.reload_failed", problems=list(error.problems), remedy="nothing was changed; correct them")  # noqa: TRY400
        except ZammadError as error:
            log.error("bridge.reload_failed", problems=[str(error)], remedy="nothing was changed; correct it")  # noqa: TRY400
        except Exception:
            log.exception("bridge.reload_failed", problems=["a fault of ami2zammad"], remedy="please report it")
        else:
            log.info("bridge.reloaded", agents=len(new.agents), restart_needed=restart_needed)
        finally:
            bridge.notifier.reloaded()
