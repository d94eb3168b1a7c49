"""The operations HTTP port: what there is to see of the bridge, and `POST /dial`, for click to dial."""

from __future__ import annotations

import base64
import binascii
import json
import secrets
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Final, Self

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from .hosts import is_loopback_address, is_loopback_host
from .pages import Page, Pages

# Two short texts; whoever sends more wants something else.
_LARGEST_BODY: Final = 4096


class OpsServer:
    """An HTTP server on `host` and `port` (0: a free one); an async context manager.

    - `GET /healthz`, `/readyz`, `/metrics`: for everybody who reaches the port; they hold no personal data.
    - `GET /`, `/status.json`: on a loopback address for everybody, who is on this machine then; on any other address
      with `token`, as the password of HTTP Basic (any user, so that a browser can ask for it) or as a bearer token.
      Without a `token` they are for nobody there.
    - `POST /dial` with `Authorization: Bearer <token>` and `{"extension": …, "number": …}` calls the agent and then the
      number, by `dial(extension, number)`, which returns the callId or raises `refusal` with a text for the caller.
      Without a `token` there is no `/dial`.

    Without `pages` there is nothing to see.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        token: str,
        dial: Callable[[str, str], Awaitable[str]],
        refusal: type[Exception],
        pages: Pages | None = None,
    ) -> None:
        self._host = host
        self._port = port
        self._token = token
        self._dial = dial
        self._refusal = refusal
        self._pages = pages
        self._log = structlog.get_logger()
        self._runner: web.AppRunner | None = None
        # Until it is known on which addresses it listens, it shows nothing.
        self._loopback = False

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return int(self._runner.addresses[0][1]) if self._runner is not None else self._port

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=_LARGEST_BODY, middlewares=[self._guard()])
        if self._token:
            app.router.add_post("/dial", self._dial_requested)
        if self._pages is not None:
            self._add_pages(app, self._pages)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        try:
            await web.TCPSite(runner, self._host, self._port).start()
        except OSError:
            await runner.cleanup()
            raise
        self._loopback = all(is_loopback_address(address[0]) for address in runner.addresses)
        self._runner = runner
        self._log.info("ops.listening", host=self._host, port=self.port)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    def _add_pages(self, app: web.Application, pages: Pages) -> None:
        async def healthz(_: web.Request) -> web.Response:
            return _response(pages.alive())

        async def readyz(request: web.Request) -> web.Response:
            return _response(pages.ready(detailed=self._denied(request) is None))

        async def metrics(request: web.Request) -> web.Response:
            return _response(pages.metrics(request.headers.get("Accept", "")))

        async def status_page(request: web.Request) -> web.Response:
            return self._denied(request) or _response(pages.status_page())

        async def status_json(request: web.Request) -> web.Response:
            return self._denied(request) or _response(pages.status_json())

        app.router.add_get("/healthz", healthz)
        app.router.add_get("/readyz", readyz)
        app.router.add_get("/metrics", metrics)
        app.router.add_get("/", status_page)
        app.router.add_get("/status.json", status_json)

    def _guard(self) -> Middleware:
        """Return what every request passes."""

        @web.middleware
        async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
            host = request.headers.get("Host")
            if self._loopback and host is not None and not is_loopback_host(host, self._host):
                # A web page from elsewhere whose name was made to lead here (DNS rebinding) could read everything.
                self._log.warning("ops.foreign_host", path=request.path)
                return _error(421, "this port answers to the names of this machine only, such as 127.0.0.1")
            try:
                return await handler(request)
            except web.HTTPException as error:
                if error.status in {404, 405}:
                    allowed = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
                    return _error(error.status, error.reason, allowed)
                raise

        return guard

    def _denied(self, request: web.Request) -> web.Response | None:
        """Return the answer to one who must not see names and numbers; None if they may be seen."""
        if self._loopback:
            return None
        if not self._token:
            return _error(403, "set ops.token: this shows names and numbers, and ops.listen is not a loopback address")
        given = _given_token(request.headers.get("Authorization", ""), basic=True)
        if given is not None and self._is_token(given):
            return None
        if given is not None:
            self._log.warning("ops.unauthorized", path=request.path)
        challenge = {"WWW-Authenticate": 'Basic realm="ami2zammad", charset="UTF-8"'}
        return _error(401, "the user may be anything, the password must be ops.token", challenge)

    def _is_token(self, given: str) -> bool:
        return secrets.compare_digest(given.encode(), self._token.encode())

    async def _dial_requested(self, request: web.Request) -> web.Response:
        # No Basic here: what a browser sends along by itself must not place calls.
        token = _given_token(request.headers.get("Authorization", ""), basic=False)
        if token is None or not self._is_token(token):
            self._log.warning("ops.unauthorized", path=request.path)
            return _error(401, "the Authorization header must be: Bearer <ops.token>")
        try:
            body = await request.json()
        except (json.JSONDecodeError, UnicodeDecodeError):
            body = None
        if not isinstance(body, dict) or not all(isinstance(body.get(key), str) for key in ("extension", "number")):
            return _error(400, 'the body must be JSON such as {"extension": "100", "number": "+492214710334"}')
        try:
            call_id = await self._dial(body["extension"], body["number"])
        except self._refusal as error:
            return _error(409, str(error))
        return web.json_response({"call_id": call_id}, status=202)


def _given_token(authorization: str, *, basic: bool) -> str | None:
    """Return the token of an Authorization header: a bearer's, with `basic` a password too; None without any."""
    scheme, _, value = authorization.partition(" ")
    if scheme.lower() == "bearer":
        return value.strip()
    if basic and scheme.lower() == "basic":
        try:
            return base64.b64decode(value.strip(), validate=True).decode().partition(":")[2]
        except (binascii.Error, UnicodeDecodeError):
            return ""
    return None


def _response(page: Page) -> web.Response:
    return web.Response(status=page.status, body=page.body, headers=page.headers)


def _error(status: int, text: str, headers: dict[str, str] | None = None) -> web.Response:
    return web.json_response({"error": text}, status=status, headers=headers)
