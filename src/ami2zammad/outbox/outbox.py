"""The outbox: takes events from the tracker at any time, delivers them in the right order, however long it takes."""

from __future__ import annotations

import asyncio
import traceback
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import structlog

from ami2zammad.calls.events import CallEvent, NewCall
from ami2zammad.outbox._backlog import Backlog, Family

ReplyT = TypeVar("ReplyT")
ReplyT_co = TypeVar("ReplyT_co", covariant=True)

REFUSALS_KEPT = 100
"""How many refusals `Outbox.refused` remembers."""


class Deliverer(Protocol[ReplyT_co]):
    """Brings one event to its destination."""

    async def deliver(self, event: CallEvent) -> ReplyT_co:
        """Return what the other side replied, as soon as it has `event`; try until then.

        Raises an exception of the type that the outbox was told if the other side will never take this event.
        """
        ...


@dataclass(frozen=True, slots=True)
class Refusal:
    """An event that will not be delivered, and why."""

    event: CallEvent
    reason: str


class Outbox(Generic[ReplyT]):
    """Delivers events: those of one family one after the other as they were put, families side by side.

    A family is a call with all its log entries: the hangup `forwarded` of an entry must be delivered before the
    newCall of the next. `concurrency` is the number of families at a time, `limit` that of waiting events. `refusal` is
    what `deliverer` raises for an event that will never be taken. `on_reply(event, reply)` is called after each
    delivery, before the family's next.

    At the limit the oldest entries of which nothing was sent yet are dropped whole. If a newCall is refused,
    the rest of its entry is dropped too: Zammad would not know the call.
    """

    def __init__(
        self,
        deliverer: Deliverer[ReplyT],
        *,
        refusal: type[Exception],
        on_reply: Callable[[CallEvent, ReplyT], None] | None = None,
        concurrency: int = 8,
        limit: int = 100_000,
    ) -> None:
        self._deliverer = deliverer
        self._refusal = refusal
        self._on_reply = on_reply
        self._concurrency = concurrency
        self._limit = limit
        self._log = structlog.get_logger()
        self._backlog = Backlog(limit)
        # Families with something to do that nobody does yet.
        self._ready: asyncio.Queue[Family] = asyncio.Queue()
        self._idle = asyncio.Event()
        self._idle.set()
        self._running = False
        self._full = False
        self._refused: deque[Refusal] = deque(maxlen=REFUSALS_KEPT)
        self.delivered = 0
        """Events delivered since the start."""
        self.dropped = 0
        """Events given up since the start without being sent: at the limit, or because their newCall was refused."""

    @property
    def waiting(self) -> int:
        """How many events are not delivered yet, those under way included."""
        return self._backlog.waiting

    @property
    def refused(self) -> tuple[Refusal, ...]:
        """The latest refusals, the oldest first."""
        return tuple(self._refused)

    def put(self, event: CallEvent, family: str) -> None:
        """Take `event` in for delivery after all that was put for the same `family`. Never blocks.

        To be called from the loop that runs `run`, before or during it.
        """
        added = self._backlog.add(event, family)
        if added.ready is not None:
            self._ready.put_nowait(added.ready)
        self.dropped += added.overflow + added.orphans
        if added.overflow and not self._full:
            self._full = True
            self._log.error("outbox.full", limit=self._limit)
        self._note_waiting()

    async def run(self) -> None:
        """Deliver, until cancelled; what was under way then is still waiting.

        Raises `RuntimeError` if it runs already.
        """
        if self._running:
            raise RuntimeError("the outbox runs already")
        self._running = True
        try:
            async with asyncio.TaskGroup() as workers:
                for number in range(self._concurrency):
                    workers.create_task(self._work(), name=f"outbox-{number}")
        finally:
            self._running = False

    async def drain(self, timeout: float) -> tuple[CallEvent, ...]:  # noqa: ASYNC109 - time running out is a result
        """Wait until everything is delivered, for `timeout` seconds at the most; return what is left.

        `run` must go on meanwhile. The order of what is returned is that of delivery within each family.
        """
        try:
            async with asyncio.timeout(timeout):
                await self._idle.wait()
        except TimeoutError:
            self._log.warning("outbox.not_drained", waiting=self.waiting)
        return self._backlog.left()

    async def _work(self) -> None:
        while True:
            family = await self._ready.get()
            # A family is finished before the next is begun: after an outage, complete entries are worth more than many
            # that all look as if they were ringing.
            while (event := self._backlog.begin(family)) is not None:
                try:
                    await self._deliver(event, family)
                except BaseException:
                    self._backlog.suspend(family)
                    self._ready.put_nowait(family)
                    raise

    async def _deliver(self, event: CallEvent, family: Family) -> None:
        try:
            reply = await self._deliverer.deliver(event)
        except self._refusal as error:
            self._settle(family)
            self._note_refused(event, str(error), family)
        except Exception as error:  # noqa: BLE001 - a fault of ours in one call must not end all others
            self._settle(family)
            self._note_fault(event, error)
            self._note_refused(event, f"internal fault: {type(error).__name__}", family)
        else:
            self._settle(family)
            self.delivered += 1
            self._report(event, reply)

    def _settle(self, family: Family) -> None:
        self._backlog.settle(family)
        self._note_waiting()

    def _report(self, event: CallEvent, reply: ReplyT) -> None:
        if self._on_reply is None:
            return
        try:
            self._on_reply(event, reply)
        except Exception as error:  # noqa: BLE001 - as in _deliver
            self._note_fault(event, error)

    def _note_refused(self, event: CallEvent, reason: str, family: Family) -> None:
        self._refused.append(Refusal(event, reason))
        entry_lost = isinstance(event, NewCall)
        if entry_lost:
            self.dropped += self._backlog.discard_entry(event.call_id, family)
            self._note_waiting()
        self._log.warning("outbox.refused", call_id=event.call_id, reason=reason, entry_lost=entry_lost)

    def _note_fault(self, event: CallEvent, error: Exception) -> None:
        # Where it happened, but neither text nor values: what they hold is not known, and could be a secret.
        frames = traceback.extract_tb(error.__traceback__)
        where = f"{frames[-1].name}:{frames[-1].lineno}" if frames else ""
        self._log.error("outbox.fault", call_id=event.call_id, error=type(error).__name__, where=where)

    def _note_waiting(self) -> None:
        if self.waiting:
            self._idle.clear()
        else:
            self._idle.set()
        # Not as soon as there is one place again: at the limit that would be every other moment.
        if self._full and self.waiting <= self._limit // 2:
            self._full = False
            self._log.info("outbox.relieved", waiting=self.waiting, dropped=self.dropped)
