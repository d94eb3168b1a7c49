"""What waits, and in which order it may go: the memory of the outbox, without any delivering.

Everything that must outlive a restart goes through `add`, `settle` and `discard_entry`; whoever keeps it on disk
finds its three places here.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass, field

from ami2zammad.calls.events import CallEvent, Hangup, NewCall

LOST_KEPT = 100_000
"""How many entries without their newCall are remembered until their hangup comes: more than a PBX has live calls, at
some 100 bytes each."""


@dataclass(slots=True, eq=False)
class Family:
    """The events of one call that wait, those of all its entries, in the order of delivery."""

    key: str
    events: deque[CallEvent] = field(default_factory=deque)
    under_way: bool = False
    """Whether the first of them is being delivered: it may not be dropped any more."""


@dataclass(frozen=True, slots=True)
class Added:
    """What became of an event that was added, and of others because of it."""

    ready: Family | None = None
    """The event's family, if it had nothing to do before."""
    overflow: int = 0
    """Events dropped at the limit, perhaps the added one among them."""
    orphans: int = 0
    """1 if the event itself was dropped because its entry's newCall is lost."""


class Backlog:
    """At most `limit` waiting events, by call.

    At the limit the oldest entry is dropped of which nothing has been sent yet: as a whole, since half an entry
    would stay "ringing" in Zammad for ever. Events of an entry that was begun are always taken: they are two at
    the most, and without them it could never end.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._families: dict[str, Family] = {}
        # Entries of which nothing was sent, the oldest first. An OrderedDict, because a dict whose first items are
        # taken out again and again is slow at finding its first one.
        self._unbegun: OrderedDict[str, Family] = OrderedDict()
        # Entries whose newCall is lost, until their hangup came. Bounded: a hangup may never come.
        self._lost: OrderedDict[str, None] = OrderedDict()
        self.waiting = 0
        """Events not yet settled, those under way included."""

    def add(self, event: CallEvent, family_key: str) -> Added:
        """Take `event` in, after all others of its family."""
        if event.call_id in self._lost:
            if isinstance(event, Hangup):
                del self._lost[event.call_id]
            return Added(orphans=1)
        family = self._families.get(family_key)
        idle = family is None
        if family is None:
            family = self._families[family_key] = Family(family_key)
        family.events.append(event)
        self.waiting += 1
        if isinstance(event, NewCall):
            self._unbegun[event.call_id] = family
        dropped = 0
        while self.waiting > self._limit and self._unbegun:
            dropped += self.discard_entry(*self._unbegun.popitem(last=False))
        if idle and not family.events:
            self._forget(family)
            return Added(overflow=dropped)
        return Added(ready=family if idle else None, overflow=dropped)

    def begin(self, family: Family) -> CallEvent | None:
        """Return the next event of `family`, which is under way from now on; None if there is none (any more)."""
        if not family.events:
            self._forget(family)
            return None
        event = family.events[0]
        family.under_way = True
        self._unbegun.pop(event.call_id, None)
        return event

    def settle(self, family: Family) -> None:
        """Take out the event of `family` that was under way: nothing more is to be done about it."""
        family.events.popleft()
        family.under_way = False
        self.waiting -= 1

    def suspend(self, family: Family) -> None:
        """Note that the delivery of the first event of `family` was broken off: it is still to be made."""
        family.under_way = False

    def discard_entry(self, call_id: str, family: Family) -> int:
        """Drop all events of an entry, those that wait and those still to come. Return how many waited."""
        ahead = [family.events.popleft()] if family.under_way else []
        kept = [event for event in family.events if event.call_id != call_id]
        dropped = len(family.events) - len(kept)
        ended = any(isinstance(event, Hangup) and event.call_id == call_id for event in family.events)
        family.events = deque([*ahead, *kept])
        self.waiting -= dropped
        self._unbegun.pop(call_id, None)
        if not ended:
            self._lost[call_id] = None
            if len(self._lost) > LOST_KEPT:
                self._lost.popitem(last=False)
        return dropped

    def left(self) -> tuple[CallEvent, ...]:
        """Return all events not yet settled, in order within each call."""
        return tuple(event for family in self._families.values() for event in family.events)

    def _forget(self, family: Family) -> None:
        if self._families.get(family.key) is family:
            del self._families[family.key]
