"""How a bridge is at one moment, as far as operators are concerned.

This room knows no other: `bridge.py` says here what it knows. All times are seconds of the bridge's own clock, which
never goes back; `BridgeState.now` is that clock's time of the look.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

LONGEST_TURN: Final = 60.0
"""Seconds that the tracking of calls may spend with one batch of signals until it counts as stuck."""


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong, and what to do about it: two sentences for people, without secrets."""

    text: str
    remedy: str = ""


class Stage(StrEnum):
    """How far a call has come."""

    ARRIVING = "arriving"
    """Not announced to Zammad yet: in an IVR, say."""
    RINGING = "ringing"
    ANSWERED = "answered"


@dataclass(frozen=True, slots=True)
class CallState:
    """A log entry that is open. `users` are those who ring, after an answer the one who took the call."""

    call_id: str
    direction: str
    from_number: str
    to_number: str
    users: tuple[str, ...]
    queue: str
    stage: Stage
    since: float | None
    """When it came to that stage; None while it arrives."""


@dataclass(frozen=True, slots=True)
class AsteriskState:
    """The connection to the PBX."""

    address: str
    connected_since: float | None
    problem: Problem | None = None
    """Why there is no connection, or why the last one ended."""
    signals: int = 0
    """Taken in since the start."""
    waiting: int = 0
    """Signals that the tracking of calls has not seen yet."""
    full_count: int = 0
    """How often so many waited that nothing was read from Asterisk."""
    reconnects: int = 0
    """Connections after the first."""


@dataclass(frozen=True, slots=True)
class ZammadState:
    """The other side. Without a `problem` there is nothing against it, which before the first event means little."""

    address: str
    """Without the token."""
    problem: Problem | None = None


@dataclass(frozen=True, slots=True)
class OutboxState:
    """What Zammad does not have yet."""

    durable: bool
    """Whether it outlives the bridge."""
    waiting: int
    oldest_age: float | None = None
    """Seconds since the oldest event that waits came in; None where nothing waits."""
    dead_letters: int = 0
    """Events that were set aside because nobody can deliver them."""
    problem: Problem | None = None


@dataclass(frozen=True, slots=True)
class BridgeState:
    """Everything that an operator may ask."""

    now: float
    started_at: float
    instance: str
    asterisk: AsteriskState
    zammad: ZammadState
    outbox: OutboxState
    calls: tuple[CallState, ...] = ()
    busy_since: float | None = None
    """When the tracking of calls began with the signals that it is at; None while it waits for some."""

    @property
    def stuck(self) -> bool:
        """The tracking of calls does not move any more."""
        return self.busy_since is not None and self.now - self.busy_since > LONGEST_TURN


@dataclass(frozen=True, slots=True)
class Fault:
    """A part of the bridge that does not do its work. `part` is `bridge`, `asterisk`, `zammad` or `outbox`."""

    part: str
    problem: Problem


def faults(state: BridgeState) -> tuple[Fault, ...]:
    """Return what keeps the bridge from doing its work at the moment; nothing: it is ready."""
    found = []
    if state.stuck:
        problem = Problem("the tracking of calls does not move", "Restart the bridge, and please report it.")
        found.append(Fault("bridge", problem))
    if state.asterisk.connected_since is None:
        found.append(Fault("asterisk", state.asterisk.problem or Problem("not connected yet")))
    if state.zammad.problem is not None:
        found.append(Fault("zammad", state.zammad.problem))
    if state.outbox.problem is not None:
        found.append(Fault("outbox", state.outbox.problem))
    return tuple(found)
