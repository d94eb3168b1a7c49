"""The hall: builds the parts, runs them in one TaskGroup, stops them in order.

Data goes one way: Asterisk's signals into the tracker, the tracker's events into the outbox, the outbox to
Zammad. Nothing here waits for Zammad while it listens to Asterisk.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Final

import structlog
from structlog.typing import FilteringBoundLogger

from ami2zammad.calls.decisions import Decision

from . import memory
from .asterisk.connection import AmiSession
from .asterisk.errors import AsteriskError
from .asterisk.fastagi import FastAgiServer
from .asterisk.intake import EventIntake
from .asterisk.reconnect import AmiFollower
from .calls.documents import UnreadableDocumentError
from .calls.entry import LogEntry
from .calls.events import Answer, CallEvent, Hangup, NewCall
from .calls.signalling import ChannelGone, DialRequested, Signal
from .calls.tracker import CallTracker
from .control.control import CallControl, DialRefusedError
from .control.screening import Screening
from .listener import Listener, cancelled
from .logs import Redaction
from .ops.activity import Activity
from .ops.notify import Notifier
from .ops.state import AsteriskState, BridgeState, CallState, OutboxState, Problem, Stage, ZammadState
from .outbox import Outbox
from .rules import ami_endpoint, control_rules, directory_of, outbox_rules, tracker_rules, zammad_endpoint
from .settings import RELOADED, Settings
from .zammad.client import ZammadClient
from .zammad.errors import EventRefused

if TYPE_CHECKING:
    from .ops.http import OpsServer

# Seconds between two looks whether Asterisk has been away for too long, and whether a peak is over.
_LOOK_AROUND_EVERY: Final = 15.0
_OUTBOX_REMEDY: Final = "Make outbox.path a file that can be written; the bridge keeps trying."

Clock = Callable[[], float]


class CannotListenError(Exception):
    """An address of the settings cannot be listened on; the text names the setting."""


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
        self._peak = memory.Peak()
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
                group.create_task(self._give_memory_back(), name="memory"),
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
        self._activity.attempt_failed(event.call_id, event.kind, reason, refused=refused)
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
        self._activity.delivered(event.call_id, event.kind, self._clock() - event.at)
        self._control.replied(event, decision)

    def _tell(self, events: list[CallEvent]) -> None:
        try:
            if self._settings.outbox.path is not None:
                self._outbox.remember(self._tracker.changes_with(events))
            else:
                self._tracker.forget_changes()
        except Exception:  # noqa: BLE001
            # What a restart would need is less than what Zammad must be told now.
            self._log.exception("call.fault")
        for event in events:
            try:
                self._take(event)
            except Exception:  # noqa: BLE001
                # A fault of ours in one call must not end all others.
                self._log.exception("call.fault", call_id=event.call_id)
        if events:
            # Later: the events are on their way to Zammad by then, whatever becomes of the lines.
            asyncio.get_running_loop().call_soon(self._log_events, events)

    def _take(self, event: CallEvent) -> None:
        self._control.told(event)
        call = event if isinstance(event, NewCall) else event.call
        self._outbox.put(event, family=call.first_call_id)
        if isinstance(event, Hangup):
            self._activity.call_ended(event.call.direction.value, event.cause.value)

    def _log_events(self, events: list[CallEvent]) -> None:
        for event in events:
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
        self._zammad.prepare()
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

    async def _give_memory_back(self) -> None:
        """Whenever a peak of calls, or an outage of Zammad, is over: others on the machine may need it."""
        while True:
            await self._sleep(_LOOK_AROUND_EVERY)
            if self._peak.is_over(self._tracker.live_calls + self._outbox.waiting, self._clock()):
                self._tracker.compact(self._clock())
                self._outbox.compact()
                memory.give_back()
                self._log.debug("bridge.memory_given_back")

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
