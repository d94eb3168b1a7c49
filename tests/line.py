"""The way from the bridge to a PBX's AMI, and what can happen to it on the way."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

HOST = "127.0.0.1"

_PIECE = 256
"""Bytes that a slow line passes on at a time."""


@dataclass(eq=False)
class _Connection:
    """One connection through the line: `near` is the bridge's end, `far` the PBX's."""

    near: asyncio.StreamWriter
    far: asyncio.StreamWriter | None = None
    flowing: asyncio.Event = field(default_factory=asyncio.Event)
    """Not set: it is half-open. Nothing comes through, and nobody is told."""

    def abort(self) -> None:
        for end in (self.near, self.far):
            if end is not None:
                end.transport.abort()


class Line:
    """A TCP proxy in front of AMI; get it with `lay`. What is switched on holds for connections to come as well.

    `connections` counts those from the bridge, `broken_logins` the logins that came to nothing.
    """

    def __init__(self, port: int) -> None:
        self._to = port
        self._server: asyncio.Server | None = None
        self._connections: list[_Connection] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._frozen = False
        self.port = 0
        self.bytes_per_second: float | None = None
        """How much gets to the bridge; None: as much as comes."""
        self.breaks_logins = False
        """End a connection when the bridge logs in."""
        self.greeting: bytes | None = None
        """What a new connection gets to hear in place of the PBX."""
        self.connections = 0
        self.broken_logins = 0

    @classmethod
    @contextlib.asynccontextmanager
    async def lay(cls, port: int) -> AsyncIterator[Line]:
        """Pass on to *port* what comes to the line's own port, for the length of an `async with`."""
        line = cls(port)
        await line.up()
        try:
            yield line
        finally:
            await line.down()

    async def up(self) -> None:
        """Listen (again), on the same port as before."""
        if self._server is None:
            self._server = await asyncio.start_server(self._accept, HOST, self.port)
            self.port = self._server.sockets[0].getsockname()[1]

    async def down(self) -> None:
        """End all connections and refuse new ones."""
        if self._server is not None:
            self._server.close()
            self._server = None
        self.cut()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self.cut()

    def cut(self) -> None:
        """End all connections at once; new ones are welcome."""
        for connection in self._connections:
            connection.abort()
        self._connections.clear()

    def freeze(self) -> None:
        """Make the line half-open: everything stays connected, no byte comes through any more.

        So it is when a firewall has forgotten a connection, or the cable is out.
        """
        self._frozen = True
        for connection in self._connections:
            connection.flowing.clear()

    def thaw(self) -> None:
        """Let new connections through; those that were frozen stay so, as dead ones do."""
        self._frozen = False

    def inject(self, data: bytes) -> None:
        """Let the bridge hear *data* as if the PBX had sent it."""
        for connection in self._connections:
            connection.near.write(data)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self._connected(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        connection = _Connection(writer)
        self._connections.append(connection)
        if not self._frozen:
            connection.flowing.set()
        try:
            await connection.flowing.wait()
            if self.greeting is not None:
                writer.write(self.greeting)
                await reader.read()
                return
            far_reader, connection.far = await asyncio.open_connection(HOST, self._to)
            await asyncio.gather(
                self._to_pbx(connection, reader, connection.far), self._to_bridge(connection, far_reader)
            )
        except OSError:
            pass  # one of the two has gone, or the PBX listens no more
        finally:
            connection.abort()
            if connection in self._connections:
                self._connections.remove(connection)

    async def _to_pbx(self, connection: _Connection, reader: asyncio.StreamReader, far: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            await connection.flowing.wait()
            if self.breaks_logins and b"action: login" in data.lower():
                self.broken_logins += 1
                connection.abort()
                return
            far.write(data)
        far.close()

    async def _to_bridge(self, connection: _Connection, reader: asyncio.StreamReader) -> None:
        while data := await reader.read(65536):
            while data:
                await connection.flowing.wait()
                size = len(data) if self.bytes_per_second is None else _PIECE
                piece, data = data[:size], data[size:]
                if self.bytes_per_second is not None:
                    await asyncio.sleep(len(piece) / self.bytes_per_second)
                connection.near.write(piece)
                await connection.near.drain()
        connection.near.close()
