"""Channels: which side they are on, and who is connected with whom."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from fnmatch import translate
from typing import TYPE_CHECKING, Final

from .signalling import ChannelState

if TYPE_CHECKING:
    from .call import Call

DEFAULT_TRUNK_CONTEXTS: Final = ("from-trunk*", "from-pstn*", "from-did*", "from-external*", "from-provider*")
"""What FreePBX and common guides call the context of calls from outside."""

# Asterisk's own channel technologies: they stand between devices and never are one.
_PLUMBING: Final = frozenset(
    {
        "Announcer",
        "AsyncGoto",
        "AudioSocket",
        "Bridge",
        "CBAnn",
        "CBRec",
        "Local",
        "Message",
        "MulticastRTP",
        "OutgoingSpoolFailed",
        "Parked",
        "Recorder",
        "Snoop",
        "Surrogate",
        "UnicastRTP",
        "WebSocket",
    }
)
# `-0000001a`, and `;1` of a Local half; `<ZOMBIE>` and `<MASQ>` are what a masquerade leaves behind.
_SUFFIX: Final = re.compile(r"-[0-9a-fA-F]+(;\d)?$")
_DEAD: Final = re.compile(r"<(?:ZOMBIE|MASQ)>$")
# More channels than this in one conversation: nobody waits for the answer of who talks with whom.
_LARGEST_CONVERSATION: Final = 256


class Side(Enum):
    """Where a channel leads."""

    OUTSIDE = "outside"
    """A trunk."""
    INSIDE = "inside"
    """An agent's device."""
    PLUMBING = "plumbing"
    """Asterisk itself."""


def base_name(name: str) -> str:
    """Return a channel's name without its suffix: `PJSIP/trunk` of `PJSIP/trunk-0000001a`."""
    return _SUFFIX.sub("", name)


class TrunkPatterns:
    """Knows trunks by globs on channel names and on the context in which a channel was created."""

    def __init__(self, trunks: Iterable[str] = (), contexts: Iterable[str] = DEFAULT_TRUNK_CONTEXTS) -> None:
        self._name = _any_of(trunks)
        self._context = _any_of(contexts)

    def side_of(self, name: str, context: str) -> Side:
        """Return the side of the channel `name` that was created in `context`."""
        if name.partition("/")[0] in _PLUMBING or _DEAD.search(name):
            return Side.PLUMBING
        if self._name.fullmatch(base_name(name)) or self._context.fullmatch(context):
            return Side.OUTSIDE
        return Side.INSIDE


def _any_of(globs: Iterable[str]) -> re.Pattern[str]:
    patterns = [translate(glob) for glob in globs]
    return re.compile("|".join(patterns) if patterns else r"(?!)")


@dataclass(slots=True, eq=False)
class Channel:
    """One channel of the PBX, as far as the rules need it."""

    uniqueid: str
    linkedid: str
    name: str
    side: Side
    context: str
    exten: str
    caller_number: str
    caller_name: str
    state: int
    call: Call
    bridge: str = ""
    local_peer: str = ""
    member_name: str = ""
    """What a queue calls the member on this device."""
    number: str = ""
    """The number that was dialled to reach this channel (trunks)."""
    dialled: bool = False
    """A Dial or a queue called this channel."""
    dial_status: str = ""
    """How that ended (DIALSTATUS); empty while it goes on."""

    @property
    def endpoint(self) -> str:
        """The device: `100` of `PJSIP/100-0000001a`."""
        return base_name(self.name).partition("/")[2]

    @property
    def up(self) -> bool:
        """The channel is answered."""
        return self.state == ChannelState.UP

    @property
    def trying(self) -> bool:
        """The channel is being dialled, and there is no outcome yet."""
        return self.dialled and not self.dial_status


@dataclass(slots=True)
class Switchboard:
    """All live channels and the bridges that connect them."""

    channels: dict[str, Channel] = field(default_factory=dict)
    _bridges: dict[str, dict[str, Channel]] = field(default_factory=dict)

    def enter(self, channel: Channel, bridge: str) -> None:
        """Put `channel` into `bridge`; it leaves the one that it was in."""
        self.leave(channel)
        channel.bridge = bridge
        self._bridges.setdefault(bridge, {})[channel.uniqueid] = channel

    def leave(self, channel: Channel) -> None:
        """Take `channel` out of its bridge, if it is in one."""
        members = self._bridges.get(channel.bridge)
        if members is not None:
            members.pop(channel.uniqueid, None)
            if not members:
                del self._bridges[channel.bridge]
        channel.bridge = ""

    def remove(self, channel: Channel) -> None:
        """Forget `channel`."""
        self.leave(channel)
        self.channels.pop(channel.uniqueid, None)

    def around(self, channel: Channel) -> Iterator[Channel]:
        """Yield the devices that `channel` is connected with, through bridges and Local channels alike.

        Starting from a plumbing channel finds the devices behind it. The order is that of arrival in each bridge.
        """
        seen = {channel.uniqueid}
        pending = [channel]
        while pending and len(seen) < _LARGEST_CONVERSATION:
            current = pending.pop(0)
            neighbours = list(self._bridges.get(current.bridge, {}).values())
            peer = self.channels.get(current.local_peer)
            if peer is not None:
                neighbours.append(peer)
            for neighbour in neighbours:
                if neighbour.uniqueid in seen:
                    continue
                seen.add(neighbour.uniqueid)
                if neighbour.side is Side.PLUMBING:
                    pending.append(neighbour)
                else:
                    yield neighbour
