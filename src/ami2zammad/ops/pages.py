"""What the operations port shows of a bridge: bodies and headers, without any HTTP."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass

from .activity import Activity
from .html import PRIVATE
from .metrics import Metrics
from .page import status_body, status_frame
from .report import Reporter
from .state import BridgeState


@dataclass(frozen=True, slots=True)
class Page:
    """An answer."""

    body: bytes
    headers: dict[str, str]
    status: int = 200


class Pages:
    """What there is to see of one bridge.

    `state` looks at it, `activity` is what it has done, `clean` takes secrets out of a text, `wall` gives seconds since
    the epoch.
    """

    def __init__(
        self,
        state: Callable[[], BridgeState],
        activity: Activity,
        *,
        clean: Callable[[str], str] = str,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._reporter = Reporter(state, activity, wall=wall, clean=clean)
        self._metrics = Metrics(state, activity, wall=wall)
        self._frame = status_frame()
        self._headers = self._frame.headers | {"Content-Type": "text/html; charset=utf-8"}

    def status_page(self) -> Page:
        """Return the page for people; it holds names and (shortened) numbers."""
        return Page(self._frame.document(status_body(self._reporter.report())).encode(), self._headers)

    def status_json(self) -> Page:
        """Return the same for programs."""
        return _json(self._reporter.report())

    def alive(self) -> Page:
        """Say whether the process does anything at all: 503 if the tracking of calls is stuck."""
        stuck = self._reporter.stuck()
        return _json({"alive": not stuck}, 503 if stuck else 200)

    def ready(self, *, detailed: bool) -> Page:
        """Say whether the bridge does its work (else 503), and if not, which part does not; why, if `detailed`."""
        readiness = self._reporter.readiness(detailed=detailed)
        return _json(readiness, 200 if readiness["ready"] else 503)

    def metrics(self, accept: str) -> Page:
        """Return the metrics, in the format that the header `Accept` wishes."""
        body, content_type = self._metrics.exposition(accept)
        return Page(body, {"Content-Type": content_type, **PRIVATE})


def _json(value: object, status: int = 200) -> Page:
    body = json.dumps(value, ensure_ascii=False).encode()
    return Page(body, {"Content-Type": "application/json", **PRIVATE}, status)
