"""Delivers events to Zammad, however long that takes, and says what Zammad replied."""

from __future__ import annotations

import asyncio
import dataclasses
import random
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

import structlog

from ami2zammad.calls.decisions import Decision
from ami2zammad.calls.events import CallEvent, NewCall
from ami2zammad.zammad._circuit import CONFIGURATION_PAUSE, Circuit, Sleep, back_off
from ami2zammad.zammad._doubt import Doubt, Tally
from ami2zammad.zammad._late import LateTransport
from ami2zammad.zammad.endpoint import ZammadEndpoint
from ami2zammad.zammad.errors import EventRefused
from ami2zammad.zammad.payloads import Fields, fields_of
from ami2zammad.zammad.replies import Answered, Judgement, Outcome, Verdict, judge, judge_check

if TYPE_CHECKING:
    from tenacity import AsyncRetrying


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What a connection check found. `problem` and `remedy` are sentences for people, empty if `ok`."""

    ok: bool
    url: str
    """The checked address, without the token."""
    status: int = 0
    """HTTP status of the reply, 0 if there was none."""
    problem: str = ""
    remedy: str = ""


class _Exchange(Protocol):
    """What the client needs of its transport."""

    async def post(self, fields: Fields) -> Outcome: ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


@dataclass(slots=True)
class _Delivery:
    """How far the delivery of one event has come."""

    event: CallEvent
    attempts: int = 0
    inner_faults: int = 0
    doubt: Doubt | None = None
    """Whether the event is itself the cause, from its first failure on."""
    row_known: bool = False
    """Whether Zammad is known to have the entry that this event belongs to."""
    pause: float = 0.0
    """Seconds until the next attempt, apart from what the circuit demands."""


class ZammadClient:
    """The CTI endpoint of one Zammad; an async context manager that may be shared by many tasks.

    `connections` bounds requests at a time. `sleep` and `rng` (jitter), and `transport` in place of HTTP, are there
    for tests. `on_failure(event, reason, refused)` is called after each attempt that failed; it is
    repeated unless `refused`. Entering raises `BadEndpoint` if the CA file cannot be read.
    """

    def __init__(
        self,
        endpoint: ZammadEndpoint,
        *,
        connections: int = 8,
        sleep: Sleep = asyncio.sleep,
        rng: random.Random | None = None,
        transport: _Exchange | None = None,
        on_failure: Callable[[CallEvent, str, bool], None] | None = None,
    ) -> None:
        self._endpoint = endpoint
        self._connections = connections
        self._on_failure = on_failure
        self._transport: _Exchange = transport or LateTransport(endpoint, connections=connections)
        # Requests wait here and not for a connection, where the time-out would already run.
        self._slots = asyncio.Semaphore(connections)
        self._sleep = sleep
        self._rng = rng or random.Random()  # noqa: S311 - jitter is no secret
        self._circuit = Circuit(sleep=sleep, rng=self._rng)
        self._log = structlog.get_logger()
        self._tally = Tally()

    async def __aenter__(self) -> Self:
        await self._transport.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._transport.__aexit__(kind, error, trace)

    async def use(self, endpoint: ZammadEndpoint) -> None:
        """Deliver to another endpoint from now on; what was under way to the old one is tried again there.

        Raises `BadEndpoint` if its CA file cannot be read; then nothing changes.
        """
        transport = LateTransport(endpoint, connections=self._connections)
        await transport.__aenter__()
        old, self._transport, self._endpoint = self._transport, transport, endpoint
        # What failed at the old one says nothing about the new one.
        self._tally = Tally()
        self._circuit.nudge()
        await old.__aexit__(None, None, None)

    @property
    def trouble(self) -> str:
        """Why nothing goes through at the moment, in one sentence; empty while all is well."""
        fault = self._circuit.fault
        return fault.reason if fault else ""

    @property
    def remedy(self) -> str:
        """What to do about `trouble`, in one sentence; empty where there is nothing to do."""
        fault = self._circuit.fault
        return fault.remedy if fault else ""

    async def deliver(self, event: CallEvent) -> Decision:
        """Deliver `event`, trying until Zammad has it, and return what Zammad wants done about the call.

        Delivering the same event twice is harmless. Raises `EventRefused` if Zammad will never take this event,
        and nothing else: no outage and no wrong setting ends the attempts.
        """
        delivery = _Delivery(event)

        judgement = await self._attempt(delivery)
        if _unfinished(judgement):
            await self._sleep(delivery.pause)
            judgement = await self._retrying(delivery)(self._attempt, delivery)
        about = {"call_id": event.call_id, "kind": event.kind, "status": judgement.status}
        if judgement.verdict is Verdict.REFUSED:
            self._log.warning("zammad.refused", **about, reason=judgement.reason, attempts=delivery.attempts)
            if self._on_failure is not None:
                self._on_failure(event, judgement.reason, True)
            raise EventRefused(
                f"Zammad will not take the {event.kind} of call {event.call_id}. {judgement.reason}",
                reason=judgement.reason,
                status=judgement.status,
            )
        self._tally.accepted += 1
        self._tally.accepted_at_once += delivery.doubt is None
        self._log.info("zammad.delivered", **about, attempts=delivery.attempts, duplicate=judgement.duplicate)
        if judgement.ignored:
            self._log.warning("zammad.reply_ignored", **about, reply=judgement.ignored)
        return judgement.reply

    @staticmethod
    def prepare() -> None:
        """Load what deliveries need: not before the login at Asterisk, nor when a call is waiting for it.

        Blocks for a tenth of a second.
        """
        import tenacity  # noqa: F401, PLC0415

        import ami2zammad.zammad._transport  # noqa: F401, PLC0415

    def _retrying(self, delivery: _Delivery) -> AsyncRetrying:
        """Return what tries until `delivery` has come to its end, with the pauses that it has set."""
        # Not before the first failure: nearly all events go through at once, and should not pay for it.
        from tenacity import AsyncRetrying, retry_if_result, stop_never  # noqa: PLC0415

        return AsyncRetrying(
            retry=retry_if_result(_unfinished), wait=lambda _: delivery.pause, stop=stop_never, sleep=self._sleep
        )

    async def check(self) -> CheckResult:
        """Ask Zammad once, without a trace in its caller log, whether events would go through.

        Sends a newCall with a wrong direction: Zammad answers 422 to that only after address, token and configuration
        were found right. Never raises for what it finds; the state that deliveries share is not touched.
        """
        fields: Fields = {
            "event": "newCall",
            "callId": "ami2zammad-check",
            "direction": "check",
            "from": "anonymous",
            "to": "check",
        }
        judgement = await self._exchange(fields, judge_check)
        if judgement.verdict is Verdict.DELIVERED:
            return CheckResult(ok=True, url=self._endpoint.public_url, status=judgement.status)
        return CheckResult(
            ok=False,
            url=self._endpoint.public_url,
            status=judgement.status,
            problem=judgement.reason,
            remedy=judgement.remedy,
        )

    async def _attempt(self, delivery: _Delivery) -> Judgement:
        """Try once to bring `delivery` to its end; if that fails, set its pause."""
        judgement = await self._send(delivery)
        if judgement.verdict is Verdict.INNER_FAULT:
            judgement = await self._after_inner_fault(delivery, judgement)
        if judgement.verdict not in {Verdict.DELIVERED, Verdict.REFUSED}:
            judgement = self._after_failure(delivery, judgement)
        return judgement

    async def _after_inner_fault(self, delivery: _Delivery, judgement: Judgement) -> Judgement:
        """Return what became of an event that made Zammad fail, after trying what may help at once.

        Zammad answers 500 to an answer or hangup of an entry that it does not have, and to any other fault
        inside. Sending the newCall again tells the two apart, and makes the entry if it was missing. What the
        reply to this newCall wants is not acted on: it is too late for that.
        """
        event = delivery.event
        if isinstance(event, NewCall) or delivery.row_known:
            return judgement
        entry = await self._post(event.call)
        if entry.verdict is not Verdict.DELIVERED:
            return entry
        delivery.row_known = True
        if entry.duplicate:
            return judgement
        self._log.info("zammad.entry_restored", call_id=event.call_id, kind=event.kind)
        return await self._send(delivery)

    def _after_failure(self, delivery: _Delivery, judgement: Judgement) -> Judgement:
        """Count a failure; return it, or a refusal if it is clear by now that the event itself is the cause."""
        delivery.pause = 0.0
        first = False
        if judgement.verdict in {Verdict.INNER_FAULT, Verdict.MISCONFIGURED}:
            doubt = delivery.doubt
            if doubt is None or doubt.tally is not self._tally:
                doubt = delivery.doubt = Doubt(self._tally)
            others_go_through = doubt.failed()
            if doubt.is_certain:
                return _given_up(judgement, doubt.failures)
            if judgement.verdict is Verdict.INNER_FAULT or others_go_through:
                delivery.pause = back_off(doubt.failures, self._rng)
                doubt.waited += delivery.pause
            if judgement.verdict is Verdict.INNER_FAULT:
                delivery.inner_faults += 1
                first = delivery.inner_faults == 1
            else:
                # The circuit waits on top, and all others with it: that is not to be repeated too often.
                doubt.waited += CONFIGURATION_PAUSE
        if self._on_failure is not None:
            self._on_failure(delivery.event, judgement.reason, False)
        log = self._log.bind(call_id=delivery.event.call_id, kind=delivery.event.kind)
        fields = {
            "attempts": delivery.attempts,
            "status": judgement.status,
            "reason": judgement.reason,
            "pause": round(delivery.pause, 3),
        }
        # Outages and wrong settings concern all calls: the circuit has said so, once.
        if first:
            log.warning("zammad.retry", **fields)
        else:
            log.debug("zammad.retry", **fields)
        return judgement

    async def _send(self, delivery: _Delivery) -> Judgement:
        delivery.attempts += 1
        return await self._post(delivery.event)

    async def _post(self, event: CallEvent) -> Judgement:
        """Send `event` once, as soon as the circuit lets it through."""
        fields = fields_of(event, queue_as_to=self._endpoint.queue_as_to)

        async def attempt() -> Judgement:
            return await self._exchange(fields, lambda outcome: judge(event, outcome))

        return await self._circuit.send(attempt)

    async def _exchange(self, fields: Fields, read: Callable[[Outcome], Judgement]) -> Judgement:
        """Send `fields` once; what is returned is free of secrets: nothing else of a reply gets out of here."""
        async with self._slots:
            # Another endpoint may be in use when the reply comes.
            endpoint = self._endpoint
            outcome = await self._transport.post(fields)
        if isinstance(outcome, Answered) and outcome.location:
            outcome = dataclasses.replace(outcome, location=endpoint.hide_location(outcome.location))
        judgement = read(outcome)
        if not judgement.reason and not judgement.ignored:
            return judgement
        return dataclasses.replace(
            judgement,
            reason=endpoint.hide(judgement.reason),
            ignored=endpoint.hide(judgement.ignored),
        )


def _unfinished(judgement: Judgement) -> bool:
    return judgement.verdict not in {Verdict.DELIVERED, Verdict.REFUSED}


def _given_up(judgement: Judgement, failures: int) -> Judgement:
    return dataclasses.replace(
        judgement,
        verdict=Verdict.REFUSED,
        reason=f"Tried {failures} times, while others went through. {judgement.reason}",
    )
