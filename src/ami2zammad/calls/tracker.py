"""The call tracker: signals of the PBX in, log entries of Zammad out.

A pure state machine. It never asks the time and never waits: time comes with each signal, `advance` tells it that
time has passed, `next_deadline` says when that matters. The rules that it fulfils are numbered as in
docs/calls.md.

Who talks with whom is read off the bridges, not off dial events: only who shares a conversation with the party has
answered, however the PBX brought them together (Dial, queue, pick-up, parking, transfer, Local channels).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import translate
from typing import Any, Final

from . import causes
from .call import Call, Channel
from .directory import Agent, Directory
from .documents import from_document, to_document
from .entry import LogEntry
from .events import VOICEMAIL, CallEvent, Cause, Direction, NewCall
from .numbers import NumberPlan, forget_numbers, is_diallable
from .parties import Parties, Talker
from .recent import Recent
from .sides import DEFAULT_TRUNK_CONTEXTS, Side, TrunkPatterns, base_name
from .signalling import (
    ApplicationSeen,
    BlindTransferred,
    BridgeEntered,
    BridgeLeft,
    ChannelCreated,
    ChannelGone,
    ChannelListed,
    ChannelRenamed,
    ChannelState,
    ChannelStateChanged,
    DialBegan,
    DialEnded,
    DialRequested,
    HangupRequested,
    LocalBridged,
    MemberCalled,
    Parked,
    QueueJoined,
    QueueLeft,
    Signal,
    Snapshot,
)
from .snapshot import age, signals_of
from .switchboard import Switchboard

# A caller who is up, in no queue and rings nobody is in an IVR or in voicemail: asked soon, then ever less often.
_FIRST_QUESTION_AFTER: Final = 0.2
_QUESTIONS_AT_MOST_EVERY: Final = 5.0
# Ended channels are remembered for this long, so that a signal that comes twice does not raise the dead.
_REMEMBER_ENDED_FOR: Final = 30.0
_REMEMBER_ENDED: Final = 10_000
_CAUSE_UNKNOWN: Final = -1
_INTERWORKING: Final = 127
# Trunks that were recognised by their context. More than this are no trunks.
_REMEMBER_TRUNKS: Final = 1_000
MOST_CHANNELS: Final = 50_000
"""Channels that are tracked at once, at some 1 KB each; calls of further ones are not told."""
_NEVER: Final = float("inf")


@dataclass(frozen=True, slots=True)
class TrackerRules:
    """How this PBX is set up, as far as calls are concerned (see the settings of the same names).

    `settle` is in seconds.
    """

    instance: str = ""
    trunks: tuple[str, ...] = ()
    trunk_contexts: tuple[str, ...] = DEFAULT_TRUNK_CONTEXTS
    announce_on_arrival: bool = False
    settle: float = 0.1
    voicemail_applications: tuple[str, ...] = ("VoiceMail",)
    ignore_contexts: tuple[str, ...] = ()
    numbers: NumberPlan = field(default_factory=NumberPlan)
    directory: Directory = field(default_factory=Directory)


class CallTracker:
    """Follows every call of one PBX."""

    def __init__(self, rules: TrackerRules) -> None:
        self._rules = rules
        self._parties = Parties(rules.numbers, rules.directory)
        self._prefix = f"{rules.instance}-" if rules.instance else ""
        self._sides = TrunkPatterns(rules.trunks, rules.trunk_contexts)
        self._ignored = re.compile("|".join(translate(glob) for glob in rules.ignore_contexts) or r"(?!)")
        self._voicemail = frozenset(name.lower() for name in rules.voicemail_applications)
        self._switchboard = Switchboard()
        self._calls: dict[str, Call] = {}
        # Channels that have ended, and how many entries the calls had that are over.
        self._ended: Recent[None] = Recent(_REMEMBER_ENDED_FOR, _REMEMBER_ENDED)
        self._past: Recent[int] = Recent(_REMEMBER_ENDED_FOR, _REMEMBER_ENDED)
        self._trunks: set[str] = set()
        self._waiting: dict[str, Call] = {}
        self._questions: set[str] = set()
        # Calls of which something else than an entry has changed that must outlive the bridge.
        self._touched: set[str] = set()
        # Calls that were resumed without a channel: the next snapshot must show one.
        self._without_channel: dict[str, Call] = {}
        self.untracked = 0
        """Channels that were not tracked because there were too many."""
        self._now = -_NEVER
        # Never later than the first deadline of all that wait, so that most signals need not look at them.
        self._next_deadline = _NEVER
        # One method a kind of signal, found by its class: the order of the table is that of signalling.py.
        self._handlers: dict[type, Callable[[Any], list[CallEvent]]] = {
            ChannelCreated: self._channel_created,
            ChannelStateChanged: self._channel_state_changed,
            ChannelRenamed: self._channel_renamed,
            DialBegan: self._dial_began,
            DialEnded: self._dial_ended,
            HangupRequested: self._hangup_requested,
            ChannelGone: self._channel_gone,
            BridgeEntered: self._bridge_entered,
            BridgeLeft: self._bridge_left,
            LocalBridged: self._local_bridged,
            QueueJoined: self._queue_joined,
            QueueLeft: self._queue_left,
            MemberCalled: self._member_called,
            BlindTransferred: self._blind_transferred,
            Parked: self._parked,
            ApplicationSeen: self._application_seen,
            Snapshot: self._reconcile,
            # What the dialplan wants is for the control of calls to do.
            DialRequested: _nothing,
        }

    # -- the face ------------------------------------------------------------------------------------------

    def handle(self, signal: Signal) -> list[CallEvent]:
        """Take in one signal; return what is to be told to Zammad, in order."""
        events = self.advance(signal.at)
        events += self._handlers[type(signal)](signal)
        return events

    def advance(self, now: float) -> list[CallEvent]:
        """Let time pass until `now` (seconds, the clock of the signals); return what became due."""
        self._now = max(self._now, now)
        self._ended.forget(self._now)
        self._past.forget(self._now)
        events: list[CallEvent] = []
        if self._now < self._next_deadline:
            return events
        for call in [call for call in self._waiting.values() if _next(call) <= self._now]:
            entry = call.open_entry
            if entry is not None and entry.announce_at is not None and entry.announce_at <= self._now:
                events += entry.announce(entry.announce_at)
            if call.next_question_at is not None and call.next_question_at <= self._now:
                self._ask_about(call)
            self._schedule(call)
        self._next_deadline = min(map(_next, self._waiting.values()), default=_NEVER)
        return events

    @property
    def next_deadline(self) -> float | None:
        """When `advance` has something to do, or earlier; None: not before another signal."""
        return self._next_deadline if self._next_deadline < _NEVER else None

    def take_questions(self) -> list[str]:
        """Return the names of the channels of which the PBX should be asked which application they run.

        An account without the `dialplan` class never sees Newexten, so voicemail would go unnoticed; the answer comes
        as `ApplicationSeen`.
        """
        channels = self._switchboard.channels
        names = [channels[uniqueid].name for uniqueid in self._questions if uniqueid in channels]
        self._questions.clear()
        return names

    def close(self, at: float) -> list[CallEvent]:
        """End every entry that is open: the stream has ended and nobody will say how the calls went on."""
        return self._reconcile(Snapshot(at, ()))

    def give_up(self, at: float) -> list[CallEvent]:
        """End every entry that is open, and keep the calls: nobody could say for too long how they go on."""
        self._now = max(self._now, at)
        events: list[CallEvent] = []
        for call in dict.fromkeys(self._calls.values()):
            events += self._end(call, at, _CAUSE_UNKNOWN)
        return events

    def use(self, directory: Directory) -> None:
        """Name agents by another directory from now on."""
        numbers = replace(self._rules.numbers, extensions=directory.extensions)
        self._rules = replace(self._rules, directory=directory, numbers=numbers)
        self._parties = Parties(numbers, directory)

    def compact(self, now: float) -> None:
        """Let go of the memory that many more calls took."""
        self._ended.compact(now)
        self._past.compact(now)
        forget_numbers()

    # -- what outlives the bridge ---------------------------------------------------------------------------

    def changes_with(self, events: Sequence[CallEvent]) -> dict[str, str | None]:
        """Return the documents of the calls that have changed, by callId, to be kept together with `events`.

        None: the call is over.
        """
        if not events and not self._touched:
            return {}
        changed, self._touched = self._touched, set()
        for event in events:
            changed.add((event if isinstance(event, NewCall) else event.call).first_call_id)
        return {call_id: self._document_of(call_id) for call_id in changed}

    def forget_changes(self) -> None:
        """Take note that nobody keeps calls."""
        self._touched.clear()

    def documents(self) -> dict[str, str]:
        """Return the documents of all calls that have had an entry."""
        calls = {call.call_id: self._document(call) for call in self._calls.values()}
        return {call_id: document for call_id, document in calls.items() if document is not None}

    def _document_of(self, call_id: str) -> str | None:
        call = self._calls.get(call_id.removeprefix(self._prefix))
        # Its Linkedid may lead to another call by now, which has a document of its own.
        return self._document(call) if call is not None and call.call_id == call_id else None

    @staticmethod
    def _document(call: Call) -> str | None:
        return to_document(call) if call.entries else None

    def resume(self, document: str, at: float) -> list[CallEvent]:
        """Go on with a call that was kept; the next snapshot tells what became of it.

        Where the call is known already, only an entry that nobody would end is ended. Raises `UnreadableDocumentError`.
        """
        self._now = max(self._now, at)
        call = from_document(document, at)
        known = self._known_as(call)
        if known is not None:
            self._touch(call)
            entry = call.open_entry
            if entry is None or (known.entry is not None and known.entry.call_id == entry.call_id):
                return []
            return entry.hang_up(at, self._cause(entry, _CAUSE_UNKNOWN))
        for channel in call.channels.values():
            self._switchboard.channels[channel.uniqueid] = channel
            if channel.bridge:
                self._switchboard.enter(channel, channel.bridge)
            if channel.side is Side.OUTSIDE and len(self._trunks) < _REMEMBER_TRUNKS:
                self._trunks.add(base_name(channel.name))
        self._calls.update(dict.fromkeys(call.linkedids, call))
        if not call.channels:
            self._without_channel[call.call_id] = call
        self._schedule(call)
        return []

    def _known_as(self, resumed: Call) -> Call | None:
        channels = self._switchboard.channels
        calls = [self._calls[linkedid] for linkedid in resumed.linkedids if linkedid in self._calls]
        # Its channels may have got another Linkedid since.
        calls += [channels[uniqueid].call for uniqueid in resumed.channels if uniqueid in channels]
        return calls[0] if calls else None

    # -- control (docs/dialplan.md) -------------------------------------------------------------------------

    def knows(self, uniqueid: str) -> bool:
        """Say whether a channel is known and alive."""
        return uniqueid in self._switchboard.channels

    def channel_name(self, uniqueid: str) -> str:
        """Return a live channel's present name; empty if it is gone."""
        channel = self._switchboard.channels.get(uniqueid)
        return channel.name if channel is not None else ""

    def ask_first(
        self, uniqueid: str, at: float, *, number: str = "", queue: str = "", user: str = "", to: str = ""
    ) -> tuple[list[CallEvent], NewCall | None]:
        """Announce the call of a channel now, because the dialplan waits for what the help desk says.

        `number` is what an agent dials, with the line prefix; `to` what is to be called, without. Returns what is to be
        told and the newCall to wait for: None where there is nothing to ask, because the call is internal, answered,
        over or unknown.
        """
        self._now = max(self._now, at)
        channel = self._switchboard.channels.get(uniqueid)
        if channel is None or channel.call.ignored:
            return [], None
        call = channel.call
        entry = call.open_entry
        numbers = self._rules.numbers
        outside = to or number
        if call.direction is None and is_diallable(outside) and outside not in numbers.extensions:
            call.agent = call.agent or (channel if channel.side is Side.INSIDE else None)
            to_number = numbers.party(to) if to else numbers.dialled(number)
            entry = self._begin_outbound(call, to_number, channel.caller_number)
        if entry is None or entry.answered:
            return [], None
        if call.direction is Direction.IN and not entry.announced:
            entry.queue = queue or entry.queue
            entry.to_number = numbers.party(to) if to else entry.to_number
            entry.add_user(user)
        events = entry.announce(at)
        self._schedule(call)
        return events, entry.new_call

    def begin_click_to_dial(self, linkedid: str, at: float, *, extension: str, number: str) -> list[CallEvent]:
        """Begin the outbound call that the PBX is about to make for the agent at `extension` under `linkedid`."""
        self._now = max(self._now, at)
        call = self._calls[linkedid] = Call(self._prefix + linkedid, {linkedid})
        agent = self._rules.directory.agent_at(extension, extension, "")
        entry = self._begin_outbound(call, self._rules.numbers.party(number), "", agent)
        return entry.announce(at)

    def abandon(self, new_call: NewCall, at: float, cause: Cause) -> list[CallEvent]:
        """End an entry whose call never got a channel: the PBX could not make it."""
        call = self._call_of(new_call)
        if call is None or call.channels:
            return []
        entry = call.open_entry
        events = entry.hang_up(at, cause) if entry is not None else []
        self._forget(call)
        return events

    def expect(self, uniqueid: str, leg: str) -> None:
        """Count the channels that will come under the Linkedid `leg` to the call of the channel `uniqueid`."""
        channel = self._switchboard.channels.get(uniqueid)
        if channel is not None:
            channel.call.linkedids.add(leg)
            self._calls[leg] = channel.call
            self._touch(channel.call)

    def refuse(self, new_call: NewCall) -> str:
        """Take note that an inbound call is to be rejected; return the channel to hang up.

        Empty if it is too late for that: answered, passed on or over.
        """
        call = self._call_of(new_call)
        entry = call.open_entry if call is not None else None
        if call is None or entry is None or call.party is None or call.direction is not Direction.IN:
            return ""
        if entry.answered or entry.call_id != new_call.call_id:
            return ""
        entry.refused = True
        self._touch(call)
        return call.party.name

    def outcome(self, new_call: NewCall) -> Cause | None:
        """Return the best outcome so far of the devices that were tried for an open entry."""
        call = self._call_of(new_call)
        entry = call.open_entry if call is not None else None
        return entry.outcome if entry is not None and entry.call_id == new_call.call_id else None

    def _call_of(self, new_call: NewCall) -> Call | None:
        return self._calls.get(new_call.first_call_id.removeprefix(self._prefix))

    @property
    def live_calls(self) -> int:
        """How many calls have a log entry that is open or pending."""
        return len(self.open_entries)

    @property
    def open_entries(self) -> list[LogEntry]:
        """The log entries that are open or pending, one a call, in no order."""
        return [entry for call in set(self._calls.values()) if (entry := call.open_entry) is not None]

    @property
    def live_channels(self) -> int:
        """How many channels are tracked."""
        return len(self._switchboard.channels)

    @property
    def tracked_calls(self) -> int:
        """How many calls are tracked, internal ones too; 0 when all channels are gone."""
        return len(self._calls)

    # -- channels come and go (rules 1 to 3) ----------------------------------------------------------------

    def _channel_created(self, signal: ChannelCreated) -> list[CallEvent]:
        if signal.uniqueid in self._switchboard.channels or signal.uniqueid in self._ended:
            return []
        if len(self._switchboard.channels) >= MOST_CHANNELS:
            self.untracked += 1
            return []
        call = self._calls.get(signal.linkedid)
        if call is None:
            call = self._calls[signal.linkedid] = Call(self._prefix + signal.linkedid, {signal.linkedid})
            # A Linkedid can come again when its call is over; the callId must not.
            call.entries = self._past.get(call.call_id, 0)
        channel = Channel(
            uniqueid=signal.uniqueid,
            linkedid=signal.linkedid,
            name=signal.name,
            side=self._side_of(signal.name, signal.context),
            context=signal.context,
            exten=signal.exten,
            caller_number=signal.caller_number,
            caller_name=signal.caller_name,
            state=signal.state,
            call=call,
            created_at=signal.at,
        )
        self._switchboard.channels[channel.uniqueid] = channel
        call.channels[channel.uniqueid] = channel
        if channel.side is Side.PLUMBING or call.first_device:
            return []
        return self._first_device(call, channel, signal.at)

    def _side_of(self, name: str, context: str) -> Side:
        """Return a channel's side; a trunk that was recognised by its context once is known by its name from then on.

        A snapshot says in which context a channel is now, not in which it was created.
        """
        side = self._sides.side_of(name, context)
        if side is Side.INSIDE and base_name(name) in self._trunks:
            return Side.OUTSIDE
        if side is Side.OUTSIDE and len(self._trunks) < _REMEMBER_TRUNKS:
            self._trunks.add(base_name(name))
        return side

    def _first_device(self, call: Call, channel: Channel, at: float) -> list[CallEvent]:
        call.first_device = channel.uniqueid
        if call.open_entry is not None:
            call.agent = call.agent or (channel if channel.side is Side.INSIDE else None)
        elif self._ignored.fullmatch(channel.context):
            call.ignored = True
        elif channel.side is Side.INSIDE:
            call.agent = channel
        elif channel.state != ChannelState.DOWN:
            # An outside channel that is DOWN is one that the PBX dials: outbound, see _outside_leg_dialled.
            call.direction = Direction.IN
            call.party = channel
            entry = call.begin_entry(
                self._rules.numbers.party(channel.caller_number),
                self._rules.numbers.party(channel.exten) if is_diallable(channel.exten) else channel.exten or "s",
                direction=Direction.IN,
            )
            # Told at its end at the latest, even if nobody listens then.
            self._touch(call)
            if self._rules.announce_on_arrival:
                return entry.announce(at)
        return []

    def _channel_state_changed(self, signal: ChannelStateChanged) -> list[CallEvent]:
        channel = self._known(signal.uniqueid, signal.linkedid)
        if channel is not None:
            channel.state = signal.state
            self._schedule(channel.call)
        return []

    def _channel_renamed(self, signal: ChannelRenamed) -> list[CallEvent]:
        channel = self._switchboard.channels.get(signal.uniqueid)
        if channel is None:
            return []
        channel.name = signal.name
        if channel is not channel.call.party:
            channel.side = self._side_of(channel.name, channel.context)
        return self._conversations_changed([channel], signal.at)

    def _channel_gone(self, signal: ChannelGone) -> list[CallEvent]:
        channel = self._switchboard.channels.get(signal.uniqueid)
        if channel is None:
            # A list that is being made may still have it.
            self._ended.add(signal.uniqueid, None, signal.at)
            return []
        call = channel.call
        neighbours = list(self._switchboard.around(channel))
        self._switchboard.remove(channel)
        self._questions.discard(channel.uniqueid)
        call.channels.pop(channel.uniqueid, None)
        self._ended.add(channel.uniqueid, None, signal.at)
        entry = call.open_entry
        if entry is not None and channel.dialled and channel.side is not Side.PLUMBING and not call.queue:
            self._count_outcome(entry, channel, signal.cause)
        events = self._end_if_over(call, channel, signal)
        events += self._conversations_changed(neighbours, signal.at)
        if not call.channels:
            events += self._end(call, signal.at, signal.cause)
            self._forget(call)
        else:
            self._schedule(call)
        return events

    def _count_outcome(self, entry: LogEntry, leg: Channel, cause: int) -> None:
        if leg.dial_status not in {"ANSWER", "FORWARD"} and not entry.answered:
            before = entry.outcome
            entry.add_outcome(causes.of_leg(leg.dial_status, cause))
            if entry.outcome is not before:
                self._touch(leg.call)

    def _known(self, uniqueid: str, linkedid: str) -> Channel | None:
        """Return a channel, having moved it to the call of the Linkedid that it has now."""
        channel = self._switchboard.channels.get(uniqueid)
        if channel is None or not linkedid or channel.linkedid == linkedid:
            return channel
        channel.linkedid = linkedid
        call = self._calls.setdefault(linkedid, channel.call)
        call.linkedids.add(linkedid)
        self._touch(call)
        self._touch(channel.call)
        # A call that Zammad knows keeps its channels: its entry ends with its own party, not with another's.
        if call is not channel.call and call.direction is None and channel.call.direction is not None:
            self._absorb(call, channel.call)
        elif call is not channel.call and channel.call.direction is None:
            left = channel.call
            left.channels.pop(uniqueid, None)
            call.channels[uniqueid] = channel
            channel.call = call
            if left.agent is channel:
                left.agent = None
            if not left.channels:
                self._forget(left)
        return channel

    def _absorb(self, internal: Call, told: Call) -> None:
        """Make an older internal call part of the one that Zammad knows: what they dial from now on is told's."""
        for channel in internal.channels.values():
            channel.call = told
        told.channels.update(internal.channels)
        told.linkedids |= internal.linkedids
        self._calls.update(dict.fromkeys(internal.linkedids, told))
        self._waiting.pop(internal.call_id, None)
        self._touch(internal)

    def _touch(self, call: Call) -> None:
        """Note that a call of which Zammad has heard must be kept as it is now."""
        if call.entries:
            self._touched.add(call.call_id)

    def _forget(self, call: Call) -> None:
        self._touch(call)
        self._waiting.pop(call.call_id, None)
        if call.entries:
            self._past.add(call.call_id, call.entries, self._now)
        for linkedid in call.linkedids:
            if self._calls.get(linkedid) is call:
                del self._calls[linkedid]
        # Its channels know it: without this circle it goes at once, and not when the garbage collector gets that far.
        call.party = call.agent = None

    # -- ringing (rules 4 and 5) ----------------------------------------------------------------------------

    def _dial_began(self, signal: DialBegan) -> list[CallEvent]:
        caller = self._known(signal.uniqueid, signal.linkedid)
        leg = self._known(signal.dest_uniqueid, signal.dest_linkedid)
        if leg is None or leg.dialled:
            return []
        leg.dialled = True
        call = leg.call
        if call.ignored or leg.side is Side.PLUMBING:
            return []
        if leg.side is Side.OUTSIDE:
            leg.number = self._parties.number_dialled(signal, caller)
            if call.direction is not Direction.IN:
                return self._outside_leg_dialled(call, leg, signal)
        entry = call.open_entry
        if entry is None or entry.answered or call.direction is not Direction.IN:
            return []
        if leg.side is Side.INSIDE:
            entry.add_user(self._parties.name_of(leg))
        self._someone_is_tried(call, entry, signal.at)
        return []

    def _someone_is_tried(self, call: Call, entry: LogEntry, at: float) -> None:
        """Note that it is known whom an inbound call is for; announced when the others have had time to join in."""
        entry.tried = True
        if not entry.announced:
            # Who rings must be known even if the bridge ends before it is told.
            self._touch(call)
            if entry.announce_at is None:
                entry.announce_at = at + self._rules.settle
        self._schedule(call)

    def _outside_leg_dialled(self, call: Call, leg: Channel, signal: DialBegan) -> list[CallEvent]:
        """Begin an outbound entry; a second trunk that is tried for the same number belongs to the first's."""
        if call.open_entry is not None:
            call.open_entry.tried = True
            return []
        entry = self._begin_outbound(call, leg.number, signal.caller_number)
        entry.tried = True
        return entry.announce(signal.at)

    def _begin_outbound(self, call: Call, to_number: str, shown: str, agent: Agent | None = None) -> LogEntry:
        """Begin an outbound entry. `shown` is the number that the agent's channel shows."""
        call.direction = Direction.OUT
        call.party = None
        if agent is None:
            agent = self._parties.agent_at(call.agent) if call.agent is not None else Agent("")
        entry = call.begin_entry(self._parties.outbound_number(agent, shown), to_number, direction=Direction.OUT)
        entry.add_user(agent.name)
        return entry

    def _dial_ended(self, signal: DialEnded) -> list[CallEvent]:
        leg = self._switchboard.channels.get(signal.dest_uniqueid)
        if leg is not None and not leg.dial_status:
            leg.dial_status = signal.status or "UNKNOWN"
            self._schedule(leg.call)
        return []

    def _member_called(self, signal: MemberCalled) -> list[CallEvent]:
        leg = self._switchboard.channels.get(signal.dest_uniqueid)
        if leg is not None and "/" not in signal.member_name:
            leg.member_name = signal.member_name
        return []

    def _queue_joined(self, signal: QueueJoined) -> list[CallEvent]:
        channel = self._switchboard.channels.get(signal.uniqueid)
        if channel is None:
            return []
        call = channel.call
        entry = call.open_entry
        # The caller waits there, or a Local channel for the caller.
        waits_for_caller = channel.side is Side.PLUMBING and call.direction is Direction.IN
        if entry is None or not (channel is call.party or waits_for_caller):
            return []
        call.queue = signal.queue
        if entry.answered:
            call.transferred_to_queue = signal.queue
            return []
        events: list[CallEvent] = []
        if entry.queue and entry.queue != signal.queue:
            # Rule 8: an unanswered call moves from one queue to another.
            events = entry.hang_up(signal.at, Cause.FORWARDED)
            entry = call.begin_entry(entry.from_number, entry.to_number, direction=entry.direction)
        entry.queue = signal.queue
        self._someone_is_tried(call, entry, signal.at)
        return events

    def _queue_left(self, signal: QueueLeft) -> list[CallEvent]:
        channel = self._switchboard.channels.get(signal.uniqueid)
        if channel is None or channel.call.queue != signal.queue:
            return []
        channel.call.queue = ""
        entry = channel.call.open_entry
        if entry is not None:
            entry.add_outcome(Cause.NO_ANSWER)
        self._schedule(channel.call)
        return []

    # -- conversations (rules 6 and 8) ----------------------------------------------------------------------

    def _bridge_entered(self, signal: BridgeEntered) -> list[CallEvent]:
        channel = self._known(signal.uniqueid, signal.linkedid)
        if channel is None:
            return []
        before = list(self._switchboard.around(channel))
        if signal.holding:
            self._switchboard.leave(channel)
        else:
            self._switchboard.enter(channel, signal.bridge)
            channel.call.parked = False
        return self._conversations_changed([channel, *before, *self._switchboard.around(channel)], signal.at)

    def _bridge_left(self, signal: BridgeLeft) -> list[CallEvent]:
        channel = self._switchboard.channels.get(signal.uniqueid)
        if channel is None or channel.bridge != signal.bridge:
            return []
        before = list(self._switchboard.around(channel))
        self._switchboard.leave(channel)
        return self._conversations_changed([channel, *before], signal.at)

    def _local_bridged(self, signal: LocalBridged) -> list[CallEvent]:
        first = self._switchboard.channels.get(signal.first_uniqueid)
        second = self._switchboard.channels.get(signal.second_uniqueid)
        if first is None or second is None:
            return []
        first.local_peer, second.local_peer = second.uniqueid, first.uniqueid
        return self._conversations_changed(self._switchboard.around(first), signal.at)

    def _conversations_changed(self, devices: Iterable[Channel], at: float) -> list[CallEvent]:
        """Look again at every call whose party may have gained or lost somebody to talk with."""
        events: list[CallEvent] = []
        calls = {channel.call.call_id: channel.call for channel in devices}
        for call in calls.values():
            if call.open_entry is not None:
                events += self._look_at(call, at)
            self._schedule(call)
        return events

    def _look_at(self, call: Call, at: float) -> list[CallEvent]:
        entry = call.open_entry
        if call.party is None and call.direction is Direction.OUT:
            call.party = self._leg_that_answered(call)
        if entry is None or call.party is None:
            return []
        devices = list(self._switchboard.around(call.party))
        # Who was dialled took the call; another caller (parked, in a conference, connected by an agent) did not.
        takers = [device for device in devices if device.side is Side.INSIDE or device.dialled]
        if not takers and call.direction is Direction.OUT and not entry.answered:
            takers = devices
        talkers = [self._parties.talker(call, device) for device in takers]
        if not talkers:
            return []
        if any(talker.identity == entry.talker for talker in talkers):
            call.transferred_to = call.transferred_to_queue = ""
            return []
        events: list[CallEvent] = []
        if entry.answered:
            events = entry.hang_up(at, Cause.FORWARDED)
            entry = self._passed_on(call, entry, talkers[0])
        return events + self._answered(call, entry, talkers[0], at)

    def _leg_that_answered(self, call: Call) -> Channel | None:
        for leg in call.devices(Side.OUTSIDE):
            if any(True for _ in self._switchboard.around(leg)):
                return leg
        return None

    @staticmethod
    def _answered(call: Call, entry: LogEntry, talker: Talker, at: float) -> list[CallEvent]:
        call.next_question_at = None
        if call.direction is Direction.OUT:
            # Zammad would put `user` in the place of the customer's name.
            return entry.answer(at, talker.identity, "", "")
        return entry.answer(at, talker.identity, talker.name, talker.answering_number)

    def _passed_on(self, call: Call, entry: LogEntry, talker: Talker) -> LogEntry:
        """Begin the entry of the party who talks now."""
        if entry.direction is Direction.OUT:
            from_number, to_number = talker.from_number or entry.from_number, entry.to_number
        else:
            target = call.transferred_to if is_diallable(call.transferred_to) else ""
            to_number = self._rules.numbers.dialled(target) if target not in {"", talker.identity} else talker.identity
            from_number = entry.from_number
        successor = call.begin_entry(from_number, to_number, direction=entry.direction)
        successor.add_user(talker.name)
        successor.queue = call.transferred_to_queue
        call.transferred_to = call.transferred_to_queue = ""
        return successor

    def _blind_transferred(self, signal: BlindTransferred) -> list[CallEvent]:
        for uniqueid in (signal.transferee_uniqueid, signal.transferer_uniqueid):
            channel = self._switchboard.channels.get(uniqueid)
            if channel is not None and channel.call.open_entry is not None:
                if not channel.call.parked:
                    channel.call.transferred_to = signal.exten
                break
        return []

    def _parked(self, signal: Parked) -> list[CallEvent]:
        channel = self._switchboard.channels.get(signal.uniqueid)
        if channel is not None and channel.call.open_entry is not None:
            # Whoever retrieves the call is the new party, not the parking space. Asterisk 16 tells of the transfer
            # to the parking extension only after this.
            channel.call.transferred_to = ""
            channel.call.parked = True
        return []

    def _application_seen(self, signal: ApplicationSeen) -> list[CallEvent]:
        channel = self._switchboard.channels.get(signal.uniqueid)
        if channel is None or signal.application.lower() not in self._voicemail:
            return []
        call = channel.call
        entry = call.open_entry
        if entry is None or entry.answered or channel is not call.party or call.direction is not Direction.IN:
            return []
        events = entry.answer(signal.at, VOICEMAIL, VOICEMAIL, "")
        self._schedule(call)
        return events

    # -- the end (rule 7) -----------------------------------------------------------------------------------

    def _hangup_requested(self, signal: HangupRequested) -> list[CallEvent]:
        channel = self._switchboard.channels.get(signal.uniqueid)
        if channel is None:
            return []
        call = channel.call
        entry = call.open_entry
        caller = call.party if call.direction is Direction.IN else call.agent
        if entry is not None and channel is caller and not entry.answered:
            entry.caller_gave_up = entry.caller_gave_up or call.still_trying() or not entry.tried
            self._touch(call)
        return []

    def _end_if_over(self, call: Call, gone: Channel, signal: ChannelGone) -> list[CallEvent]:
        if call.party is not None:
            # Not when the agent of an outbound call has gone: the customer may be parked, or on the way to another.
            if gone is call.party:
                return self._end(call, signal.at, signal.cause)
        elif call.direction is Direction.OUT and not call.devices(Side.INSIDE) and not call.devices(Side.OUTSIDE):
            return self._end(call, signal.at, signal.cause)
        return []

    def _end(self, call: Call, at: float, cause: int) -> list[CallEvent]:
        entry = call.open_entry
        if entry is None:
            return []
        for leg in call.channels.values():
            if leg.dialled and leg.dial_status and leg.side is not Side.PLUMBING:
                # Its own end has not been reported yet; the caller's channel got the same cause.
                self._count_outcome(entry, leg, max(cause, 0))
        events = entry.hang_up(at, self._cause(entry, cause))
        if call.direction is Direction.OUT:
            call.party = None
        self._schedule(call)
        return events

    @staticmethod
    def _cause(entry: LogEntry, cause: int) -> Cause:
        if entry.answered:
            return Cause.NORMAL_CLEARING
        if entry.refused:
            return Cause.BUSY
        # Asterisk says HangupRequest for its own Busy() and Congestion() too; then the end's cause tells. 127 is what a
        # caller's own CANCEL ends with.
        own = causes.of_number(cause) if cause != _INTERWORKING and not entry.tried else None
        if cause == _CAUSE_UNKNOWN or (entry.caller_gave_up and own is None):
            return Cause.CANCEL
        return entry.outcome or causes.of_number(cause) or Cause.NO_ANSWER

    # -- time, and what was missed --------------------------------------------------------------------------

    def _schedule(self, call: Call) -> None:
        """Keep `call` among those that time concerns, or take it from there."""
        party = call.party
        entry = call.open_entry
        in_dialplan = (
            entry is not None
            and not entry.answered
            and call.direction is Direction.IN
            and party is not None
            and party.up
            and not call.still_trying()
        )
        if not in_dialplan:
            call.next_question_at = None
        elif call.next_question_at is None:
            call.question_delay = _FIRST_QUESTION_AFTER
            call.next_question_at = self._now + call.question_delay
        deadline = _next(call)
        if deadline < _NEVER:
            self._waiting[call.call_id] = call
            self._next_deadline = min(self._next_deadline, deadline)
        else:
            self._waiting.pop(call.call_id, None)

    def _ask_about(self, call: Call) -> None:
        if call.party is not None:
            self._questions.add(call.party.uniqueid)
        call.question_delay = min(call.question_delay * 2, _QUESTIONS_AT_MOST_EVERY)
        call.next_question_at = self._now + call.question_delay

    def _reconcile(self, snapshot: Snapshot) -> list[CallEvent]:
        """Make what is known equal to what is there: end what is gone, take in what is new."""
        listed = {channel.uniqueid: channel for channel in snapshot.channels}
        events = self._close_unlisted(set(listed), snapshot)
        # One that ended while the list was made may still be in it. Else nothing of the old stream comes again: a PBX
        # that was restarted within a second gives the same Uniqueids again, to other channels.
        for uniqueid in self._ended.since(snapshot.began):
            listed.pop(uniqueid, None)
        # The oldest first: the first device of a call decides its direction.
        for one in sorted(listed.values(), key=age):
            events += self._take_in(one, snapshot.at)
        self._leave_queues(listed.values(), snapshot.at)
        # A listing does not say that two halves of a Local channel are connected; their names do.
        halves = {channel.name: channel.uniqueid for channel in snapshot.channels}
        for name, uniqueid in halves.items():
            other = halves.get(name.removesuffix(";1") + ";2") if name.endswith(";1") else None
            if other is not None:
                events += self._local_bridged(LocalBridged(snapshot.at, uniqueid, other))
        resumed, self._without_channel = self._without_channel, {}
        for call in resumed.values():
            if not call.channels:
                events += self._end(call, snapshot.at, _CAUSE_UNKNOWN)
                self._forget(call)
        return events

    def _close_unlisted(self, listed: set[str], snapshot: Snapshot) -> list[CallEvent]:
        events: list[CallEvent] = []
        for uniqueid, channel in list(self._switchboard.channels.items()):
            # One that was created while the list was made may be missing from it.
            if uniqueid not in listed and channel.created_at < snapshot.began:
                events += self._channel_gone(ChannelGone(snapshot.at, uniqueid, _CAUSE_UNKNOWN))
        return events

    def _take_in(self, listed: ChannelListed, at: float) -> list[CallEvent]:
        known = self._switchboard.channels.get(listed.uniqueid)
        bridge = known.bridge if known is not None else ""
        events: list[CallEvent] = []
        for signal in signals_of(listed, at, known=known is not None, bridge=bridge):
            events += self._handlers[type(signal)](signal)
        return events

    def _leave_queues(self, listed: Iterable[ChannelListed], at: float) -> None:
        """Note which callers wait in their queue no longer."""
        channels = self._switchboard.channels
        waiting = {
            channels[one.uniqueid].call.call_id
            for one in listed
            if one.queue and not one.bridge and one.uniqueid in channels
        }
        for call in dict.fromkeys(self._calls.values()):
            if call.queue and call.party is not None and call.call_id not in waiting:
                self._queue_left(QueueLeft(at, call.party.uniqueid, call.queue))


def _nothing(_: Signal) -> list[CallEvent]:
    return []


def _next(call: Call) -> float:
    """Return when time concerns `call` next."""
    entry = call.open_entry
    announce_at = entry.announce_at if entry is not None else None
    return min(_NEVER if time is None else time for time in (announce_at, call.next_question_at))
