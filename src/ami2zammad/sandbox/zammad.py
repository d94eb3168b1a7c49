"""A stand-in for Zammad's "CTI (generic)" endpoint: real HTTP, a caller log in memory, and faults on request.

It behaves as the endpoint of an October 2025 release does, from Zammad's documentation and from requests to its
CTI code (status and texts, what each event changes in the caller log, whose window opens). Where those are silent, it
does the simplest thing.
"""

from __future__ import annotations

import asyncio
import contextlib
import fnmatch
import html
import itertools
import json
import math
import re
import socket
import ssl
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from types import TracebackType
from typing import Final, Literal, Self

from aiohttp import web

REQUESTS_KEPT = 10_000
"""How many requests `ZammadSandbox.requests` remembers."""
SHORTEST_PHONE = 6
"""Digits from which on an answering number is looked up as a phone number."""

_LIMITS: Final = (("from", 100), ("to", 100), ("callId", 250), ("queue", 250), ("user", 250), ("cause", 500))
"""What the columns hold, in characters."""
_UNREADABLE: Final = "(not readable)"
"""Stands among the fields of a request whose body could not be read."""
_ACCEPTING: Final = 5
"""Turns of the loop from `accept` to a connection that the server knows: two, with some to spare."""
_HUGE_BODY: Final = b"x" * (1024 * 1024)


class Fault(StrEnum):
    """What the sandbox can do wrong. "Stores" means: the event has its effect, only the reply goes wrong."""

    ERROR = "error"
    """500 with an Error ID; stores nothing."""
    ERROR_AFTER_STORING = "error-after-storing"
    """500 with an Error ID; stores."""
    BAD_GATEWAY = "bad-gateway"
    """502 with a web page, as a proxy says it; stores nothing. The next two likewise with 503 and 504."""
    UNAVAILABLE = "unavailable"
    GATEWAY_TIMEOUT = "gateway-timeout"
    TOO_MANY = "too-many"
    """429 with `Retry-After`; stores nothing."""
    HANG = "hang"
    """No reply, ever; stores nothing."""
    SLOW = "slow"
    """Stores at once, replies late."""
    RESET = "reset"
    """Stores, then the connection breaks in the middle of the reply."""
    HUGE = "huge"
    """Stores, then replies 200 with a megabyte that is no JSON."""
    WEB_PAGE = "web-page"
    """200 with a web page; stores nothing: the URL leads to the web app."""
    REDIRECT = "redirect"
    """301 to the same address with https; stores nothing."""


_PROXY_STATUS: Final = {
    Fault.BAD_GATEWAY: (502, "Bad Gateway"),
    Fault.UNAVAILABLE: (503, "Service Unavailable"),
    Fault.GATEWAY_TIMEOUT: (504, "Gateway Time-out"),
}


@dataclass(slots=True)
class Received:
    """A request to the endpoint, in the order of arrival. `status` is 0 until it is answered."""

    at: float
    """Seconds of the sandbox's clock."""
    fields: dict[str, object]
    """As sent; lists of forms under their name without `[]`."""
    content_type: str
    accept: str
    user_agent: str
    status: int = 0

    @property
    def event(self) -> str:
        """`newCall`, `answer`, `hangup`, or whatever was sent."""
        return str(self.fields.get("event", ""))

    @property
    def call_id(self) -> str:
        """The log entry's identity."""
        return str(self.fields.get("callId", ""))


@dataclass(slots=True)
class LogEntry:
    """A row of the caller log. Times are seconds of the sandbox's clock, at the arrival of the event."""

    call_id: str
    direction: str
    from_: str
    to: str
    initialized_at: float
    from_comment: str = ""
    """Who calls, as far as known."""
    to_comment: str = ""
    """Who is called; after an answer, who answered."""
    queue: str = ""
    state: Literal["newCall", "answer", "hangup"] = "newCall"
    cause: str = ""
    done: bool = False
    """False: on the agents' to-do list."""
    answering_number: str = ""
    start_at: float | None = None
    """When it was answered (for the last time)."""
    end_at: float | None = None
    blocked: bool = False
    """Whether the PBX was told to reject it."""
    changes: list[str] = field(default_factory=list)
    """The events that changed this row, in order. Repeated ones are repeated here."""

    @property
    def waiting(self) -> float | None:
        """Seconds until it was answered, or until it ended unanswered; None while it rings."""
        until = self.end_at if self.start_at is None else self.start_at
        return None if until is None else until - self.initialized_at

    @property
    def talking(self) -> float | None:
        """Seconds from the answer to the end; None before the end, or if there was no answer."""
        return None if self.start_at is None or self.end_at is None else self.end_at - self.start_at


@dataclass(slots=True)
class Agent:
    """A user of Zammad who takes calls.

    `phone` is the phone field of the user; `filters` are the rows of the Caller Log Filter (all calls if empty).
    """

    login: str
    name: str
    phone: str = ""
    filters: tuple[str, ...] = ()


@dataclass(slots=True)
class _Plan:
    """A fault that waits for its requests."""

    fault: Fault
    left: float
    match: Callable[[Received], bool]
    seconds: float


class _Failure(Exception):  # noqa: N818 - an HTTP reply, not an error of ours
    """A reply other than 200."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


class ZammadSandbox:
    """A Zammad on `host`; an async context manager.

    `port` 0 takes a free one. `texts` chooses the wording of some errors. `caller_id_key` is the key that a dial
    reply uses: Zammad's documentation has both. `clock` gives seconds since the epoch. With `tls` it speaks https.
    `pages` adds paths beside the endpoint's.

    All public attributes may be changed at any time.
    """

    def __init__(
        self,
        *,
        token: str = "sandbox-token",  # noqa: S107 - a token that opens nothing but this sandbox
        host: str = "127.0.0.1",
        port: int = 0,
        agents: Iterable[Agent] = (),
        texts: Literal["2025", "older"] = "2025",
        caller_id_key: Literal["caller_id", "callerId"] = "caller_id",
        clock: Callable[[], float] = time.time,
        tls: ssl.SSLContext | None = None,
        pages: Callable[[ZammadSandbox, web.Application], None] | None = None,
    ) -> None:
        self.token = token
        self.host = host
        self.port = port
        self.agents = list(agents)
        self.texts = texts
        self.caller_id_key = caller_id_key
        self.enabled = True
        """Whether the integration is switched on."""
        self.configured = True
        """Whether the integration has settings."""
        self.tokens = {token}
        """Tokens that are let in."""
        self.default_caller_id = ""
        """What outbound calls show without a matching route; empty: Zammad does not interfere."""
        self.customers: dict[str, str] = {}
        """Names by normalized number."""
        self.popups: list[tuple[str, str]] = []
        """(login, call ID) of each window with a customer's profile or a new ticket, opened by an answer."""
        self.notified: list[tuple[str, str]] = []
        """(login, call ID) of each pop-up for a new inbound call."""
        self.requests: deque[Received] = deque(maxlen=REQUESTS_KEPT)
        self._clock = clock
        self._tls = tls
        self._pages = pages
        self._rows: dict[str, LogEntry] = {}
        self._blocked: set[str] = set()
        self._routes: list[tuple[str, str]] = []
        self._plans: list[_Plan] = []
        self._error_numbers = itertools.count(1)
        self._changed = asyncio.Condition()
        self._closing = asyncio.Event()
        self._runner: web.AppRunner | None = None
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        await self.up()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.down()

    @property
    def base_url(self) -> str:
        """Scheme, host and port, as the bridge reaches them."""
        host = socket.gethostname() if self.host in {"0.0.0.0", "::"} else self.host  # noqa: S104 - not opened here
        named = f"[{host}]" if ":" in host else host
        return f"{'https' if self._tls else 'http'}://{named}:{self.port}"

    @property
    def url(self) -> str:
        """The endpoint's URL, token included: what belongs in `zammad.url`."""
        return f"{self.base_url}/api/v1/cti/{self.token}"

    @property
    def now(self) -> float:
        """Seconds of the sandbox's clock."""
        return self._clock()

    @property
    def log(self) -> list[LogEntry]:
        """The caller log, in the order in which the calls were announced."""
        return list(self._rows.values())

    def entry(self, call_id: str) -> LogEntry:
        """Return the row of `call_id`. Raises `KeyError` if there is none."""
        return self._rows[call_id]

    def seen_by(self, login: str) -> list[LogEntry]:
        """Return the rows that the agent sees in the caller log.

        The filter is compared with the queue, without one with `to` (in) or `from` (out).
        """
        agent = next(agent for agent in self.agents if agent.login == login)
        if not agent.filters:
            return self.log
        return [
            row for row in self.log if (row.queue or (row.to if row.direction == "in" else row.from_)) in agent.filters
        ]

    def block(self, number: str) -> None:
        """Put `number` on the block list: compared with `from` as an exact text."""
        self._blocked.add(number)

    def unblock(self, number: str) -> None:
        """Take `number` off the block list."""
        self._blocked.discard(number)

    def route(self, pattern: str, caller_id: str) -> None:
        """Append an outbound routing rule: calls to `pattern` (`*` stands for any digits) show `caller_id`."""
        self._routes.append((pattern, caller_id))

    def fail(
        self,
        fault: Fault | str,
        *,
        times: int | None = None,
        match: Callable[[Received], bool] | None = None,
        seconds: float = 1.0,
    ) -> None:
        """Do `fault` to the next `times` requests (None: until `heal`) for which `match` is true (None: all).

        `seconds` is `Retry-After` for TOO_MANY and the delay for SLOW. Faults planned earlier come first.
        """
        self._plans.append(
            _Plan(Fault(fault), math.inf if times is None else times, match or (lambda _: True), seconds)
        )

    def heal(self) -> None:
        """Forget all faults planned."""
        self._plans.clear()

    async def up(self) -> None:
        """Listen (again), on the same port as before."""
        if self._runner is not None:
            return
        self._closing = asyncio.Event()
        app = web.Application(client_max_size=1024 * 1024)
        if self._pages is not None:
            self._pages(self, app)
        app.router.add_route("*", "/{path:.*}", self._handle)
        # Handlers that hang on purpose end with `_closing`; there is nothing else to wait for.
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        factory = runner.server
        if factory is None:  # pragma: no cover - `setup` has just made it
            raise RuntimeError("aiohttp made no server")
        try:
            loop = asyncio.get_running_loop()
            self._server = await loop.create_server(factory, self.host, self.port, ssl=self._tls)
        except OSError:
            await runner.cleanup()
            raise
        self._runner = runner
        self.port = int(self._server.sockets[0].getsockname()[1])

    async def down(self) -> None:
        """Stop listening and close all connections, as a crash would; what was stored stays."""
        if self._runner is None:
            return
        runner, self._runner = self._runner, None
        if self._server is not None:
            # asyncio forgets, without closing it, a connection that it accepted just before its server was closed: the
            # other side would wait for ever. So accepting ends first, then what was accepted gets its turns.
            for listening in self._server.sockets:
                asyncio.get_running_loop().remove_reader(listening.fileno())
            for _ in range(_ACCEPTING):
                await asyncio.sleep(0)
            self._server.close()
        self._closing.set()
        await runner.cleanup()

    async def wait_for(self, predicate: Callable[[ZammadSandbox], bool], timeout: float = 10.0) -> None:  # noqa: ASYNC109
        """Wait until `predicate` is true for this sandbox; looked at again after each request.

        Raises `TimeoutError` with what was in the log after `timeout` seconds.
        """
        try:
            async with asyncio.timeout(timeout), self._changed:
                await self._changed.wait_for(lambda: predicate(self))
        except TimeoutError:
            rows = [f"{row.call_id} {row.state} {row.cause}".strip() for row in self.log]
            raise TimeoutError(f"not within {timeout} s; the caller log has {rows}") from None

    # ------------------------------------------------------------------ HTTP

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        match_token = re.fullmatch(r"/api/v1/cti/([^/]+)/?", request.path)
        if request.method != "POST" or match_token is None:
            return _reply_error(request, 404, f"No route matches [{request.method}] {request.path}")
        fields = await _decode(request)
        received = Received(
            self._clock(),
            fields,
            request.content_type,
            request.headers.get("Accept", ""),
            request.headers.get("User-Agent", ""),
        )
        self.requests.append(received)
        plan = self._next_plan(received)
        try:
            if plan is None:
                return self._answer(received, match_token[1])
            return await self._fail(plan, received, request, match_token[1])
        except _Failure as failure:
            received.status = failure.status
            return _reply_error(request, failure.status, failure.text)
        finally:
            await self._announce()

    async def _announce(self) -> None:
        """Let `wait_for` look again."""
        async with self._changed:
            self._changed.notify_all()

    def _next_plan(self, received: Received) -> _Plan | None:
        for plan in self._plans:
            if plan.match(received):
                plan.left -= 1
                if plan.left <= 0:
                    self._plans.remove(plan)
                return plan
        return None

    def _answer(self, received: Received, token: str) -> web.Response:
        if _UNREADABLE in received.fields:
            raise _Failure(500, self._error_id())
        self._let_in(token)
        reply = self._take(received.fields)
        received.status = 200
        return web.json_response(reply)

    async def _fail(self, plan: _Plan, received: Received, request: web.Request, token: str) -> web.StreamResponse:
        fault = plan.fault
        match fault:
            case Fault.ERROR:
                raise _Failure(500, self._error_id())
            case Fault.BAD_GATEWAY | Fault.UNAVAILABLE | Fault.GATEWAY_TIMEOUT:
                received.status, title = _PROXY_STATUS[fault]
                return web.Response(status=received.status, text=_page(title), content_type="text/html")
            case Fault.TOO_MANY:
                received.status = 429
                headers = {"Retry-After": f"{plan.seconds:.0f}"}
                return web.json_response({"error": "Too many requests"}, status=429, headers=headers)
            case Fault.HANG:
                await self._announce()
                await self._closing.wait()
                return web.Response(status=503)
            case Fault.WEB_PAGE:
                received.status = 200
                return web.Response(text=_page("Zammad Helpdesk"), content_type="text/html")
            case Fault.REDIRECT:
                received.status = 301
                return web.Response(status=301, headers={"Location": f"https://127.0.0.1{request.path}"})
            case Fault.ERROR_AFTER_STORING | Fault.SLOW | Fault.RESET | Fault.HUGE:
                response = self._answer(received, token)
                return await self._spoil(plan, received, request, response)

    async def _spoil(
        self, plan: _Plan, received: Received, request: web.Request, response: web.Response
    ) -> web.StreamResponse:
        """Send something else than `response` for an event that was stored."""
        match plan.fault:
            case Fault.ERROR_AFTER_STORING:
                raise _Failure(500, self._error_id())
            case Fault.HUGE:
                return web.Response(body=_HUGE_BODY, content_type="application/octet-stream")
            case Fault.RESET:
                received.status = 0
                broken = web.StreamResponse(headers={"Content-Length": "1000"})
                await broken.prepare(request)
                await broken.write(b'{"act')
                if request.transport is not None:
                    request.transport.abort()
                return broken
            case _:
                await self._announce()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._closing.wait(), plan.seconds)
                return response

    def _error_id(self) -> str:
        return f"Error ID {next(self._error_numbers):08x}: Please contact your administrator."

    # ------------------------------------------------------------------ Zammad

    def _let_in(self, token: str) -> None:
        if not self.enabled:
            raise _Failure(422, "Feature is disabled, it can be enabled by an administrator.")
        if not self.configured:
            raise _Failure(422, "Feature not configured, its settings are the administrator's to fill in.")
        if token not in self.tokens:
            raise _Failure(401, "Invalid token, the URL is the administrator's to look up.")

    def _take(self, fields: dict[str, object]) -> dict[str, str]:
        """Do what an event does in Zammad and return the reply's body."""
        if fields.get("direction") not in {"in", "out"}:
            raise _Failure(422, "Invalid 'direction'!" if self.texts == "2025" else "Invalid direction!")
        for name in ("from", "to"):
            if fields.get(name) is None:
                raise _Failure(422, f"Attribute '{name}' required!")
        if fields.get("event") not in {"newCall", "answer", "hangup"}:
            raise _Failure(422, self._error_id())
        for name, limit in _LIMITS:
            if len(_joined(fields.get(name))) > limit:
                raise _Failure(422, self._error_id())
        call_id = _joined(fields.get("callId"))
        if fields["event"] == "newCall":
            return self._new_call(call_id, fields)
        row = self._rows.get(call_id)
        if row is None:
            raise _Failure(500, self._error_id())
        if fields["event"] == "answer":
            self._answered(row, fields)
        else:
            self._hung_up(row, fields)
        return {}

    def _new_call(self, call_id: str, fields: dict[str, object]) -> dict[str, str]:
        if call_id in self._rows:
            older = self.texts == "older"
            raise _Failure(500, "Object already exists!" if older else "This object already exists.")
        direction, sender, to, user = (_joined(fields.get(name)) for name in ("direction", "from", "to", "user"))
        row = LogEntry(call_id, direction, sender, to, self._clock(), queue=_joined(fields.get("queue")))
        row.changes.append("newCall")
        row.done = direction == "out"
        row.from_comment = (user if direction == "out" else "") or self._name_of(sender)
        row.to_comment = (user if direction == "in" else "") or self._name_of(to)
        self._rows[call_id] = row
        if direction == "in":
            row.blocked = sender in self._blocked
            self._notify(row)
            return {"action": "reject", "reason": "busy"} if row.blocked else {}
        number = normalize(to)
        matching = (shown for pattern, shown in self._routes if fnmatch.fnmatchcase(number, pattern))
        caller_id = next(matching, self.default_caller_id)
        if not caller_id:
            return {}
        row.from_ = caller_id
        return {"action": "dial", self.caller_id_key: caller_id, "number": number}

    def _notify(self, row: LogEntry) -> None:
        for agent in self.agents:
            own = bool(agent.phone) and normalize(agent.phone) == normalize(row.to)
            if row.to in agent.filters or own:
                self.notified.append((agent.login, row.call_id))

    def _answered(self, row: LogEntry, fields: dict[str, object]) -> None:
        if row.state == "hangup":
            return
        row.changes.append("answer")
        row.state = "answer"
        row.start_at = self._clock()
        row.done = True
        row.answering_number = _joined(fields.get("answeringNumber"))
        if fields.get("user"):
            row.to_comment = _joined(fields["user"])
        if row.direction == "out":
            return
        # The row is saved by now: what fails from here on leaves it as it is.
        agent = self._answering_agent(row.answering_number, fields.get("user"))
        if agent is not None:
            self.popups.append((agent.login, row.call_id))

    def _answering_agent(self, number: str, user: object) -> Agent | None:
        digits = normalize(number)
        for agent in self.agents:
            if len(digits) >= SHORTEST_PHONE and digits == normalize(agent.phone):
                return agent
        for agent in self.agents:
            if number and number == agent.phone:
                return agent
        if isinstance(user, list):
            raise _Failure(500, self._error_id())
        return next((agent for agent in self.agents if user and agent.login == str(user).lower()), None)

    def _hung_up(self, row: LogEntry, fields: dict[str, object]) -> None:
        answered = row.start_at is not None
        row.changes.append("hangup")
        row.state = "hangup"
        row.end_at = self._clock()
        row.cause = _joined(fields.get("cause"))
        row.answering_number = _joined(fields.get("answeringNumber")) or row.answering_number
        if row.direction == "in":
            taken = answered and row.to_comment != "voicemail"
            row.done = taken or (not answered and row.cause == "forwarded")

    def _name_of(self, number: str) -> str:
        digits = normalize(number)
        for agent in self.agents:
            if digits and digits == normalize(agent.phone):
                return agent.name
        return self.customers.get(digits, "")


def normalize(number: str) -> str:
    """Return the digits by which Zammad matches `number`: a leading 00 is dropped, a leading 0 becomes 49."""
    digits = "".join(c for c in number if c.isascii() and c.isdigit())
    if digits.startswith("00"):
        return digits[2:]
    return f"49{digits[1:]}" if digits.startswith("0") else digits


def _joined(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(str(item) for item in value)
    return "" if value is None else str(value)


async def _decode(request: web.Request) -> dict[str, object]:
    """Return the fields of `request`; `_UNREADABLE` alone if its body is not what its content type says."""
    if request.content_type in {"application/x-www-form-urlencoded", "multipart/form-data"}:
        try:
            form = await request.post()
        except ValueError:
            return {_UNREADABLE: True}
        fields: dict[str, object] = {}
        for name in form:
            values = [str(value) for value in form.getall(name)]
            fields[name.removesuffix("[]")] = values if name.endswith("[]") else values[-1]
        return fields
    try:
        body = json.loads(await request.read())
    except (ValueError, RecursionError):
        return {_UNREADABLE: True}
    return body if isinstance(body, dict) else {}


def _reply_error(request: web.Request, status: int, text: str) -> web.Response:
    """Return an error: as JSON to those who accept it, else as the page that Zammad shows people."""
    accept = request.headers.get("Accept", "")
    if "json" in accept or "*/*" in accept:
        return web.json_response({"error": text}, status=status)
    return web.Response(status=status, text=_page(text), content_type="text/html")


def _page(title: str) -> str:
    title = html.escape(title)
    return f"<!DOCTYPE html>\n<html><head><title>{title}</title></head><body><h1>{title}</h1></body></html>\n"
