"""An Asterisk that is none: real AMI over TCP, calls out of recordings, and manners as bad as one likes.

For `ami2zammad demo` and for the tests; `run` never uses it.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import secrets
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Final, Self

from ami2zammad.asterisk.events import event_name
from ami2zammad.asterisk.framing import LINE_END, MESSAGE_END, Framer
from ami2zammad.asterisk.recording import read_messages

if TYPE_CHECKING:
    import ssl
    from pathlib import Path
    from types import TracebackType

Headers = dict[str, str]
Answer = Callable[[Headers], list[Headers]]
"""Gives the messages that answer an action; the ActionID is put in by itself."""

_NOT_PLAYED: Final = frozenset({b"", b"FullyBooted", b"Status", b"StatusComplete"})
"""What a recording may hold that belonged to the session that was recorded, not to its calls."""


_OF_THE_ANSWER: Final = frozenset({"Event", "Privilege", "Timestamp", "ActionID"})
"""Headers of a recorded Status that were not about its channel."""


class _Client:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.challenge = ""
        self.logged_in = False


class PbxSandbox:
    """A server that speaks AMI like Asterisk 22; `async with` starts and ends it.

    Good manners: the greeting, Login (plain and MD5), Challenge, Logoff, Ping, ListCommands, Status, Events, Hangup.
    `actions` are those it got, in order; `channels` the headers of what a Status lists, by Uniqueid; `answers` adds
    actions or changes them. Bad manners can be switched on at any time: `greeting` (any bytes, None: silent),
    `answering` (False: actions are read and ignored), `md5` (False: no challenge), `segment` (everything goes out cut
    into pieces of that many bytes); and see `send`, `cut`, `stall`.
    """

    def __init__(
        self,
        *,
        username: str = "ami2zammad",
        secret: str = "sandbox",  # noqa: S107 -- an account of the sandbox
        tls: ssl.SSLContext | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._username = username
        self._secret = secret
        self._tls = tls
        self._sleep = sleep
        self._server: asyncio.Server | None = None
        self._closing = False
        self._clients: list[_Client] = []
        self._changed = asyncio.Condition()
        self._tasks: set[asyncio.Task[None]] = set()
        self.actions: list[Headers] = []
        self.channels: dict[str, Headers] = {}
        self.connections = 0
        self.greeting: bytes | None = b"Asterisk Call Manager/11.0.0\r\n"
        self.answering = True
        self.md5 = True
        self.segment: int | None = None
        self.answers: dict[str, Answer] = {
            "ping": lambda _: [{"Response": "Success", "Ping": "Pong", "Timestamp": "0.000000"}],
            "events": lambda _: [{"Response": "Success", "Events": "On"}],
            "listcommands": self._list_commands,
            "status": self._status,
            "hangup": self._hangup,
        }

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> None:
        """Listen; on a free port unless one is given. Raises OSError."""
        self._server = await asyncio.start_server(self._serve, host, port, ssl=self._tls)

    async def close(self) -> None:
        """End all connections and listen no more."""
        if self._server is not None:
            self._server.close()
        self._closing = True
        self.cut()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._server is not None:
            await self._server.wait_closed()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    @property
    def port(self) -> int:
        """The port on which it listens."""
        if self._server is None:
            raise RuntimeError("the sandbox was not started")
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    @property
    def clients(self) -> int:
        """How many sessions are logged in."""
        return sum(client.logged_in for client in self._clients)

    async def wait_for(self, condition: Callable[[], bool]) -> None:
        """Wait until something is so; it is asked after each action and connection."""
        async with self._changed:
            await self._changed.wait_for(condition)

    async def play(
        self,
        recording: Path,
        *,
        speed: float = 1.0,
        longest_gap: float = 5.0,
        rewrite: Callable[[bytes], bytes] | None = None,
    ) -> int:
        """Play a recording's events to all who are logged in; give their number.

        Times between events are those of the recording divided by `speed`, but at most `longest_gap` seconds.
        `rewrite` may change each message (new ids, say). Recordings can be played at the same time if their ids differ.
        What a recorded Status said of a channel is what a Status says from then on until that channel's Hangup.
        Raises what `read_messages` raises.
        """
        before: float | None = None
        played = 0
        for at, message in read_messages(recording):
            name = event_name(message)
            if name == b"Status":
                self._list(_headers(message))
            elif name == b"Hangup":
                self.channels.pop(_headers(message).get("Uniqueid", ""), None)
            if name in _NOT_PLAYED:
                continue
            if before is not None and at > before:
                await self._sleep(min((at - before) / speed, longest_gap))
            before = at
            await self.send((rewrite(message) if rewrite else message) + MESSAGE_END)
            played += 1
        return played

    def _list(self, status: Headers) -> None:
        listed = {name: value for name, value in status.items() if name not in _OF_THE_ANSWER}
        self.channels[listed.get("Uniqueid", "")] = listed

    async def emit(self, event: str, headers: Mapping[str, str] | None = None) -> None:
        """Send one event to all who are logged in."""
        await self.send(_block({"Event": event, **(headers or {})}))

    async def send(self, raw: bytes) -> None:
        """Send any bytes to all who are logged in, half a message say. Waits for those who are slow to read."""
        clients = [client for client in self._clients if client.logged_in]
        if self.segment is not None:
            for client in clients:
                await self._write(client, raw)
            return
        # To all before anybody is waited for: what a Status says next must not get there before this.
        for client in clients:
            client.writer.write(raw)
        for client in clients:
            with contextlib.suppress(OSError):  # it left; its own task takes note
                await client.writer.drain()

    def cut(self) -> None:
        """Break all connections off, as a crash would."""
        for client in self._clients:
            client.writer.transport.abort()

    def stall(self) -> None:
        """Stay connected, but say nothing more: neither answers nor, of course, events."""
        self.answering = False

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        client = _Client(reader, writer)
        task = asyncio.current_task()
        if task is not None:
            self._tasks.add(task)
        self._clients.append(client)
        self.connections += 1
        await self._notify()
        try:
            if not self._closing:
                await self._converse(client)
        except (OSError, asyncio.CancelledError):
            pass  # the other side left, or the program ends
        finally:
            self._clients.remove(client)
            writer.transport.abort()
            if task is not None:
                self._tasks.discard(task)

    async def _converse(self, client: _Client) -> None:
        if self.greeting is not None:
            await self._write(client, self.greeting)
        framer = Framer()
        while data := await client.reader.read(65536):
            for message in framer.feed(data):
                headers = _headers(message)
                if not headers:
                    continue
                self.actions.append(headers)
                goes_on = not self.answering or await self._act(client, headers)
                await self._notify()
                if not goes_on:
                    await client.writer.drain()
                    client.writer.close()
                    return

    async def _act(self, client: _Client, headers: Headers) -> bool:
        """Answer an action; say whether the connection goes on."""
        action = headers.get("Action", "").lower()
        action_id = {"ActionID": headers["ActionID"]} if "ActionID" in headers else {}
        goes_on = True
        messages: list[Headers]
        if action == "challenge" and self.md5:
            client.challenge = secrets.token_hex(5)
            messages = [{"Response": "Success", "Challenge": client.challenge}]
        elif action == "login":
            client.logged_in = goes_on = self._knows(headers, client.challenge)
            messages = [
                {"Response": "Success", "Message": "Authentication accepted"}
                if goes_on
                else {"Response": "Error", "Message": "Authentication failed"}
            ]
        elif action == "logoff":
            messages = [{"Response": "Goodbye", "Message": "Thanks for all the fish."}]
            goes_on = False
        elif not client.logged_in:
            messages = [{"Response": "Error", "Message": "Permission denied"}]
        elif action in self.answers:
            messages = self.answers[action](headers)
        else:
            messages = [{"Response": "Error", "Message": "Invalid/unknown command"}]
        await self._write(client, b"".join(_block(_after_first(message, action_id)) for message in messages))
        return goes_on

    def _knows(self, headers: Headers, challenge: str) -> bool:
        if headers.get("Username") != self._username:
            return False
        if headers.get("AuthType", "").upper() == "MD5":
            key = hashlib.md5((challenge + self._secret).encode(), usedforsecurity=False).hexdigest()
            return bool(challenge) and headers.get("Key") == key
        return headers.get("Secret") == self._secret

    def _list_commands(self, _: Headers) -> list[Headers]:
        known = ["Login", "Logoff", "Challenge", *sorted(name.capitalize() for name in self.answers)]
        names = {"Listcommands": "ListCommands"}
        commands = {names.get(name, name): "A command of the sandbox.  (Priv: <none>)" for name in known}
        return [{"Response": "Success", **commands}]

    def _status(self, headers: Headers) -> list[Headers]:
        wanted = headers.get("Channel")
        listed = [channel for channel in self.channels.values() if wanted in {None, channel.get("Channel")}]
        if wanted is not None and not listed:
            return [{"Response": "Error", "Message": "No such channel"}]
        start = {"Response": "Success", "EventList": "start", "Message": "Channel status will follow"}
        events = [{"Event": "Status", "Privilege": "Call", **channel} for channel in listed]
        end = {"Event": "StatusComplete", "EventList": "Complete", "ListItems": str(len(listed))}
        return [start, *events, end]

    def _hangup(self, headers: Headers) -> list[Headers]:
        if any(channel.get("Channel") == headers.get("Channel") for channel in self.channels.values()):
            return [{"Response": "Success", "Message": "Channel Hungup"}]
        return [{"Response": "Error", "Message": "No such channel"}]

    async def _write(self, client: _Client, data: bytes) -> None:
        size = self.segment or len(data) or 1
        try:
            for start in range(0, len(data), size):
                client.writer.write(data[start : start + size])
                await client.writer.drain()
                if self.segment:
                    # Lets the other side read before the next piece, so that the pieces arrive as pieces.
                    await asyncio.sleep(0)
        except OSError:
            pass  # it left; its own task takes note

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()


def _headers(message: bytes) -> Headers:
    lines = message.strip(LINE_END).decode("utf-8", "replace").split("\r\n")
    return {name: value for name, colon, value in (line.partition(": ") for line in lines) if colon}


def _block(headers: Mapping[str, str]) -> bytes:
    return ("".join(f"{name}: {value}\r\n" for name, value in headers.items()) + "\r\n").encode()


def _after_first(headers: Headers, more: Headers) -> Headers:
    """Asterisk puts the ActionID right behind the first header."""
    items = list(headers.items())
    return dict([*items[:1], *more.items(), *items[1:]])
