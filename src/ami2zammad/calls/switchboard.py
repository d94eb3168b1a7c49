"""Who is connected with whom: live channels, and the bridges and Local channels between them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from .call import Channel
from .sides import Side

# More channels than this in one conversation: nobody waits for the answer of who talks with whom.
_LARGEST_CONVERSATION: Final = 256


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
