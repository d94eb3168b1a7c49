"""What waits, and in which order it may go: the memory of the outbox, without any delivering or writing."""

from __future__ import annotations

import heapq
from collections import OrderedDict, deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from ami2zammad.calls.events import CallEvent, Cause, Hangup, NewCall

LOST_KEPT = 100_000
"""How many entries without their newCall are remembered until their hangup comes: more than a PBX has live calls, at
some 100 bytes each."""


@dataclass(slots=True, eq=False)
class Waiting:
    """One event that waits. `since` is in seconds of the outbox's clock, `at` in seconds since the epoch."""

    id: int
    event: CallEvent
    family: str
    """What must be delivered in order has it in common: the call with all its entries."""
    since: float
    at: float
    ready: bool = True
    """It is on disk, or need not wait for that."""
    attempts: int = 0
    """Attempts that failed."""
    reason: str = ""
    """Why the last one failed."""


@dataclass(slots=True, eq=False)
class Family:
    """The events of one call that wait, those of all its entries, in the order of delivery."""

    key: str
    events: deque[Waiting] = field(default_factory=deque)
    under_way: bool = False
    """Somebody delivers them, one after the other."""
    sending: bool = False
    """The first of them is being delivered: it may not be dropped any more."""
    catching_up: bool = False
    """Under way as one that was late."""
    queued: bool = False
    """It is among those that wait for their turn."""

    @property
    def ready(self) -> bool:
        """Its next event may be delivered."""
        return bool(self.events) and self.events[0].ready

    @property
    def over_unheard(self) -> bool:
        """The call is over, and Zammad has not heard of it: nobody waits for a window to open."""
        first, last = self.events[0], self.events[-1].event
        over = isinstance(last, Hangup) and last.cause is not Cause.FORWARDED
        return over and isinstance(first.event, NewCall) and not first.attempts


class Backlog:
    """At most `limit` waiting events, by call.

    At the limit the oldest entry is given up of which nothing has been sent yet: as a whole, since half an entry would
    stay "ringing" in Zammad for ever. Events of an entry that was begun are always taken: they are two at the
    most, and without them it could never end.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._families: dict[str, Family] = {}
        # Calls whose turn it is: first come, first served.
        self._live: OrderedDict[str, Family] = OrderedDict()
        # Those of them that turned out to be late, by the age of their first event.
        self._late: list[tuple[int, str]] = []
        # Entries of which nothing was sent, the oldest first. An OrderedDict, because a dict whose first items are
        # taken out again and again is slow at finding its first one.
        self._unbegun: OrderedDict[str, tuple[Family, Waiting]] = OrderedDict()
        # Entries whose newCall is lost, until their hangup came. Bounded: a hangup may never come.
        self._lost: OrderedDict[str, None] = OrderedDict()
        # In the order in which they came.
        self._by_id: OrderedDict[int, tuple[Family, Waiting]] = OrderedDict()
        self.waiting = 0
        """Events not yet settled, those under way included."""

    # -- coming in --------------------------------------------------------------------------------------------

    def is_lost(self, event: CallEvent) -> bool:
        """Say whether the newCall of this event's entry was given up, so that the event is of no use either."""
        if event.call_id not in self._lost:
            return False
        if isinstance(event, Hangup):
            del self._lost[event.call_id]
        return True

    def add(self, waiting: Waiting) -> list[Waiting]:
        """Take an event in, after all others of its family; return those that are given up for it."""
        family = self._families.get(waiting.family)
        if family is None:
            family = self._families[waiting.family] = Family(waiting.family)
        family.events.append(waiting)
        self._by_id[waiting.id] = (family, waiting)
        self.waiting += 1
        event = waiting.event
        if isinstance(event, NewCall):
            # It was given up before, where somebody lets it be tried again.
            self._lost.pop(event.call_id, None)
            if not waiting.attempts:
                self._unbegun[event.call_id] = (family, waiting)
        self._queue(family)
        given_up: list[Waiting] = []
        while self.waiting > self._limit and self._unbegun:
            given_up += self._give_up_oldest()
        return given_up

    def set_ready(self, event_id: int) -> None:
        """Let an event go that waited for the disk."""
        family, waiting = self._by_id.get(event_id, (None, None))
        if family is not None and waiting is not None:
            waiting.ready = True
            self._queue(family)

    def _queue(self, family: Family) -> None:
        """Put a family among those that wait for their turn."""
        if family.under_way or not family.ready:
            return
        # One that was put among the late ones may have become a live call again.
        if not family.queued or not family.over_unheard:
            family.queued = True
            self._live.setdefault(family.key, family)

    # -- going out --------------------------------------------------------------------------------------------

    def take_live(self, late_before: float) -> Family | None:
        """Take the next live call whose turn it is: it is under way from now on.

        Calls that were over before Zammad heard of them, and that wait since before `late_before`, count as late.
        """
        while self._live:
            _, family = self._live.popitem(last=False)
            if family.ready and family.over_unheard and family.events[0].since < late_before:
                heapq.heappush(self._late, (family.events[0].id, family.key))
                continue
            family.queued = False
            if family.ready:
                return self._under_way(family, catching_up=False)
        return None

    def take_late(self) -> Family | None:
        """Take the oldest call that is over and waits: it is under way from now on."""
        while self._late:
            _, key = heapq.heappop(self._late)
            family = self._families.get(key)
            if family is not None and family.queued and key not in self._live:
                family.queued = False
                if family.ready:
                    return self._under_way(family, catching_up=True)
        return None

    def _under_way(self, family: Family, *, catching_up: bool) -> Family:
        family.under_way = family.sending = True
        family.catching_up = catching_up
        self._unbegun.pop(family.events[0].event.call_id, None)
        return family

    @property
    def has_late(self) -> bool:
        """Whether calls that are over wait for their turn."""
        return bool(self._late)

    def first(self, family: Family) -> Waiting | None:
        """Return the next event of a family that is under way; None, and it is so no longer, if none may go."""
        if family.ready:
            return self._under_way(family, catching_up=family.catching_up).events[0]
        family.under_way = family.sending = False
        if not family.events:
            self._forget(family)
        return None

    def settle(self, family: Family) -> None:
        """Take out the event of `family` that was under way: nothing more is to be done about it."""
        self._taken_out(family.events.popleft())
        family.sending = False

    def suspend(self, family: Family) -> None:
        """Note that the delivery of the first event of `family` was broken off: it is still to be made."""
        family.under_way = family.sending = False
        self._queue(family)

    # -- giving up --------------------------------------------------------------------------------------------

    def give_up_entry(self, call_id: str, family: Family) -> list[Waiting]:
        """Take out all events of an entry, and refuse those still to come; return those that waited."""
        ahead = [family.events.popleft()] if family.sending else []
        given_up = [waiting for waiting in family.events if waiting.event.call_id == call_id]
        family.events = deque([*ahead, *(one for one in family.events if one.event.call_id != call_id)])
        self._unbegun.pop(call_id, None)
        for waiting in given_up:
            self._taken_out(waiting)
        if not any(isinstance(waiting.event, Hangup) for waiting in given_up):
            self._lost[call_id] = None
            if len(self._lost) > LOST_KEPT:
                self._lost.popitem(last=False)
        self._after_loss(family)
        return given_up

    def give_up_older_than(self, since: float) -> list[Waiting]:
        """Take out all entries of which nothing was sent and that wait since before `since`."""
        given_up: list[Waiting] = []
        while self._unbegun:
            call_id, (family, waiting) = next(iter(self._unbegun.items()))
            if waiting.since >= since:
                break
            given_up += self.give_up_entry(call_id, family)
        return given_up

    def drop(self, event_id: int) -> None:
        """Take out one event that somebody has discarded, unless it is under way."""
        family, waiting = self._by_id.get(event_id, (None, None))
        if family is None or waiting is None or (family.sending and family.events[0] is waiting):
            return
        family.events.remove(waiting)
        if isinstance(waiting.event, NewCall):
            self._unbegun.pop(waiting.event.call_id, None)
        self._taken_out(waiting)
        self._after_loss(family)

    def _give_up_oldest(self) -> list[Waiting]:
        call_id, (family, _) = next(iter(self._unbegun.items()))
        return self.give_up_entry(call_id, family)

    # -- what there is ----------------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[Waiting]:
        """Yield all events not yet settled, in the order in which they came."""
        for _, waiting in self._by_id.values():
            yield waiting

    def __contains__(self, event_id: object) -> bool:
        return event_id in self._by_id

    @property
    def oldest(self) -> Waiting | None:
        """The event that came first of those that wait."""
        return next(iter(self._by_id.values()))[1] if self._by_id else None

    def _after_loss(self, family: Family) -> None:
        if family.events:
            self._queue(family)
        elif not family.under_way:
            self._forget(family)

    def _taken_out(self, waiting: Waiting) -> None:
        del self._by_id[waiting.id]
        self.waiting -= 1

    def _forget(self, family: Family) -> None:
        if self._families.get(family.key) is family:
            del self._families[family.key]
        self._live.pop(family.key, None)
        family.queued = False
