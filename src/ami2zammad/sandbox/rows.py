"""Rows of the caller log as an agent reads them in Zammad."""

from __future__ import annotations

from ami2zammad.calls.events import VOICEMAIL, Cause
from ami2zammad.sandbox.zammad import LogEntry


def who(entry: LogEntry) -> str:
    """Return the agents' side of a call: who rings, who took it, who calls."""
    return entry.from_comment if entry.direction == "out" else entry.to_comment


def state(entry: LogEntry) -> str:
    """Return how a call stands or how it ended, in one or two words."""
    if entry.state != "hangup":
        return "ringing" if entry.state == "newCall" else "in call"
    if entry.start_at is not None:
        return "voicemail" if who(entry) == VOICEMAIL else "answered"
    return "passed on" if entry.cause == Cause.FORWARDED else "missed"
