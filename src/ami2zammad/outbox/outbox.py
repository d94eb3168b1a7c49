"""The outbox: takes events from the tracker at any time, delivers them in the right order, however long it takes."""

from __future__ import annotations

import asyncio
import time
import traceback
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Generic, Protocol, TypeVar

import structlog

from ami2zammad.calls.events import CallEvent, NewCall
from ami2zammad.outbox import records
from ami2zammad.outbox._backlog import Backlog, Family, Waiting
from ami2zammad.outbox._journal import Journal, Sleep
from ami2zammad.outbox.store import Contents, Row, Store, Transaction

ReplyT = TypeVar("ReplyT")
ReplyT_co = TypeVar("ReplyT_co", covariant=True)

REFUSALS_KEPT: Final = 100
"""How many refusals `Outbox.refused` remembers."""
LATE_AFTER: Final = 10.0
"""Seconds after which a call that is over, and of which Zammad has not heard, is caught up with behind live ones."""
LATE_AT_ONCE: Final = 4
"""Calls that are over and are caught up with at a time; the other places are for live calls."""
RESTING_AT_MOST: Final = 1_000
"""Calls that Zammad fails on and that wait for their next attempt without holding a place."""
LOOK_FOR_OLD_EVERY: Final = 60.0
"""Seconds between two looks for events that are too old."""
TAKEN_IN_AT_ONCE: Final = 500
"""Events of the file that are taken in before others have their turn on the loop."""
_TOO_OLD: Final = "older than outbox.max_age"
_NO_ROOM: Final = "outbox.limit was reached"
_ENTRY_LOST: Final = "its newCall was given up"


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


@dataclass(frozen=True, slots=True)
class OutboxRules:
    """The settings `outbox.*`; times in seconds. Without a `path` everything is in memory only."""

    path: Path | None = None
    limit: int = 100_000
    max_age: float = 86400.0
    drain_rate: float = 100.0


class Outbox(Generic[ReplyT]):
    """Delivers events: those of one family one after the other as they were put, families side by side.

    A family is a call with all its log entries: the hangup `forwarded` of an entry must be delivered before the
    newCall of the next. `concurrency` is the number of families at a time. `refusal` is what `deliverer` raises for
    an event that will never be taken. `on_reply(event, reply)` is called after each delivery, before the family's
    next. `on_calls(documents)` gets the live calls that the file held if it could not be opened at first;
    `all_calls` gives all of them for a new file.

    An event is on disk before it is delivered, and leaves the disk when it was. Live calls go first; calls that were
    over before Zammad heard of them are caught up with at `drain_rate` events a second. At the limit, and when they are
    older than `max_age`, entries of which nothing was sent yet are set aside as a whole. If a newCall is refused,
    the rest of its entry is set aside too: Zammad would not know the call.

    `clock` gives seconds and never goes back, `wall` seconds since the epoch: for times that outlive the process.
    """

    def __init__(
        self,
        deliverer: Deliverer[ReplyT],
        *,
        refusal: type[Exception],
        rules: OutboxRules = OutboxRules(),
        on_reply: Callable[[CallEvent, ReplyT], None] | None = None,
        on_calls: Callable[[Mapping[str, str]], None] | None = None,
        all_calls: Callable[[], Mapping[str, str]] | None = None,
        concurrency: int = 8,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self._deliverer = deliverer
        self._refusal = refusal
        self._rules = rules
        self._on_reply = on_reply
        self._on_calls = on_calls
        self._all_calls = all_calls
        self._concurrency = concurrency
        self._clock = clock
        self._wall = wall
        self._sleep = sleep
        self._log = structlog.get_logger()
        self._backlog = Backlog(rules.limit)
        self._journal = (
            Journal(
                Store(rules.path, wall=wall),
                clock=clock,
                sleep=sleep,
                written=self._written,
                everything=self._everything,
                taken_up=self._taken_up,
                edited=self._edited,
            )
            if rules.path is not None
            else None
        )
        self._next_id = 1
        self._under_way: dict[str, Family] = {}
        self._resting: set[str] = set()
        self._late_not_before = 0.0
        self._pacer: asyncio.Task[None] | None = None
        self._work_to_do = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._running = False
        self._group: asyncio.TaskGroup | None = None
        self._full = False
        self._refused: deque[Refusal] = deque(maxlen=REFUSALS_KEPT)
        self.delivered = 0
        """Events delivered since the start."""
        self.dropped = 0
        """Events set aside since the start without being sent: too old, too many, or their newCall was refused."""

    # -- what there is ----------------------------------------------------------------------------------------

    @property
    def waiting(self) -> int:
        """How many events are not delivered yet, those under way included."""
        return self._backlog.waiting

    @property
    def oldest_age(self) -> float:
        """How many seconds the oldest event waits; 0 if none does."""
        oldest = self._backlog.oldest
        return self._clock() - oldest.since if oldest is not None else 0.0

    @property
    def refused(self) -> tuple[Refusal, ...]:
        """The latest refusals, the oldest first."""
        return tuple(self._refused)

    @property
    def durable(self) -> bool:
        """Whether what comes in outlives the bridge."""
        return self._journal is not None and not self._journal.problem

    @property
    def problem(self) -> str:
        """Why events are in memory only; empty: they are on disk, or no disk is wanted."""
        return self._journal.problem if self._journal is not None else ""

    @property
    def dead_letters(self) -> int:
        """How many events are set aside (`ami2zammad outbox`)."""
        return self._journal.dead_letters if self._journal is not None else len(self._refused)

    # -- coming in --------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Mapping[str, str]]:
        """Open the file for the length of an `async with`; give the documents of the calls that were live.

        What waited is taken in. Raises `OutboxError` for what must end the bridge.
        """
        if self._journal is None:
            yield {}
            return
        contents = await self._journal.open()
        # Rows of a file that can only be read later have smaller ids than those that come in until then.
        self._next_id = contents.next_id if not self._journal.problem else int(self._wall() * 1_000_000)
        try:
            await self._take_in(contents.waiting)
            yield contents.calls
        finally:
            await self._journal.close()

    def put(self, event: CallEvent, family: str) -> None:
        """Take `event` in for delivery after all that was put for the same `family`. Never blocks.

        To be called from the loop that runs `run`, before or during it.
        """
        waiting = Waiting(self._new_id(), event, family, self._clock(), self._wall(), ready=not self.durable)
        if self._backlog.is_lost(event):
            self._set_aside([waiting], _ENTRY_LOST)
            return
        if self._journal is not None:
            self._journal.put(_row(waiting))
        self._add(waiting)
        self._note_waiting()
        if waiting.ready:
            self._begin()

    def _add(self, waiting: Waiting) -> None:
        given_up = self._backlog.add(waiting)
        if given_up:
            self._set_aside(given_up, _NO_ROOM)
            if not self._full:
                self._full = True
                self._log.error("outbox.full", limit=self._rules.limit)

    def remember(self, calls: Mapping[str, str | None]) -> None:
        """Keep documents of live calls (None: forget it), together with the events put in the same turn of the loop."""
        if self._journal is not None and calls:
            self._journal.remember(calls)

    def set_back(self, event: CallEvent, reason: str, *, alone: bool) -> None:
        """Take note that an attempt to deliver `event` failed, and will be made again.

        `alone`: others may go through meanwhile; then it does not hold a place while it waits.
        """
        family = next((one for one in self._under_way.values() if one.events[0].event is event), None)
        if family is None:
            return
        waiting = family.events[0]
        waiting.attempts += 1
        if waiting.attempts == 1 or waiting.reason != reason:
            waiting.reason = reason
            if self._journal is not None:
                self._journal.put(_row(waiting))
        if alone and len(self._resting) < RESTING_AT_MOST:
            self._resting.add(family.key)
            self._work_to_do.set()

    def compact(self) -> None:
        """Let go of the memory that many more events took."""
        if self._journal is not None:
            self._journal.compact()

    # -- going out --------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Deliver, until cancelled; what was under way then is still waiting.

        Raises `RuntimeError` if it runs already.
        """
        if self._running:
            raise RuntimeError("the outbox runs already")
        self._running = True
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._give_up_what_is_old(), name="outbox-age")
                if self._journal is not None:
                    group.create_task(self._journal.run(), name="outbox-journal")
                self._group = group
                try:
                    while True:
                        self._begin()
                        await self._work_to_do.wait()
                        self._work_to_do.clear()
                finally:
                    # Nothing can be begun any more.
                    self._group = None
        finally:
            self._running = False
            if self._pacer is not None:
                self._pacer.cancel()

    async def drain(self, timeout: float) -> tuple[CallEvent, ...]:  # noqa: ASYNC109 - time running out is a result
        """Wait until everything is delivered, for `timeout` seconds at the most; return what is left.

        `run` must go on meanwhile. The order of what is returned is that of delivery within each family.
        """
        try:
            async with asyncio.timeout(timeout):
                await self._idle.wait()
        except TimeoutError:
            self._log.warning("outbox.not_drained", waiting=self.waiting, durable=self.durable)
        return tuple(waiting.event for waiting in self._backlog)

    def _begin(self) -> None:
        """Begin with as many families as there are places for."""
        while self._group is not None and (family := self._next()) is not None:
            self._under_way[family.key] = family
            work = self._work(family)
            try:
                self._group.create_task(work, name="outbox-delivery")
            except RuntimeError:
                # A fault of ours is ending the outbox; what waits, waits for the next start.
                work.close()
                self._group = None
                del self._under_way[family.key]
                self._backlog.suspend(family)

    def _next(self) -> Family | None:
        """Return the family whose turn it is, if there is a place for it."""
        if len(self._under_way) - len(self._resting) >= self._concurrency:
            return None
        family = self._backlog.take_live(self._clock() - LATE_AFTER)
        if family is not None:
            return family
        # Those that rest hold no place here either: four that Zammad fails on would end all catching up.
        catching_up = sum(one.catching_up for key, one in self._under_way.items() if key not in self._resting)
        if not self._backlog.has_late or catching_up >= min(LATE_AT_ONCE, self._concurrency):
            return None
        wait = self._late_not_before - self._clock()
        if wait > 0:
            if self._pacer is None:
                self._pacer = asyncio.create_task(self._pace(wait))
            return None
        family = self._backlog.take_late()
        if family is not None:
            pause = len(family.events) / self._rules.drain_rate
            self._late_not_before = self._clock() + pause
        return family

    async def _pace(self, seconds: float) -> None:
        await self._sleep(seconds)
        self._pacer = None
        self._work_to_do.set()

    async def _work(self, family: Family) -> None:
        """Deliver what a family has.

        A family is finished before the next is begun: after an outage, complete entries are worth more than many that
        all look as if they were ringing.
        """
        try:
            while (waiting := self._backlog.first(family)) is not None:
                try:
                    await self._deliver(waiting, family)
                except BaseException:
                    self._backlog.suspend(family)
                    raise
                finally:
                    self._resting.discard(family.key)
        finally:
            self._under_way.pop(family.key, None)
            self._work_to_do.set()

    async def _deliver(self, waiting: Waiting, family: Family) -> None:
        event = waiting.event
        try:
            reply = await self._deliverer.deliver(event)
        except self._refusal as error:
            self._settle(family)
            self._note_refused(waiting, str(error), family)
        except Exception as error:  # noqa: BLE001 - a fault of ours in one call must not end all others
            self._settle(family)
            self._note_fault(event, error)
            self._note_refused(waiting, f"internal fault: {type(error).__name__}", family)
        else:
            self._settle(family)
            if self._journal is not None:
                self._journal.delete(waiting.id)
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

    # -- setting aside ----------------------------------------------------------------------------------------

    def _note_refused(self, waiting: Waiting, reason: str, family: Family) -> None:
        event = waiting.event
        self._refused.append(Refusal(event, reason))
        self._bury(waiting, reason)
        entry_lost = isinstance(event, NewCall)
        if entry_lost:
            self._set_aside(self._backlog.give_up_entry(event.call_id, family), _ENTRY_LOST)
            self._note_waiting()
        self._log.warning("outbox.refused", call_id=event.call_id, reason=reason, entry_lost=entry_lost)

    async def _give_up_what_is_old(self) -> None:
        while True:
            await self._sleep(min(LOOK_FOR_OLD_EVERY, self._rules.max_age))
            given_up = self._backlog.give_up_older_than(self._clock() - self._rules.max_age)
            if given_up:
                self._set_aside(given_up, _TOO_OLD)
                self._log.warning("outbox.too_old", events=len(given_up), max_age=self._rules.max_age)
                self._note_waiting()

    def _set_aside(self, given_up: Iterable[Waiting], reason: str) -> None:
        for waiting in given_up:
            self.dropped += 1
            self._bury(waiting, reason)

    def _bury(self, waiting: Waiting, reason: str) -> None:
        if self._journal is not None:
            self._journal.put(replace(_row(waiting), reason=reason, set_aside_at=self._wall()))

    def _note_fault(self, event: CallEvent, error: Exception) -> None:
        # Where it happened, but neither text nor values: what they hold is not known, and could be a secret.
        frames = traceback.extract_tb(error.__traceback__)
        where = f"{frames[-1].name}:{frames[-1].lineno}" if frames else ""
        self._log.error("outbox.fault", call_id=event.call_id, error=type(error).__name__, where=where)

    def _note_waiting(self) -> None:
        if self.waiting:
            self._idle.clear()
            self._work_to_do.set()
        else:
            self._idle.set()
        # Not as soon as there is one place again: at the limit that would be every other moment.
        if self._full and self.waiting <= self._rules.limit // 2:
            self._full = False
            self._log.info("outbox.relieved", waiting=self.waiting, dropped=self.dropped)

    # -- the file ---------------------------------------------------------------------------------------------

    def _new_id(self) -> int:
        self._next_id += 1
        return self._next_id - 1

    async def _take_in(self, rows: Iterable[Row]) -> int:
        """Let events wait that the file holds; return how many."""
        now, wall = self._clock(), self._wall()
        count = 0
        for count, row in enumerate(rows, 1):
            # A hundred thousand take seconds, and live calls do not wait for that.
            if count % TAKEN_IN_AT_ONCE == 0:
                await asyncio.sleep(0)
            # A clock that went back since makes nothing younger than new.
            since = now - max(wall - row.at, 0.0)
            try:
                event = records.from_text(row.kind, row.call_id, row.body, since)
            except records.UnreadableRecordError as error:
                self._log.error("outbox.unreadable", call_id=row.call_id, id=row.id, problem=str(error))
                if self._journal is not None:
                    self._journal.put(replace(row, reason=str(error), set_aside_at=wall))
                continue
            self._add(Waiting(row.id, event, row.family, since, row.at, attempts=row.attempts, reason=row.reason))
        self._note_waiting()
        return count

    def _written(self, ids: Iterable[int]) -> None:
        for event_id in ids:
            self._backlog.set_ready(event_id)
        # At once: a window in Zammad should not have to wait for another turn of the loop.
        self._begin()

    def _everything(self) -> Transaction:
        rows = {waiting.id: _row(waiting) for waiting in self._backlog}
        return Transaction(rows, calls=dict(self._all_calls() if self._all_calls is not None else {}))

    async def _taken_up(self, contents: Contents) -> None:
        await self._take_in(contents.waiting)
        if self._on_calls is not None and contents.calls:
            self._on_calls(contents.calls)

    async def _edited(self, contents: Contents) -> None:
        """Take in what somebody let be tried again, and drop what somebody discarded."""
        journal, backlog = self._journal, self._backlog
        assert journal is not None  # noqa: S101 - it is the journal that calls this
        there = {row.id for row in contents.waiting}
        for event_id in [waiting.id for waiting in backlog]:
            if event_id not in there and not journal.concerns(event_id):
                backlog.drop(event_id)
        # Asked of each when its turn comes: others are delivered meanwhile.
        new = (row for row in contents.waiting if row.id not in backlog and not journal.concerns(row.id))
        taken_in = await self._take_in(new)
        self._log.info("outbox.edited", waiting=self.waiting, taken_in=taken_in)


def _row(waiting: Waiting) -> Row:
    event = waiting.event
    return Row(
        waiting.id,
        waiting.family,
        event.call_id,
        event.kind,
        waiting.at,
        records.to_text(event),
        waiting.attempts,
        waiting.reason,
    )
