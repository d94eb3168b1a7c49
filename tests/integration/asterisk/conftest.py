"""What several tests of this folder need."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest
import structlog
from structlog.testing import LogCapture

from ami2zammad.asterisk.connection import AmiEndpoint
from ami2zammad.sandbox.pbx import PbxSandbox
from tests.fake_time import FakeTime

SECRET = "c0rrect-h0rse-battery"
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@pytest.fixture
def capture() -> LogCapture:
    return LogCapture()


@pytest.fixture
def log(capture: LogCapture) -> Any:
    """Give a logger of which `capture.entries` keeps everything."""
    return structlog.wrap_logger(
        structlog.ReturnLogger(), processors=[capture], wrapper_class=structlog.make_filtering_bound_logger(0)
    )


@pytest.fixture
def time() -> FakeTime:
    return FakeTime()


@pytest.fixture
async def pbx() -> AsyncIterator[PbxSandbox]:
    async with PbxSandbox(secret=SECRET) as sandbox:
        yield sandbox


@pytest.fixture
def endpoint(pbx: PbxSandbox) -> AmiEndpoint:
    return AmiEndpoint("127.0.0.1", pbx.port, "ami2zammad", SECRET)


class Peer:
    """A server that does whatever its handler does; ends with the test."""

    def __init__(self, handler: Handler, server_options: dict[str, Any]) -> None:
        self._handler = handler
        self._options = server_options
        self._writers: list[asyncio.StreamWriter] = []
        self.received = b""
        self.server: asyncio.Server

    async def start(self) -> None:
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", 0, **self._options)

    @property
    def endpoint(self) -> AmiEndpoint:
        port = self.server.sockets[0].getsockname()[1]
        return AmiEndpoint("127.0.0.1", port, "ami2zammad", SECRET)

    def tls_endpoint(self, **changes: Any) -> AmiEndpoint:
        return replace(self.endpoint, tls=True, host="localhost", **changes)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        try:
            await self._handler(reader, writer)
            while data := await reader.read(4096):
                self.received += data
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort()

    async def close(self) -> None:
        self.server.close()
        for writer in self._writers:
            writer.transport.abort()
        await self.server.wait_closed()


@pytest.fixture
async def peer() -> AsyncIterator[Callable[..., Awaitable[Peer]]]:
    """Start a server with a handler of one's own."""
    started: list[Peer] = []

    async def start(handler: Handler, **server_options: Any) -> Peer:
        started.append(Peer(handler, server_options))
        await started[-1].start()
        return started[-1]

    yield start
    for one in started:
        await one.close()
