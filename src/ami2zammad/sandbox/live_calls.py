"""Calls that happen now, on a PBX that is none.

A `PbxSandbox` says what an Asterisk 22 says to an AMI account with `read = call,agent`, one step of a call after the
other, in the shape of the recordings in tests/recordings/22, header by header. (DeviceStateChange comes at the end of
a step: Asterisk sends it from a thread of its own. QueueMemberStatus is left out: it depends on the PBX's queues.)
Cheap: a step is put together as one text and written once, a channel costs a small object and the headers that a
Status lists.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from ami2zammad.sandbox.pbx import Headers, PbxSandbox

_UNKNOWN: Final = "<unknown>"
_DOWN, _RING, _RINGING, _UP = 0, 4, 5, 6
_STATES: Final = {_DOWN: "Down", _RING: "Ring", _RINGING: "Ringing", _UP: "Up"}
_CAUSES: Final = {
    0: "Unknown",
    16: "Normal Clearing",
    26: "Answered elsewhere",
    127: "Interworking, unspecified",
}
# The status of SIP with which the caller's channel ends.
_CANCELLED: Final = "TechCause: 487\r\n"
# Numbers of bridges are Asterisk's UUIDs; these are as unique, and cheaper.
_BRIDGE: Final = "5a4db0c5-0000-4000-8000-%012x"


@dataclass(frozen=True, slots=True)
class Phone:
    """An agent's device: `PJSIP/<extension>`, which shows `name`."""

    extension: str
    name: str


@dataclass(slots=True, eq=False)
class _Leg:
    """One channel."""

    name: str
    uniqueid: str
    linkedid: str
    state: int
    number: str
    caller_name: str
    context: str
    exten: str
    application: str
    data: str
    dnid: str = ""
    priority: int = 1
    connected_number: str = _UNKNOWN
    connected_name: str = _UNKNOWN
    bridge: str = ""

    @property
    def device(self) -> str:
        return self.name.rpartition("-")[0]

    def connect(self, other: _Leg) -> None:
        """Show who is at the other end."""
        self.connected_number, self.connected_name = other.number, other.caller_name

    def text(self, prefix: str = "") -> str:
        """Return the headers by which an event names a channel."""
        return (
            f"{prefix}Channel: {self.name}\r\n"
            f"{prefix}ChannelState: {self.state}\r\n"
            f"{prefix}ChannelStateDesc: {_STATES[self.state]}\r\n"
            f"{prefix}CallerIDNum: {self.number}\r\n"
            f"{prefix}CallerIDName: {self.caller_name}\r\n"
            f"{prefix}ConnectedLineNum: {self.connected_number}\r\n"
            f"{prefix}ConnectedLineName: {self.connected_name}\r\n"
            f"{prefix}Language: en\r\n"
            f"{prefix}AccountCode: \r\n"
            f"{prefix}Context: {self.context}\r\n"
            f"{prefix}Exten: {self.exten}\r\n"
            f"{prefix}Priority: {self.priority}\r\n"
            f"{prefix}Uniqueid: {self.uniqueid}\r\n"
            f"{prefix}Linkedid: {self.linkedid}\r\n"
        )

    def listed(self) -> Headers:
        """Return what a Status says of the channel."""
        return {
            "Channel": self.name,
            "ChannelState": str(self.state),
            "ChannelStateDesc": _STATES[self.state],
            "CallerIDNum": self.number,
            "CallerIDName": self.caller_name,
            "ConnectedLineNum": self.connected_number,
            "ConnectedLineName": self.connected_name,
            "Language": "en",
            "AccountCode": "",
            "Context": self.context,
            "Exten": self.exten,
            "Priority": str(self.priority),
            "Uniqueid": self.uniqueid,
            "Linkedid": self.linkedid,
            "Type": "PJSIP",
            "DNID": self.dnid,
            "EffectiveConnectedLineNum": self.connected_number,
            "EffectiveConnectedLineName": self.connected_name,
            "TimeToHangup": "0",
            "BridgeID": self.bridge,
            "Application": self.application,
            "Data": self.data,
            "Nativeformats": "(alaw)",
            "Readformat": "alaw",
            "Readtrans": "",
            "Writeformat": "alaw",
            "Writetrans": "",
            "Callgroup": "0",
            "Pickupgroup": "0",
            "Seconds": "0",
        }


class LiveCall:
    """One call, from its first ring to its end, made by `LiveCalls`; as it stands here, an agent's to the outside.

    A step changes the state of the PBX at once, also if nobody is connected to hear of it, and returns when all who are
    have been told. Steps of one call are made one after the other. On a call that is over a step does nothing: the
    PBX may have been restarted meanwhile.
    """

    def __init__(self, calls: LiveCalls, first: _Leg, ringing: Sequence[_Leg]) -> None:
        self._calls = calls
        self._first = first
        self._ringing = list(ringing)
        self._talking: _Leg | None = None
        self.answered = False
        self.over = False

    @property
    def call_id(self) -> str:
        """What the call is known by: the Uniqueid of its first channel."""
        return self._first.uniqueid

    async def answer(self, extension: str = "") -> None:
        """Let the phone at `extension` (the first that rings if empty) take the call; the others stop ringing."""
        if self.over or not self._ringing:
            return
        taker = next((leg for leg in self._ringing if leg.device == f"PJSIP/{extension}"), self._ringing[0])
        others = [leg for leg in self._ringing if leg is not taker]
        self._ringing, self._talking, self.answered = [], taker, True
        await self._calls.step(self._answer(taker, others), changed=[self._first, taker], gone=others)

    async def hang_up(self) -> None:
        """Let the party that began the call hang up."""
        if self.over:
            return
        other = self._talking
        text = self._give_up() if other is None else self._end(other)
        gone = [self._first, *self._ringing, *([] if other is None else [other])]
        self.ended()
        await self._calls.step(text, gone=gone)

    def ended(self) -> None:
        """Take note that the call is over."""
        self.over = True
        self._calls.live.pop(self.call_id, None)

    def _answer(self, taker: _Leg, others: Sequence[_Leg]) -> str:
        first = self._first
        taker.state = _UP
        text = _event("Newstate", taker.text())
        if others:
            first.connect(taker)
            text += _event("NewConnectedLine", first.text())
            text += "".join(_dial(first, leg, "DialEnd", "DialStatus: CANCEL\r\n") for leg in others)
        taker.exten = ""
        text += _dial(first, taker, "DialEnd", "DialStatus: ANSWER\r\n")
        if first.state != _UP:
            first.state = _UP
            text += _event("Newstate", first.text())
        text += "".join(_hangup(leg, 26) for leg in others)
        text += self._join(taker)
        return text + "".join(_device(leg, "NOT_INUSE") for leg in others)

    def _join(self, taker: _Leg) -> str:
        """Put both into a bridge."""
        first = self._first
        bridge = first.bridge = taker.bridge = _BRIDGE % next(self._calls.bridges)
        return (
            _event("BridgeCreate", _bridge(bridge, 0))
            + _event("BridgeEnter", _bridge(bridge, 1), taker.text())
            + _event("BridgeEnter", _bridge(bridge, 2), first.text())
            + _device(taker, "INUSE")
        )

    def _end(self, other: _Leg) -> str:
        """Say what the end of an answered call looks like when the party that began it hangs up."""
        first = self._first
        bridge = first.bridge
        return (
            _event("HangupRequest", first.text(), "Cause: 16\r\n")
            + _event("BridgeLeave", _bridge(bridge, 1, "native_rtp"), first.text())
            + _event("SoftHangupRequest", first.text(), "Cause: 16\r\n")
            + self._last_words(first, other)
            + _device(first, "NOT_INUSE")
            + _device(other, "NOT_INUSE")
        )

    def _last_words(self, first: _Leg, other: _Leg) -> str:
        return (
            _hangup(first, 16)
            + _event("BridgeLeave", _bridge(first.bridge, 0, "native_rtp"), other.text())
            + _event("BridgeDestroy", _bridge(first.bridge, 0, "native_rtp"))
            + _hangup(other, 16)
        )

    def _give_up(self) -> str:
        """Say what it looks like when the party that began the call gives up before anybody answers."""
        first = self._first
        return (
            _event("HangupRequest", first.text(), "Cause: 127\r\n", _CANCELLED)
            + "".join(_dial(first, leg, "DialEnd", "DialStatus: CANCEL\r\n") for leg in self._ringing)
            + _event("SoftHangupRequest", first.text(), "Cause: 16\r\n", _CANCELLED)
            + _hangup(first, 127, _CANCELLED)
            + "".join(_hangup(leg, 127, "TechCause: 500\r\n") for leg in self._ringing)
            + "".join(_device(leg, "NOT_INUSE") for leg in (first, *self._ringing))
        )


class InboundCall(LiveCall):
    """A call from outside that rings at phones."""

    async def transfer(self, phone: Phone) -> None:
        """Let the agent who talks send the caller on to `phone`, without asking there: it rings, `answer` takes it."""
        agent = self._talking
        if self.over or agent is None:
            return
        first = self._first
        text = _event("BridgeLeave", _bridge(first.bridge, 1), agent.text())
        text += _event(
            "BlindTransfer",
            "Result: Success\r\n",
            agent.text("Transferer"),
            first.text("Transferee"),
            _bridge(first.bridge, 2, "native_rtp"),
            f"IsExternal: Yes\r\nContext: {agent.context}\r\nExtension: {phone.extension}\r\n",
        )
        text += _hangup(agent, 16)
        first.context, first.exten = agent.context, phone.extension
        text += _event("BridgeLeave", _bridge(first.bridge, 0), first.text())
        text += _event("BridgeDestroy", _bridge(first.bridge, 0))
        text += _device(agent, "NOT_INUSE")
        first.bridge, self._talking = "", None
        leg = self._calls.phone_leg(phone, first)
        self._ringing = [leg]
        await self._calls.step(text + _ring(first, [leg]), changed=[first, leg], gone=[agent])


class QueueCall(LiveCall):
    """A call from outside that waits in a queue, whose members ring; there may be none."""

    def __init__(self, calls: LiveCalls, first: _Leg, ringing: Sequence[_Leg], queue: str) -> None:
        super().__init__(calls, first, ringing)
        self._queue = queue

    def _answer(self, taker: _Leg, others: Sequence[_Leg]) -> str:
        first, place = self._first, f"Queue: {self._queue}\r\nPosition: 1\r\nCount: 0\r\n"
        taker.state = _UP
        called_off = "".join(_dial(first, leg, "DialEnd", "DialStatus: CANCEL\r\n") for leg in others)
        text = _event("Newstate", taker.text()) + _dial(first, taker, "DialEnd", "DialStatus: ANSWER\r\n") + called_off
        first.connect(taker)
        text += _event("NewConnectedLine", first.text())
        # The queue says it a second time.
        text += "".join(_dial(first, leg, "DialEnd", "DialStatus: CANCEL\r\n") for leg in others)
        text += "".join(_hangup(leg, 26) for leg in others)
        text += _event("MusicOnHoldStop", first.text())
        text += _event("QueueCallerLeave", first.text(), place, privilege="agent")
        text += _event(
            "AgentConnect", first.text(), self._member(taker), "HoldTime: 0\r\nRingTime: 0\r\n", privilege="agent"
        )
        return text + self._join(taker) + "".join(_device(leg, "NOT_INUSE") for leg in others)

    def _end(self, other: _Leg) -> str:
        first = self._first
        return (
            _event("HangupRequest", first.text())
            + _event(
                "AgentComplete",
                first.text(),
                self._member(other),
                "HoldTime: 0\r\nTalkTime: 0\r\nReason: caller\r\n",
                privilege="agent",
            )
            + _event("BridgeLeave", _bridge(first.bridge, 1, "native_rtp"), first.text())
            + _event("BridgeLeave", _bridge(first.bridge, 0, "native_rtp"), other.text())
            + _event("BridgeDestroy", _bridge(first.bridge, 0, "native_rtp"))
            + _event("SoftHangupRequest", first.text(), "Cause: 16\r\n")
            + _hangup(other, 16)
            + _hangup(first, 16)
            + _device(other, "NOT_INUSE")
            + _device(first, "NOT_INUSE")
        )

    def _give_up(self) -> str:
        first, place = self._first, f"Queue: {self._queue}\r\nPosition: 1\r\n"
        called_off = "".join(_dial(first, leg, "DialEnd", "DialStatus: CANCEL\r\n") for leg in self._ringing)
        return (
            _event("HangupRequest", first.text())
            + _event("MusicOnHoldStop", first.text())
            + called_off
            + called_off
            + "".join(_hangup(leg, 0) for leg in self._ringing[1:])
            + _event(
                "QueueCallerAbandon", first.text(), place, "OriginalPosition: 1\r\nHoldTime: 0\r\n", privilege="agent"
            )
            + _event("QueueCallerLeave", first.text(), place, "Count: 0\r\n", privilege="agent")
            + _event("SoftHangupRequest", first.text(), "Cause: 16\r\n")
            + "".join(_hangup(leg, 0) for leg in self._ringing[:1])
            + _hangup(first, 0)
            + "".join(_device(leg, "NOT_INUSE") for leg in (first, *self._ringing))
        )

    def _member(self, leg: _Leg) -> str:
        return (
            leg.text("Dest") + f"Queue: {self._queue}\r\nInterface: {leg.device}\r\nMemberName: {leg.caller_name}\r\n"
        )

    def begin(self) -> str:
        """Say what happens until all members ring."""
        first = self._first
        text = _event("Newchannel", first.text())
        first.state = _UP
        text += _event("Newstate", first.text())
        first.priority = 2
        place = f"Queue: {self._queue}\r\nPosition: 1\r\nCount: 1\r\n"
        text += _event("QueueCallerJoin", first.text(), place, privilege="agent")
        text += _event("MusicOnHoldStart", first.text(), "Class: default\r\n")
        for leg in self._ringing:
            # DialBegin shows the channel as it was made.
            dialled = _dial(first, leg, "DialBegin", f"DialString: {leg.device}\r\n")
            text += _event("Newchannel", leg.text())
            leg.connect(first)
            leg.exten = first.exten
            text += _event("AgentCalled", first.text(), self._member(leg), privilege="agent") + dialled
        for leg in self._ringing:
            leg.state = _RINGING
            text += _event("Newstate", leg.text()) + _event("NewConnectedLine", leg.text())
            text += _dial(first, leg, "DialState", "DialStatus: RINGING\r\n")
        return text + "".join(_device(leg, "RINGING") for leg in self._ringing) + _device(first, "INUSE")


class LiveCalls:
    """All calls of one `PbxSandbox`, whose `channels` are those of these calls at any moment.

    `trunk` is the name of the trunk's endpoint, `clock` gives Unix seconds. No Uniqueid comes twice, whatever happens.
    """

    def __init__(self, pbx: PbxSandbox, *, trunk: str = "trunk", clock: Callable[[], float] = time.time) -> None:
        self._pbx = pbx
        self._trunk = trunk
        self._clock = clock
        self._numbers = itertools.count()
        self._not_before = 0
        self.bridges = itertools.count(1)
        self.live: dict[str, LiveCall] = {}
        """The calls that go on, by `call_id`."""

    async def inbound(self, caller: str, did: str, *phones: Phone) -> InboundCall:
        """Let `caller` dial `did`, where all `phones` ring."""
        dial = "&".join(f"PJSIP/{phone.extension}" for phone in phones)
        first = self._first_leg(self._trunk, (caller, _UNKNOWN), ("from-trunk", did), ("Dial", f"{dial},20,tT"))
        legs = [self.phone_leg(phone, first) for phone in phones]
        call = InboundCall(self, first, legs)
        text = _event("Newchannel", first.text()) + _ring(first, legs) + _device(first, "INUSE")
        await self._begin(call, text, [first, *legs])
        return call

    async def queued(self, caller: str, did: str, queue: str, *members: Phone) -> QueueCall:
        """Let `caller` dial `did`, which leads into `queue`, all `members` of which ring."""
        first = self._first_leg(self._trunk, (caller, _UNKNOWN), ("from-trunk", did), ("Queue", f"{queue},,,,20"))
        legs = [self.phone_leg(phone, first, "AppQueue") for phone in members]
        call = QueueCall(self, first, legs, queue)
        await self._begin(call, call.begin(), [first, *legs])
        return call

    async def outbound(self, phone: Phone, dialled: str, number: str) -> LiveCall:
        """Let `phone` dial `dialled`, upon which the trunk is asked for `number`, and it rings there."""
        data = f"PJSIP/{number}@{self._trunk}"
        first = self._first_leg(
            phone.extension, (phone.extension, phone.name), ("from-internal", dialled), ("Dial", f"{data},20,tT")
        )
        leg = self._leg(self._trunk, first, (_UNKNOWN, _UNKNOWN), ("from-trunk", "AppDial"))
        call = LiveCall(self, first, [leg])
        text = _event("Newchannel", first.text()) + _event("Newchannel", leg.text())
        leg.number, leg.exten = dialled, dialled
        leg.connect(first)
        text += _event("NewCallerid", leg.text(), "CID-CallingPres: 0 (Presentation Allowed, Not Screened)\r\n")
        text += _event("NewConnectedLine", leg.text())
        text += _dial(first, leg, "DialBegin", f"DialString: {number}@{self._trunk}\r\n")
        first.connect(leg)
        text += _event("NewConnectedLine", first.text())
        leg.state = _RINGING
        text += _event("Newstate", leg.text()) + _dial(first, leg, "DialState", "DialStatus: RINGING\r\n")
        await self._begin(call, text + _device(leg, "RINGING") + _device(first, "INUSE"), [first, leg])
        return call

    def vanish(self) -> None:
        """End all calls without a word, as a PBX does that crashes; its numbers begin again, in a later second."""
        for call in list(self.live.values()):
            call.ended()
        self._pbx.channels.clear()
        self._numbers = itertools.count()
        self._not_before = self._now() + 1

    def phone_leg(self, phone: Phone, first: _Leg, application: str = "AppDial") -> _Leg:
        """Make the channel on which `phone` is going to ring."""
        return self._leg(phone.extension, first, (phone.extension, phone.name), ("from-internal", application))

    async def step(self, text: str, *, changed: Sequence[_Leg] = (), gone: Sequence[_Leg] = ()) -> None:
        """Bring the PBX's channels up to date and tell those who are connected."""
        channels = self._pbx.channels
        for leg in changed:
            channels[leg.uniqueid] = leg.listed()
        for leg in gone:
            channels.pop(leg.uniqueid, None)
        await self._pbx.send(text.encode())

    async def _begin(self, call: LiveCall, text: str, legs: Sequence[_Leg]) -> None:
        self.live[call.call_id] = call
        await self.step(text, changed=legs)

    def _now(self) -> int:
        return max(int(self._clock()), self._not_before)

    def _first_leg(
        self, endpoint: str, caller: tuple[str, str], place: tuple[str, str], application: tuple[str, str]
    ) -> _Leg:
        """Make a channel that begins a call: number and name, context and extension, application and its data."""
        name, uniqueid = self._new(endpoint)
        return _Leg(name, uniqueid, uniqueid, _RING, *caller, *place, *application, dnid=place[1])

    def _leg(self, endpoint: str, first: _Leg, called: tuple[str, str], doing: tuple[str, str]) -> _Leg:
        """Make a channel that is dialled for `first`: number and name, context and application."""
        name, uniqueid = self._new(endpoint)
        context, application = doing
        return _Leg(name, uniqueid, first.linkedid, _DOWN, *called, context, "s", application, "(Outgoing Line)")

    def _new(self, endpoint: str) -> tuple[str, str]:
        sequence = next(self._numbers)
        return f"PJSIP/{endpoint}-{sequence:08x}", f"{self._now()}.{sequence}"


def _event(name: str, *parts: str, privilege: str = "call") -> str:
    return f"Event: {name}\r\nPrivilege: {privilege},all\r\n{''.join(parts)}\r\n"


def _dial(first: _Leg, leg: _Leg, event: str, more: str) -> str:
    return _event(event, first.text(), leg.text("Dest"), more)


def _hangup(leg: _Leg, cause: int, more: str = "") -> str:
    return _event("Hangup", leg.text(), f"Cause: {cause}\r\nCause-txt: {_CAUSES[cause]}\r\n", more)


def _device(leg: _Leg, state: str) -> str:
    return f"Event: DeviceStateChange\r\nPrivilege: call,all\r\nDevice: {leg.device}\r\nState: {state}\r\n\r\n"


def _bridge(bridge: str, channels: int, technology: str = "simple_bridge") -> str:
    return (
        f"BridgeUniqueid: {bridge}\r\nBridgeType: basic\r\nBridgeTechnology: {technology}\r\n"
        f"BridgeCreator: <unknown>\r\nBridgeName: <unknown>\r\nBridgeNumChannels: {channels}\r\n"
        "BridgeVideoSourceMode: none\r\n"
    )


def _ring(first: _Leg, legs: Sequence[_Leg]) -> str:
    """Say what happens until all `legs` ring for the channel `first`."""
    text = ""
    for leg in legs:
        text += _event("Newchannel", leg.text())
        leg.connect(first)
        leg.exten = first.exten
        text += _event("NewConnectedLine", leg.text())
    text += "".join(_dial(first, leg, "DialBegin", f"DialString: {leg.number}\r\n") for leg in legs)
    if len(legs) == 1:
        first.connect(legs[0])
        text += _event("NewConnectedLine", first.text())
    for leg in legs:
        leg.state = _RINGING
        text += _event("Newstate", leg.text()) + _dial(first, leg, "DialState", "DialStatus: RINGING\r\n")
    return text + "".join(_device(leg, "RINGING") for leg in legs)
