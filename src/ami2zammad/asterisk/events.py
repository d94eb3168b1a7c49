"""AMI events → signals: one table, event name → function(message, at).

A function takes the undecoded message and picks just the headers that its signal needs: most of a stream are
events that no rule needs, and of the others most headers. Header names are those of Asterisk 16 to 22 (measured
on both; they have not changed since 12). Nothing here raises: where a header that a signal cannot do without
is missing or garbled, the function gives None.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from ami2zammad.calls.signalling import (
    ApplicationSeen,
    BlindTransferred,
    BridgeEntered,
    BridgeLeft,
    ChannelCreated,
    ChannelGone,
    ChannelListed,
    ChannelRenamed,
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
)

TEXT_LIMIT = 1024
"""Bytes of a value that are kept. Asterisk's own fields are shorter; this bounds what a signal can hold."""
ID_LIMIT = 150
"""Characters of an id (AST_MAX_UNIQUEID of asterisk/channel.h)."""

_EVENT = b"Event: "
_USER_EVENT: Final = b"UserEvent"
_CONTROLS: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def event_name(message: bytes) -> bytes:
    """Give the name of the event, empty for what is none. Asterisk always sends it first.

    Of what the dialplan itself sends it is the name that the dialplan gave it: `UserEvent/ZammadDial`, say.
    """
    if not message.startswith(_EVENT):
        return b""
    end = message.find(b"\r\n", 7)
    name = message[7:end] if end > 0 else message[7:]
    # Else every event of other programs' dialplan would be taken for a garbled one of ours.
    return name if name != _USER_EVENT else b"UserEvent/" + raw_header(message, b"\r\nUserEvent: ")


def raw_header(message: bytes, name: bytes) -> bytes:
    r"""Give a header's undecoded value, empty where there is none; `name` as it stands: `b"\r\nExten: "`.

    The first header of a message is not found (it is the event's name).
    """
    start = message.find(name)
    if start < 0:
        return b""
    start += len(name)
    end = message.find(b"\r\n", start)
    return message[start:end] if end >= 0 else message[start:]


def text_header(message: bytes, name: bytes) -> str:
    """Give a header's value: at most 1024 bytes of it, bad bytes and control characters replaced by U+FFFD.

    `<unknown>`, Asterisk's way to write that there is none, becomes empty.
    """
    # As `raw_header`, once more: three of four headers of a signal are read here.
    start = message.find(name)
    if start < 0:
        return ""
    start += len(name)
    end = message.find(b"\r\n", start)
    raw = message[start:end] if end >= 0 else message[start:]
    if raw == b"<unknown>":
        return ""
    text = raw[:TEXT_LIMIT].decode("utf-8", "replace")
    return text if text.isprintable() else _CONTROLS.sub("\N{REPLACEMENT CHARACTER}", text)


def _id(message: bytes, name: bytes) -> str:
    text = text_header(message, name)
    return text if len(text) <= ID_LIMIT else ""


def _number(message: bytes, name: bytes) -> int | None:
    raw = raw_header(message, name)
    return int(raw) if raw.isdigit() and len(raw) < 10 else None  # noqa: PLR2004 -- more digits: no state or cause


def _newchannel(message: bytes, at: float) -> Signal | None:
    uniqueid, linkedid = _id(message, b"\r\nUniqueid: "), _id(message, b"\r\nLinkedid: ")
    name, state = text_header(message, b"\r\nChannel: "), _number(message, b"\r\nChannelState: ")
    if not (uniqueid and linkedid and name) or state is None:
        return None
    return ChannelCreated(
        at,
        uniqueid,
        linkedid,
        name,
        state,
        text_header(message, b"\r\nContext: "),
        text_header(message, b"\r\nExten: "),
        text_header(message, b"\r\nCallerIDNum: "),
        text_header(message, b"\r\nCallerIDName: "),
    )


def _newstate(message: bytes, at: float) -> Signal | None:
    uniqueid, linkedid = _id(message, b"\r\nUniqueid: "), _id(message, b"\r\nLinkedid: ")
    state = _number(message, b"\r\nChannelState: ")
    if not (uniqueid and linkedid) or state is None:
        return None
    return ChannelStateChanged(at, uniqueid, linkedid, state)


def _rename(message: bytes, at: float) -> Signal | None:
    uniqueid, name = _id(message, b"\r\nUniqueid: "), text_header(message, b"\r\nNewname: ")
    return ChannelRenamed(at, uniqueid, name) if uniqueid and name else None


def _dial_begin(message: bytes, at: float) -> Signal | None:
    # An Originate of a bare channel has only the Dest… headers.
    dest, dest_linkedid = _id(message, b"\r\nDestUniqueid: "), _id(message, b"\r\nDestLinkedid: ")
    if not (dest and dest_linkedid):
        return None
    return DialBegan(
        at,
        _id(message, b"\r\nUniqueid: "),
        _id(message, b"\r\nLinkedid: "),
        dest,
        dest_linkedid,
        text_header(message, b"\r\nExten: "),
        text_header(message, b"\r\nDialString: "),
        text_header(message, b"\r\nCallerIDNum: ") or text_header(message, b"\r\nDestConnectedLineNum: "),
    )


def _dial_end(message: bytes, at: float) -> Signal | None:
    dest, status = _id(message, b"\r\nDestUniqueid: "), text_header(message, b"\r\nDialStatus: ")
    return DialEnded(at, dest, status) if dest and status else None


def _hangup_request(message: bytes, at: float) -> Signal | None:
    uniqueid = _id(message, b"\r\nUniqueid: ")
    return HangupRequested(at, uniqueid) if uniqueid else None


def _hangup(message: bytes, at: float) -> Signal | None:
    # That the channel is gone matters more than why: a cause that is missing or garbled counts as unknown.
    uniqueid = _id(message, b"\r\nUniqueid: ")
    return ChannelGone(at, uniqueid, _number(message, b"\r\nCause: ") or 0) if uniqueid else None


def _bridge_enter(message: bytes, at: float) -> Signal | None:
    uniqueid, linkedid = _id(message, b"\r\nUniqueid: "), _id(message, b"\r\nLinkedid: ")
    bridge = _id(message, b"\r\nBridgeUniqueid: ")
    if not (uniqueid and linkedid and bridge):
        return None
    holding = raw_header(message, b"\r\nBridgeTechnology: ") == b"holding_bridge"
    return BridgeEntered(at, uniqueid, linkedid, bridge, holding)


def _bridge_leave(message: bytes, at: float) -> Signal | None:
    uniqueid, bridge = _id(message, b"\r\nUniqueid: "), _id(message, b"\r\nBridgeUniqueid: ")
    return BridgeLeft(at, uniqueid, bridge) if uniqueid and bridge else None


def _local_bridge(message: bytes, at: float) -> Signal | None:
    first, second = _id(message, b"\r\nLocalOneUniqueid: "), _id(message, b"\r\nLocalTwoUniqueid: ")
    return LocalBridged(at, first, second) if first and second else None


def _queue_join(message: bytes, at: float) -> Signal | None:
    uniqueid, queue = _id(message, b"\r\nUniqueid: "), text_header(message, b"\r\nQueue: ")
    return QueueJoined(at, uniqueid, queue) if uniqueid and queue else None


def _queue_leave(message: bytes, at: float) -> Signal | None:
    uniqueid, queue = _id(message, b"\r\nUniqueid: "), text_header(message, b"\r\nQueue: ")
    return QueueLeft(at, uniqueid, queue) if uniqueid and queue else None


def _agent_called(message: bytes, at: float) -> Signal | None:
    uniqueid, dest = _id(message, b"\r\nUniqueid: "), _id(message, b"\r\nDestUniqueid: ")
    queue = text_header(message, b"\r\nQueue: ")
    if not (uniqueid and dest and queue):
        return None
    return MemberCalled(at, uniqueid, dest, queue, text_header(message, b"\r\nMemberName: "))


def _blind_transfer(message: bytes, at: float) -> Signal | None:
    # Where a whole bridge is transferred, there are no Transferee… headers.
    transferer = _id(message, b"\r\nTransfererUniqueid: ")
    if not transferer:
        return None
    transferee, exten = _id(message, b"\r\nTransfereeUniqueid: "), text_header(message, b"\r\nExtension: ")
    return BlindTransferred(at, transferer, transferee, exten)


def _parked(message: bytes, at: float) -> Signal | None:
    uniqueid = _id(message, b"\r\nParkeeUniqueid: ")
    return Parked(at, uniqueid) if uniqueid else None


def application_seen(message: bytes, at: float) -> Signal | None:
    """Read which application a channel runs, from a `Newexten`, or from a `Status` that lists one channel."""
    uniqueid, application = _id(message, b"\r\nUniqueid: "), text_header(message, b"\r\nApplication: ")
    return ApplicationSeen(at, uniqueid, application) if uniqueid and application else None


def _dial_requested(message: bytes, at: float) -> Signal | None:
    # Asterisk writes the channel's headers first, and whatever the dialplan adds behind them (seen on 16 and 22).
    uniqueid, linkedid = _id(message, b"\r\nUniqueid: "), _id(message, b"\r\nLinkedid: ")
    number = text_header(message, b"\r\nNumber: ")
    return DialRequested(at, uniqueid, linkedid, number) if uniqueid and linkedid and number else None


def channel_listed(message: bytes) -> ChannelListed | None:
    """Read one channel of a snapshot from an `Event: Status` (AMI action Status, which lists all channels)."""
    uniqueid, linkedid = _id(message, b"\r\nUniqueid: "), _id(message, b"\r\nLinkedid: ")
    name, state = text_header(message, b"\r\nChannel: "), _number(message, b"\r\nChannelState: ")
    if not (uniqueid and linkedid and name) or state is None:
        return None
    application = text_header(message, b"\r\nApplication: ")
    return ChannelListed(
        uniqueid,
        linkedid,
        name,
        state,
        text_header(message, b"\r\nContext: "),
        # Exten is where the channel is now, DNID what was dialled.
        text_header(message, b"\r\nDNID: ") or text_header(message, b"\r\nExten: "),
        text_header(message, b"\r\nCallerIDNum: "),
        text_header(message, b"\r\nCallerIDName: "),
        _id(message, b"\r\nBridgeID: "),
        application,
        # Queue(name,options,…): Status gives what an application was called with as Data.
        text_header(message, b"\r\nData: ").partition(",")[0] if application == "Queue" else "",
    )


EventReader = Callable[[bytes, float], Signal | None]

EVENTS: Final[Mapping[bytes, EventReader]] = MappingProxyType(
    {
        b"Newchannel": _newchannel,
        b"Newstate": _newstate,
        b"Rename": _rename,
        b"DialBegin": _dial_begin,
        b"DialEnd": _dial_end,
        b"HangupRequest": _hangup_request,
        b"Hangup": _hangup,
        b"BridgeEnter": _bridge_enter,
        b"BridgeLeave": _bridge_leave,
        b"LocalBridge": _local_bridge,
        b"QueueCallerJoin": _queue_join,
        # Comes after QueueCallerAbandon too, which therefore is not needed (seen on 16 and 22).
        b"QueueCallerLeave": _queue_leave,
        b"AgentCalled": _agent_called,
        b"BlindTransfer": _blind_transfer,
        b"ParkedCall": _parked,
        b"Newexten": application_seen,
        b"UserEvent/ZammadDial": _dial_requested,
    }
)
"""What reads which event. An event that is not here is of no interest; None from a reader means garbled."""

READERS: Final[Mapping[bytes, EventReader]] = MappingProxyType(
    {_EVENT + name: reader for name, reader in EVENTS.items() if b"/" not in name}
)
"""The same by the message's first line, for who reads many; what the dialplan named is not among them."""
