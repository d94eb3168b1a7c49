"""What /status.json says: a bridge's state and activity as plain values.

The status page and `ami2zammad status` show this and nothing else, so that what must not be seen is taken out in one
place: the last digits of telephone numbers, control characters, and what `clean` takes out of a text (secrets).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

from ami2zammad import __version__

from .activity import Activity
from .state import BridgeState, CallState, Problem, Stage, faults
from .words import foreign, short_number

Report = dict[str, Any]

MOST_CALLS: Final = 100
"""Live calls that are listed, the latest; all are counted."""
MOST_USERS: Final = 5
"""Names that are listed for one call, the first."""
_LONGEST_NAME: Final = 60
_LONGEST_SENTENCE: Final = 400


class Reporter:
    """Makes reports. `wall` gives seconds since the epoch, `clean` takes secrets out of a text."""

    def __init__(
        self,
        state: Callable[[], BridgeState],
        activity: Activity,
        *,
        wall: Callable[[], float],
        clean: Callable[[str], str],
    ) -> None:
        self._state = state
        self._activity = activity
        self._wall = wall
        self._clean = clean

    def report(self) -> Report:
        """Return how things are now; docs/operations.md explains each key."""
        state = self._state()
        now = _Now(self._wall(), state.now)
        asterisk, zammad, outbox = state.asterisk, state.zammad, state.outbox
        return {
            "version": __version__,
            "instance": self._text(state.instance),
            "time": now.iso(state.now),
            "started": now.iso(state.started_at),
            "uptime_seconds": now.ago(state.started_at),
            **self.readiness(detailed=True, state=state),
            "asterisk": {
                "connected": asterisk.connected_since is not None,
                "address": self._text(asterisk.address),
                "since": now.iso(asterisk.connected_since),
                "seconds": now.ago(asterisk.connected_since),
                **self._problem(asterisk.problem),
                "signals": asterisk.signals,
                "waiting": asterisk.waiting,
                "reconnects": asterisk.reconnects,
            },
            "zammad": {
                "reachable": zammad.problem is None,
                "address": self._text(zammad.address),
                "last_delivery": now.iso(self._activity.last_delivery_at),
                "seconds": now.ago(self._activity.last_delivery_at),
                **self._problem(zammad.problem),
            },
            "outbox": {
                "durable": outbox.durable,
                "waiting": outbox.waiting,
                "oldest_seconds": None if outbox.oldest_age is None else _rounded(outbox.oldest_age),
                "dead_letters": outbox.dead_letters,
                **self._problem(outbox.problem),
            },
            "live_calls": len(state.calls),
            "calls": [self._call(call, now) for call in _latest(state.calls)],
            "failures": [
                {
                    "time": now.iso(failure.at),
                    "seconds": now.ago(failure.at),
                    "call_id": self._text(failure.call_id),
                    "kind": failure.kind,
                    "reason": self._sentence(failure.reason),
                    "refused": failure.refused,
                    "times": failure.times,
                }
                for failure in reversed(self._activity.latest_failures)
            ],
            "deliveries": [
                {
                    "time": now.iso(delivery.at),
                    "seconds": now.ago(delivery.at),
                    "call_id": self._text(delivery.call_id),
                    "kind": delivery.kind,
                    "latency_seconds": _rounded(delivery.seconds),
                }
                for delivery in reversed(self._activity.latest_deliveries)
            ],
        }

    def readiness(self, *, detailed: bool, state: BridgeState | None = None) -> Report:
        """Return whether the bridge does its work, and which part does not; why (with addresses) if `detailed`."""
        found = faults(state or self._state())
        return {
            "ready": not found,
            "faults": [
                {"part": fault.part, **self._problem(fault.problem)} if detailed else {"part": fault.part}
                for fault in found
            ],
        }

    def stuck(self) -> bool:
        """Say whether the tracking of calls does not move any more."""
        return self._state().stuck

    def _call(self, call: CallState, now: _Now) -> Report:
        return {
            "call_id": self._text(call.call_id),
            "direction": call.direction,
            "from": short_number(self._text(call.from_number)),
            "to": short_number(self._text(call.to_number)),
            "users": [self._name(user) for user in call.users[:MOST_USERS]],
            "more_users": max(len(call.users) - MOST_USERS, 0),
            "queue": self._name(call.queue),
            "state": call.stage.value,
            "since": now.iso(call.since),
            "seconds": now.ago(call.since),
        }

    def _problem(self, problem: Problem | None) -> Report:
        if problem is None:
            return {"problem": "", "remedy": ""}
        return {"problem": self._sentence(problem.text), "remedy": self._sentence(problem.remedy)}

    def _text(self, text: str) -> str:
        return foreign(self._clean(text))

    def _name(self, name: str) -> str:
        return foreign(self._clean(name), longest=_LONGEST_NAME)

    def _sentence(self, text: str) -> str:
        return foreign(self._clean(text), longest=_LONGEST_SENTENCE)


class _Now:
    """The same moment on both clocks."""

    def __init__(self, wall: float, bridge: float) -> None:
        self._wall = wall
        self._bridge = bridge

    def ago(self, at: float | None) -> float | None:
        return None if at is None else _rounded(max(self._bridge - at, 0.0))

    def iso(self, at: float | None) -> str | None:
        if at is None:
            return None
        when = datetime.fromtimestamp(self._wall - (self._bridge - at), UTC)
        return when.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _latest(calls: tuple[CallState, ...]) -> list[CallState]:
    """Return the calls to list, those that arrive first and then the latest."""
    arriving = [call for call in calls if call.stage is Stage.ARRIVING]
    others = [call for call in calls if call.stage is not Stage.ARRIVING]
    others.sort(key=lambda call: -math.inf if call.since is None else call.since, reverse=True)
    return [*arriving, *others][:MOST_CALLS]


def _rounded(seconds: float) -> float:
    return round(seconds, 3)
