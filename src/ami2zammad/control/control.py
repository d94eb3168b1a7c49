"""The control of calls: who asks, what Zammad decides, and what is done about it.

A call asks in one of three ways, and each is a newCall that Zammad gets anyway, never a second one:

- it does not ask: the reply to its newCall may reject it while it rings;
- its dialplan asks first (FastAGI) and waits for `Verdict`;
- its dialplan hands it over (`UserEvent(ZammadDial)`), or somebody clicked: the bridge dials, with what Zammad decides.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

import structlog

from ami2zammad.asterisk import actions
from ami2zammad.asterisk.connection import AmiSession
from ami2zammad.asterisk.errors import ActionRefused, AsteriskError
from ami2zammad.calls.decisions import Decision, Dial, Nothing, Reject
from ami2zammad.calls.events import CallEvent, Cause, Hangup, NewCall
from ami2zammad.calls.signalling import DialRequested
from ami2zammad.calls.tracker import CallTracker

from .numbers import EmergencyNumbers, safe_number

BUSY: Final = 17
"""User busy (Q.850): the caller gets SIP 486."""
_NORMAL: Final = 16
# What the agent's phone is told of the far side's fate.
_CAUSES: Final = {Cause.BUSY: 17, Cause.NO_ANSWER: 19, Cause.NOT_FOUND: 1, Cause.CONGESTION: 34}
# How long the far side, and before that a clicking agent's phone, may ring.
_RING_SECONDS: Final = 60.0
# Dialplans that hand over more calls at once than this are in a loop.
_MOST_DIALLED: Final = 1000


class Status(StrEnum):
    """How asking went; what the dialplan sees in ZAMMAD_STATUS."""

    OK = "ok"
    TIMEOUT = "timeout"
    """Zammad did not answer in time."""
    UNAVAILABLE = "unavailable"
    """Zammad cannot be reached or refuses."""
    EMERGENCY = "emergency"
    """Not asked: the call must go through at once."""
    UNKNOWN = "unknown"
    """Nothing to ask: the bridge does not know the channel, or the call is internal."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a call that asked has to do."""

    status: Status
    decision: Decision = Nothing()  # noqa: RUF009 - frozen and without state
    dialled: str = ""
    """The number that is called, as Zammad was told it."""


@dataclass(frozen=True, slots=True)
class ControlRules:
    """The settings `control.*`; times in seconds."""

    reject: bool = False
    decision_timeout: float = 3.0
    originate: bool = False
    originate_channel: str = "PJSIP/{number}@trunk"
    agent_channel: str = "PJSIP/{extension}"
    caller_name: str = ""
    emergency: EmergencyNumbers = EmergencyNumbers()  # noqa: RUF009 - frozen and without state


class DialRefusedError(Exception):
    """A click to dial cannot be carried out; the text says why, and what to change."""


class CallControl:
    """Brings Zammad's decisions to live calls.

    `tell` hands events on to the outbox, `session` returns the AMI session that stands or None, `trouble` why Zammad
    cannot be reached at the moment (empty: it can), `clock` is that of the signals. `count` is told in one word what
    became of asking about a call.
    """

    def __init__(
        self,
        rules: ControlRules,
        tracker: CallTracker,
        *,
        tell: Callable[[list[CallEvent]], None],
        session: Callable[[], AmiSession | None],
        trouble: Callable[[], str],
        clock: Callable[[], float],
        count: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._rules = rules
        self._tracker = tracker
        self._tell = tell
        self._session = session
        self._trouble = trouble
        self._clock = clock
        self._count = count
        self._log = structlog.get_logger()
        # What each announced entry's newCall was answered, as long as the entry lives.
        self._decisions: dict[str, asyncio.Future[Verdict]] = {}
        self._asking: set[str] = set()
        # Legs that the bridge dialled, by the channel that waits for them: none is ever dialled twice.
        self._dialled: dict[str, str] = {}
        self._changed = asyncio.Condition()
        self._tasks: set[asyncio.Task[None]] = set()

    # -- what the bridge reports ----------------------------------------------------------------------------

    def told(self, event: CallEvent) -> None:
        """Take note of what goes to Zammad."""
        if isinstance(event, NewCall):
            self._decisions[event.call_id] = asyncio.get_running_loop().create_future()
        elif isinstance(event, Hangup):
            decision = self._decisions.pop(event.call_id, None)
            if decision is not None:
                decision.cancel()

    def channel_gone(self, uniqueid: str) -> None:
        """Call the far side off when the channel for which the bridge dials is gone."""
        leg = self._dialled.get(uniqueid)
        if leg:
            self._spawn(self._end_leg(leg))

    def replied(self, event: CallEvent, decision: Decision) -> None:
        """Take in Zammad's reply to a delivered event."""
        if not isinstance(event, NewCall):
            return
        self._decide(event.call_id, Verdict(Status.OK, decision))
        if not isinstance(decision, Reject) or not self._rules.reject or event.call_id in self._asking:
            return
        seconds = self._clock() - event.at
        if seconds > self._rules.decision_timeout:
            self._count("late")
            self._log.warning("control.late", call_id=event.call_id, decision="reject", seconds=round(seconds, 3))
            return
        channel = self._tracker.refuse(event)
        if channel:
            self._spawn(self._reject(channel, event.call_id))
        else:
            self._count("too_late")
            self._log.info("control.too_late", call_id=event.call_id, decision="reject")

    def failed(self, event: CallEvent, reason: str) -> None:
        """Let go who waits for the reply to `event`: an attempt failed, and the next will come too late.

        Where nothing goes through any more, that is everybody who waits: their requests are held back.
        """
        for call_id in list(self._asking):
            if call_id == event.call_id or self._trouble():
                self._count("unavailable")
                self._log.info("control.unavailable", call_id=call_id, reason=reason)
                self._decide(call_id, Verdict(Status.UNAVAILABLE))

    async def signals_taken_in(self) -> None:
        """Wake up who waits for a channel to become known."""
        async with self._changed:
            self._changed.notify_all()

    def dial_requested(self, signal: DialRequested) -> None:
        """Dial for a dialplan that has handed its call over."""
        if not self._rules.originate:
            return
        if signal.uniqueid in self._dialled or len(self._dialled) >= _MOST_DIALLED:
            self._log.warning("control.dial_ignored", channel=self._tracker.channel_name(signal.uniqueid))
            return
        self._dialled[signal.uniqueid] = ""
        self._spawn(self._dial_for(signal))

    async def close(self) -> None:
        """Stop whatever is under way; the calls go on."""
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(list(self._tasks))

    # -- asking first ---------------------------------------------------------------------------------------

    async def screen(self, uniqueid: str, *, number: str, queue: str = "", user: str = "", to: str = "") -> Verdict:
        """Ask Zammad about the call of the channel `uniqueid`, for `decision_timeout` seconds at most."""
        if number in self._rules.emergency or to in self._rules.emergency:
            self._count("emergency")
            self._log.info("control.emergency", number=to or number)
            return Verdict(Status.EMERGENCY)
        deadline = self._clock() + self._rules.decision_timeout
        if self._session() is None and not self._tracker.knows(uniqueid):
            # Nobody will tell of that channel.
            self._count("unavailable")
            return Verdict(Status.UNAVAILABLE)
        if not await self._becomes_known(uniqueid):
            self._log.warning("control.channel_unknown", uniqueid=uniqueid)
            return Verdict(Status.UNKNOWN)
        return (await self._ask(uniqueid, deadline, number=number, queue=queue, user=user, to=to))[1]

    async def _ask(
        self, uniqueid: str, deadline: float, *, number: str = "", queue: str = "", user: str = "", to: str = ""
    ) -> tuple[NewCall | None, Verdict]:
        events, new_call = self._tracker.ask_first(
            uniqueid, self._clock(), number=number, queue=queue, user=user, to=to
        )
        if new_call is None:
            return None, Verdict(Status.UNKNOWN)
        return new_call, await self._verdict(new_call, events, deadline)

    async def _verdict(self, new_call: NewCall, events: list[CallEvent], deadline: float) -> Verdict:
        """Tell `events` and wait for the reply to `new_call` until `deadline`."""
        self._asking.add(new_call.call_id)
        try:
            self._tell(events)
            reply = self._decisions.get(new_call.call_id)
            trouble = self._trouble()
            if reply is None or (trouble and not reply.done()):
                self._count("unavailable")
                self._log.info("control.unavailable", call_id=new_call.call_id, reason=trouble)
                return Verdict(Status.UNAVAILABLE)
            seconds = max(deadline - self._clock(), 0)
            # Not wait_for: the reply is everybody's, and is cancelled when the call ends.
            await asyncio.wait([reply], timeout=seconds)
        finally:
            self._asking.discard(new_call.call_id)
        if not reply.done():
            self._count("timeout")
            self._log.warning("control.timeout", call_id=new_call.call_id, seconds=self._rules.decision_timeout)
            return Verdict(Status.TIMEOUT)
        return Verdict(Status.UNKNOWN) if reply.cancelled() else self._checked(reply.result(), new_call)

    def _checked(self, verdict: Verdict, new_call: NewCall) -> Verdict:
        """Return `verdict` with nothing in it that must not come near a channel."""
        decision = verdict.decision
        if isinstance(decision, Dial) and not (safe_number(decision.caller_id) and safe_number(decision.number)):
            self._log.warning("control.number_refused", call_id=new_call.call_id)
            return Verdict(Status.OK)
        if isinstance(decision, Reject) and not self._tracker.refuse(new_call):
            self._count("too_late")
            self._log.info("control.too_late", call_id=new_call.call_id, decision="reject")
            return Verdict(Status.OK)
        word = type(decision).__name__.lower()
        if verdict.status is Status.OK:
            self._count(word)
        self._log.info("control.decided", call_id=new_call.call_id, decision=word)
        return replace(verdict, dialled=new_call.to_number)

    async def _becomes_known(self, uniqueid: str) -> bool:
        """Wait until the channel's creation has come by AMI: the dialplan can be faster than that."""
        return await self._until(lambda: self._tracker.knows(uniqueid))

    async def _until(self, condition: Callable[[], bool]) -> bool:
        """Wait for something that signals bring, for `decision_timeout` seconds at most; say whether it is so."""
        try:
            async with asyncio.timeout(self._rules.decision_timeout), self._changed:
                await self._changed.wait_for(condition)
        except TimeoutError:
            return False
        return True

    def _decide(self, call_id: str, verdict: Verdict) -> None:
        reply = self._decisions.get(call_id)
        if reply is not None and not reply.done():
            reply.set_result(verdict)

    # -- acting ---------------------------------------------------------------------------------------------

    async def _reject(self, channel: str, call_id: str) -> None:
        self._count("rejected")
        self._log.info("control.rejected", call_id=call_id, channel=channel)
        await self._hang_up(channel, BUSY, call_id)

    async def _hang_up(self, channel: str, cause: int, call_id: str) -> None:
        session = self._session()
        try:
            if session is not None:
                await session.send(actions.hangup(channel, cause))
        except AsteriskError as error:
            self._count("failed")
            self._log.warning("control.failed", call_id=call_id, problem=error.problem)

    async def _end_leg(self, leg: str) -> None:
        """Call the far side off: who waited for it has gone, and Asterisk alone would ring it until its time is over.

        By Uniqueid, which Hangup takes as well as a name (measured on 16 and 22): the leg may be too young to be known.
        """
        self._log.info("control.called_off", channel=leg)
        await self._hang_up(leg, _NORMAL, leg)

    async def _dial_for(self, signal: DialRequested) -> None:
        """Ask, then dial the outside leg for the channel that waits, with the caller ID that Zammad wants."""
        try:
            deadline = self._clock() + self._rules.decision_timeout
            if not safe_number(signal.number) or not await self._becomes_known(signal.uniqueid):
                self._log.warning("control.dial_refused", uniqueid=signal.uniqueid)
                return
            if signal.number in self._rules.emergency:
                events, new_call = self._tracker.ask_first(signal.uniqueid, self._clock(), to=signal.number)
                self._count("emergency")
                self._tell(events)
                verdict = Verdict(Status.EMERGENCY)
            else:
                new_call, verdict = await self._ask(signal.uniqueid, deadline, to=signal.number)
            waiting = self._tracker.channel_name(signal.uniqueid)
            if new_call is None or not waiting:
                return
            number, caller_id = self._numbers(new_call, verdict, signal.number)
            leg = f"ami2zammad-{signal.uniqueid}"
            self._dialled[signal.uniqueid] = leg
            self._tracker.expect(signal.uniqueid, leg)
            await self._originate(new_call, waiting, leg, number, caller_id)
        finally:
            del self._dialled[signal.uniqueid]

    def _numbers(self, new_call: NewCall, verdict: Verdict, dialled: str) -> tuple[str, str]:
        """Return the number to dial and the caller ID to show."""
        decision = verdict.decision
        if not isinstance(decision, Dial):
            return dialled, safe_number(new_call.from_number)
        number = dialled if decision.number.removeprefix("+") == new_call.to_number else decision.number
        return number, decision.caller_id

    async def _originate(self, new_call: NewCall, waiting: str, leg: str, number: str, caller_id: str) -> None:
        session = self._session()
        if session is None:
            return
        self._log.info("control.dialling", call_id=new_call.call_id, channel=waiting)
        try:
            # From here on the dialplan does not dial by itself; said first, so that nobody is called twice.
            await session.send(actions.setvar(waiting, "ZAMMAD_TAKEN", "1"))
            dialling = await session.originate(
                actions.originate(
                    channel=self._rules.originate_channel.format(number=number),
                    application="Bridge",
                    # x: when the far side hangs up, who waited is hung up at once, too.
                    data=f"{waiting},x",
                    caller_id=_caller(self._rules.caller_name, caller_id),
                    channel_id=leg,
                    timeout=_RING_SECONDS,
                )
            )
            if (await dialling.outcome()).answered:
                return
        except ActionRefused as error:
            self._count("failed")
            self._log.warning("control.failed", call_id=new_call.call_id, problem=error.problem)
        except AsteriskError as error:
            # Asterisk may well be dialling: it goes on without us, and nothing is sent a second time.
            self._count("failed")
            self._log.warning("control.failed", call_id=new_call.call_id, problem=error.problem)
            return
        # The far side has not taken the call: who waits is told so, in the far side's words.
        await self._until(lambda: not self._tracker.knows(leg))
        # With the entry still open somebody waits.
        if new_call.call_id in self._decisions:
            outcome = self._tracker.outcome(new_call) or Cause.CONGESTION
            await self._hang_up(waiting, _CAUSES[outcome], new_call.call_id)

    # -- click to dial --------------------------------------------------------------------------------------

    async def dial(self, extension: str, number: str) -> str:
        """Call the agent at `extension`, then `number` with the caller ID that Zammad wants; return the callId.

        Returns as soon as the agent's phone is being called. Raises `DialRefusedError`.
        """
        session = self._session()
        if session is None:
            raise DialRefusedError("there is no connection to Asterisk at the moment")
        if not safe_number(number):
            raise DialRefusedError("number must be digits with at most one + in front, 32 at most")
        if not extension.isalnum():
            raise DialRefusedError("extension must be letters and digits")
        linkedid = f"ami2zammad-{secrets.token_hex(8)}"
        now = self._clock()
        events = self._tracker.begin_click_to_dial(linkedid, now, extension=extension, number=number)
        (new_call,) = [event for event in events if isinstance(event, NewCall)]
        try:
            if number in self._rules.emergency:
                self._count("emergency")
                self._tell(events)
                verdict = Verdict(Status.EMERGENCY)
            else:
                verdict = await self._verdict(new_call, events, now + self._rules.decision_timeout)
        except BaseException:
            # Who asked has gone: nobody is called, and the entry must not stay open.
            self._tell(self._tracker.abandon(new_call, self._clock(), Cause.CANCEL))
            raise
        number, caller_id = self._numbers(new_call, verdict, number)
        self._log.info("control.click_to_dial", call_id=new_call.call_id, extension=extension)
        originate = actions.originate(
            channel=self._rules.agent_channel.format(extension=extension),
            application="Dial",
            data=self._rules.originate_channel.format(number=number),
            caller_id=_caller(self._rules.caller_name, caller_id),
            channel_id=linkedid,
            timeout=_RING_SECONDS,
        )
        self._spawn(self._call_agent(session, new_call, originate))
        return new_call.call_id

    async def _call_agent(self, session: AmiSession, new_call: NewCall, originate: actions.OriginateRequest) -> None:
        try:
            await (await session.originate(originate)).outcome()
        except AsteriskError as error:
            self._count("failed")
            self._log.warning("control.failed", call_id=new_call.call_id, problem=error.problem)
        finally:
            # With a channel the call ends with it; without one nobody else would end the entry.
            self._tell(self._tracker.abandon(new_call, self._clock(), Cause.NOT_FOUND))

    def _spawn(self, work: Coroutine[object, object, None]) -> None:
        task = asyncio.create_task(self._guarded(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _guarded(self, work: Coroutine[object, object, None]) -> None:
        try:
            await work
        except Exception:  # noqa: BLE001
            # A fault of ours in one call must not end all others.
            self._log.exception("control.fault")


def _caller(name: str, number: str) -> str:
    return f'"{name}" <{number}>' if name else number
