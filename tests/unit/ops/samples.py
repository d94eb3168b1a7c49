"""Bridges as operators may find them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from ami2zammad.ops.activity import Activity
from ami2zammad.ops.state import (
    AsteriskState,
    BridgeState,
    CallState,
    OutboxState,
    Problem,
    Stage,
    ZammadState,
)

NOW: Final = 5000.0
"""The bridge's clock."""
WALL: Final = 1795823429.5
"""The same moment for everybody else: 2026-11-27T23:50:29.500Z."""

RINGING = CallState(
    "pbx1-1795294371.98", "in", "4917699999999", "4930600132", ("Emma Taylor", "Zoë Müller"), "support",
    Stage.RINGING, NOW - 7,
)  # fmt: skip
TALKING = CallState(
    "pbx1-1795294311.90", "out", "4930600100", "492214710334", ("Emma Taylor",), "", Stage.ANSWERED, NOW - 247
)
ARRIVING = CallState("pbx1-1795294381.99", "in", "anonymous", "100", (), "", Stage.ARRIVING, None)

WELL = BridgeState(
    now=NOW,
    started_at=NOW - 4000,
    instance="pbx1",
    asterisk=AsteriskState("192.0.2.17:5038", NOW - 3900, signals=1_234_567, waiting=2, full_count=1, reconnects=3),
    zammad=ZammadState("https://zammad.example.com"),
    outbox=OutboxState(durable=True, waiting=0),
    calls=(TALKING, RINGING, ARRIVING),
)

ASTERISK_PROBLEM = Problem('Asterisk refused the login of "ami2zammad"', "Check asterisk.username and asterisk.secret.")
ZAMMAD_PROBLEM = Problem("Zammad does not know the token (401)", "Copy zammad.url again.")
OUTBOX_PROBLEM = Problem("the disk is full", "Make room on the disk of outbox.path.")

ILL = replace(
    WELL,
    asterisk=AsteriskState("192.0.2.17:5038", None, ASTERISK_PROBLEM),
    zammad=ZammadState("https://zammad.example.com", ZAMMAD_PROBLEM),
    outbox=OutboxState(durable=False, waiting=1284, oldest_age=754.2, dead_letters=3, problem=OUTBOX_PROBLEM),
    calls=(),
)

SCRIPT = "<script>document.title = 'owned'</script>"
HOSTILE = replace(
    WELL,
    instance="<b>pbx</b>",
    calls=(
        CallState(
            call_id=f'1.2"><img src=x onerror="document.title=1">{SCRIPT}',
            direction="in",
            from_number=f"\u202e4917699999999{SCRIPT}",
            to_number="\N{MAN}\u200d\N{WOMAN}\u200d\N{GIRL}" * 100,
            users=("مرحبا بالعالم" * 20, SCRIPT, "W" * 5000, "</td></table>", "a\r\nb\x00\x1b[31m", "sixth", "seventh"),
            queue="q" * 5000,
            stage=Stage.RINGING,
            since=NOW,
        ),
        *WELL.calls,
    ),
)


@dataclass(slots=True)
class Bridge:
    """A bridge whose state a test sets."""

    state: BridgeState
    now: float = NOW

    def look(self) -> BridgeState:
        """Return how it is."""
        return replace(self.state, now=self.now)

    def clock(self) -> float:
        """Return the bridge's time."""
        return self.now

    def wall(self) -> float:
        """Return everybody's time."""
        return WALL + (self.now - NOW)


def busy_activity(bridge: Bridge) -> Activity:
    """Return what a bridge has done that has seen something."""
    activity = Activity(bridge.clock)
    later, bridge.now = bridge.now, bridge.now - 90
    activity.attempt_failed("pbx1-1795294371.91", "answer", "Zammad will not take it", refused=True)
    activity.attempt_failed("pbx1-1795294371.98", "newCall", "no reply within 5 s (zammad.timeout)")
    activity.attempt_failed("pbx1-1795294371.98", "newCall", "no reply within 5 s (zammad.timeout)")
    bridge.now = later - 12
    activity.delivered("pbx1-1795294371.98", "newCall", 0.035)
    activity.delivered("pbx1-1795294311.90", "answer", 1.26)
    activity.delivered("pbx1-1795294301.80", "hangup", 75.0)
    activity.call_ended("in", "normalClearing")
    activity.decided("reject")
    bridge.now = later
    return activity
