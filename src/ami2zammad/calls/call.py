"""A channel, and a call: channels that belong together, and the log entries that they become one after the other."""

from __future__ import annotations

from dataclasses import dataclass, field

from .entry import LogEntry
from .events import Direction
from .sides import Side, base_name
from .signalling import ChannelState


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
    created_at: float = float("-inf")
    """When its creation was seen (clock of the signals)."""
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


@dataclass(slots=True, eq=False)
class Call:
    """All channels of one Linkedid, and what Zammad knows of them.

    `party` is the outside channel whose conversation the caller log tells: the caller of an inbound call, the leg
    that answered of an outbound one. A call without a direction is internal, or not yet known to be anything else.
    """

    call_id: str
    linkedids: set[str]
    """The Linkedids that lead here."""
    channels: dict[str, Channel] = field(default_factory=dict)
    direction: Direction | None = None
    ignored: bool = False
    first_device: str = ""
    """Uniqueid of the first device channel: it decides the direction."""
    party: Channel | None = None
    agent: Channel | None = None
    """The inside channel that makes an outbound call."""
    entries: int = 0
    entry: LogEntry | None = None
    queue: str = ""
    """The queue in which the caller waits."""
    transferred_to: str = ""
    """Where a blind transfer sent the party; empty when that has come to an end."""
    transferred_to_queue: str = ""
    parked: bool = False
    """The party waits in a parking space."""
    next_question_at: float | None = None
    """When to ask which application the caller is in."""
    question_delay: float = 0.0

    @property
    def open_entry(self) -> LogEntry | None:
        """The entry that still has a hangup to come."""
        return self.entry if self.entry is not None and not self.entry.ended else None

    def begin_entry(self, from_number: str, to_number: str, *, direction: Direction) -> LogEntry:
        """Begin the call's first or next entry; the second's identity is `callId-2`, the third's `callId-3`."""
        self.entries += 1
        self.entry = LogEntry(
            call_id=self.call_id if self.entries == 1 else f"{self.call_id}-{self.entries}",
            first_call_id=self.call_id,
            direction=direction,
            from_number=from_number,
            to_number=to_number,
        )
        return self.entry

    def still_trying(self) -> bool:
        """Say whether something rings or the caller waits in a queue."""
        return bool(self.queue) or any(channel.trying for channel in self.channels.values())

    def devices(self, side: Side) -> list[Channel]:
        """Return the call's channels on `side`, the oldest first."""
        return [channel for channel in self.channels.values() if channel.side is side]
