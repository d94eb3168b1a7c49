"""The stand-in's caller log as a web page, live: `ami2zammad sandbox` and `demo --serve`."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from typing import Any, Final

from aiohttp import web

from ami2zammad.ops.hosts import is_loopback_host
from ami2zammad.ops.html import PRIVATE, Frame, bundled, element
from ami2zammad.ops.words import foreign
from ami2zammad.sandbox.rows import state, who
from ami2zammad.sandbox.zammad import LogEntry, Received, ZammadSandbox

_ROWS_SHOWN: Final = 200
_REQUESTS_SHOWN: Final = 12
_REFRESH: Final = 5
_LONGEST: Final = 250


def add_pages(zammad: ZammadSandbox, app: web.Application) -> None:
    """Add `GET /`, the page, and `GET /log.json`, what it shows, to the stand-in's own paths."""
    frame = Frame(
        title="Zammad stand-in",
        style=bundled("ami2zammad.ops", "style.css"),
        script=bundled("ami2zammad.ops", "live.js") + bundled(__package__, "caller_log.js"),
        refresh=_REFRESH,
    )
    document = frame.document(element("noscript", None, element("p", None, "This page needs JavaScript.")))

    def page(_: web.Request) -> web.Response:
        return web.Response(text=document, content_type="text/html", headers=frame.headers)

    def log(_: web.Request) -> web.Response:
        body = json.dumps(caller_log(zammad), ensure_ascii=False)
        return web.Response(text=body, content_type="application/json", headers=PRIVATE)

    app.router.add_get("/", _guarded(zammad, page))
    app.router.add_get("/log.json", _guarded(zammad, log))


def caller_log(zammad: ZammadSandbox) -> dict[str, Any]:
    """Return what the page shows: the latest rows and requests, the latest first."""
    now = zammad.now
    rows = zammad.log
    return {
        "url": zammad.url,
        "count": len(rows),
        "rows": [_row(row, now) for row in rows[: -_ROWS_SHOWN - 1 : -1]],
        "requests": [_request(one, now) for one in itertools.islice(reversed(zammad.requests), _REQUESTS_SHOWN)],
    }


def _row(row: LogEntry, now: float) -> dict[str, Any]:
    return {
        "call_id": _shown(row.call_id),
        "direction": row.direction,
        "from": _shown(row.from_),
        "from_name": _shown(row.from_comment if row.direction == "in" else ""),
        "to": _shown(row.to),
        "who": _shown(who(row)),
        "queue": _shown(row.queue),
        "state": state(row),
        "cause": _shown(row.cause),
        # The agents' to-do list has it: a missed call, a message on the voicemail.
        "to_do": not row.done and row.state == "hangup",
        "waited": _until(row.initialized_at, row.start_at or row.end_at, now),
        "talked": None if row.start_at is None else _until(row.start_at, row.end_at, now),
    }


def _request(received: Received, now: float) -> dict[str, Any]:
    return {
        "seconds": max(now - received.at, 0.0),
        "event": _shown(received.event),
        "call_id": _shown(received.call_id),
        "status": received.status,
    }


def _until(begin: float, end: float | None, now: float) -> float:
    return max((now if end is None else end) - begin, 0.0)


def _shown(text: str) -> str:
    return foreign(text, longest=_LONGEST)


def _guarded(zammad: ZammadSandbox, answer: Callable[[web.Request], web.Response]) -> Callable[[web.Request], Any]:
    async def handler(request: web.Request) -> web.Response:
        # As on the operations port: no web page from elsewhere may read along by a name that leads here.
        if is_loopback_host(zammad.host) and not is_loopback_host(request.headers.get("Host", "localhost")):
            return web.Response(status=421, text="this page answers to the names of this machine only\n")
        return answer(request)

    return handler
