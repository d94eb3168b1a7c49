"""What the tracker hears: what happened to channels, in the order in which the PBX said so.

One class per kind of signal, with just the fields that some rule needs. `asterisk/` makes them from AMI events;
the tests make them by hand. `at` is in seconds of one clock that never goes back; `uniqueid` names a
channel for good, `linkedid` the call that it belongs to at that moment (both as Asterisk gives them,
`epoch.sequence`, with `systemname-` in front where one is set).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TypeVar, dataclass_transform

_SignalT = TypeVar("_SignalT")


@dataclass_transform(frozen_default=True)
def _signal(kind: type[_SignalT]) -> type[_SignalT]:
    """Make a dataclass that the type checker keeps from being changed.

    One that Python itself keeps from being changed takes six times as long to make, and a PBX that restarts its queues
    sends a hundred thousand signals a second.
    """
    return dataclass(slots=True)(kind)


class ChannelState(IntEnum):
    """The states of a channel that matter here (numbers of Asterisk's `enum ast_channel_state`)."""

    DOWN = 0
    """Just made by the PBX, to be dialled."""
    RING = 4
    """A device calls in."""
    RINGING = 5
    UP = 6


@_signal
class ChannelCreated:
    """A channel exists. `state` DOWN: the PBX dials it; RING: the device on it calls."""

    at: float
    uniqueid: str
    linkedid: str
    name: str
    state: int
    context: str = ""
    exten: str = ""
    caller_number: str = ""
    caller_name: str = ""


@_signal
class ChannelStateChanged:
    """A channel rings or is up."""

    at: float
    uniqueid: str
    linkedid: str
    state: int


@_signal
class ChannelRenamed:
    """A channel goes on under another name (masquerade: pick-up, transfer, parking)."""

    at: float
    uniqueid: str
    name: str


@_signal
class DialBegan:
    """`uniqueid` (empty: an Originate without a caller) dials `dest_uniqueid`.

    `exten` is where the dialling channel is in the dialplan, `dial_string` what `Dial()` was given after the
    technology (`492214710334@trunk`), `caller_number` the number that the dialling channel shows.
    """

    at: float
    uniqueid: str
    linkedid: str
    dest_uniqueid: str
    dest_linkedid: str
    exten: str = ""
    dial_string: str = ""
    caller_number: str = ""


@_signal
class DialEnded:
    """The dialling of `dest_uniqueid` ended with `status` (DIALSTATUS: ANSWER, BUSY, CANCEL, NOANSWER, …).

    Can come twice for one channel.
    """

    at: float
    dest_uniqueid: str
    status: str


@_signal
class HangupRequested:
    """The device on the channel itself asked to end the call (Asterisk's own decisions do not say so)."""

    at: float
    uniqueid: str


@_signal
class ChannelGone:
    """A channel ended. `cause` is a Q.850 cause number as Asterisk reports it; 0 where unknown."""

    at: float
    uniqueid: str
    cause: int


@_signal
class BridgeEntered:
    """A channel joined a bridge. `holding`: a bridge whose members do not hear each other (parking)."""

    at: float
    uniqueid: str
    linkedid: str
    bridge: str
    holding: bool = False


@_signal
class BridgeLeft:
    """A channel left a bridge."""

    at: float
    uniqueid: str
    bridge: str


@_signal
class LocalBridged:
    """The two halves of a Local channel are connected."""

    at: float
    first_uniqueid: str
    second_uniqueid: str


@_signal
class QueueJoined:
    """A caller waits in a queue."""

    at: float
    uniqueid: str
    queue: str


@_signal
class QueueLeft:
    """A caller waits in a queue no longer: connected, given up, timed out."""

    at: float
    uniqueid: str
    queue: str


@_signal
class MemberCalled:
    """A queue calls one of its members (AgentCalled)."""

    at: float
    uniqueid: str
    dest_uniqueid: str
    queue: str
    member_name: str


@_signal
class BlindTransferred:
    """The device on `transferer_uniqueid` sent `transferee_uniqueid` on to `exten` without asking there.

    `transferee_uniqueid` is empty where the transfer took a whole bridge.
    """

    at: float
    transferer_uniqueid: str
    transferee_uniqueid: str
    exten: str


@_signal
class Parked:
    """A channel waits in a parking space."""

    at: float
    uniqueid: str


@_signal
class ApplicationSeen:
    """A channel runs this dialplan application (from Newexten, or from the answer to a Status action)."""

    at: float
    uniqueid: str
    application: str


@_signal
class DialRequested:
    """The dialplan hands the outgoing call of the channel to the bridge: `UserEvent(ZammadDial,Number: …)`."""

    at: float
    uniqueid: str
    linkedid: str
    number: str


@_signal
class ChannelListed:
    """One channel of a snapshot (an `Event: Status`). `bridge` is empty where it is in none."""

    uniqueid: str
    linkedid: str
    name: str
    state: int
    context: str = ""
    exten: str = ""
    caller_number: str = ""
    caller_name: str = ""
    bridge: str = ""
    application: str = ""
    queue: str = ""
    """The queue in which it waits, where `application` is Queue."""


@_signal
class Snapshot:
    """All channels that exist: what was known and is not listed has ended unseen.

    The list was begun at `began` and complete at `at`: what was created or ended in between may be missing from it, or
    still be in it.
    """

    at: float
    channels: tuple[ChannelListed, ...]
    began: float = float("inf")


Signal = (
    ChannelCreated
    | ChannelStateChanged
    | ChannelRenamed
    | DialBegan
    | DialEnded
    | HangupRequested
    | ChannelGone
    | BridgeEntered
    | BridgeLeft
    | LocalBridged
    | QueueJoined
    | QueueLeft
    | MemberCalled
    | BlindTransferred
    | Parked
    | ApplicationSeen
    | DialRequested
    | Snapshot
)
