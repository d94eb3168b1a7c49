"""The operations HTTP port: `POST /dial`, for click to dial."""

from __future__ import annotations

import json
import secrets
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Final, Self

import structlog
from aiohttp import web

# Two short texts; whoever sends more wants something else.
_LARGEST_BODY: Final = 4096


class OpsServer:
    """An HTTP server on `host` and `port` (0: a free one); an async context manager.

    `POST /dial` with `Authorization: Bearer <token>` and `{"extension": …, "number": …}` calls the agent and then the
    number, by `dial(extension, number)`, which returns the callId or raises `refusal` with a text for the caller.
    Without a `token` there is no `/dial`.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        token: str,
        dial: Callable[[str, str], Awaitable[str]],
        refusal: type[Exception],
    ) -> None:
        self._host = host
        self._port = port
        self._token = token
        self._dial = dial
        self._refusal = refusal
        self._log = structlog.get_logger()
        self._runner: web.AppRunner | None = None

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return int(self._runner.addresses[0][1]) if self._runner is not None else self._port

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=_LARGEST_BODY)
        if self._token:
            app.router.add_post("/dial", self._dial_requested)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        try:
            await web.TCPSite(runner, self._host, self._port).start()
        except OSError:
            await runner.cleanup()
            raise
        self._runner = runner
        self._log.info("ops.listening", host=self._host, port=self.port)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _dial_requested(self, request: web.Request) -> web.Response:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not secrets.compare_digest(token.strip().encode(), self._token.encode()):
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


def _error(status: int, text: str) -> web.Response:
    return web.json_response({"error": text}, status=status)
