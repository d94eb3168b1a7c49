"""A small AMI client for the rig: it watches everything, and drives what a test needs driven.

Deliberately independent of the program under test (and of the library it uses), so that a fault there
cannot hide behind the same fault here.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Callable
from typing import Self

PATIENCE = 60.0
"""Seconds to wait for something that a working Asterisk does within one or two, on a machine with little else to do."""

Message = dict[str, str]
"""One AMI message; a header that comes several times (``Output``) holds its lines joined by newlines."""


class AmiError(Exception):
    """The AMI refused something or went away."""


def parse(block: bytes) -> Message:
    """Parse one message (without the empty line after it)."""
    message: Message = {}
    for line in block.decode("utf-8", "replace").split("\r\n"):
        name, separator, value = line.partition(":")
        if separator:
            value = value.removeprefix(" ")
            message[name] = f"{message[name]}\n{value}" if name in message else value
    return message


def matches(message: Message, headers: dict[str, str]) -> bool:
    """Tell whether *message* has all *headers*; a value that ends in ``*`` matches by its beginning."""
    for name, wanted in headers.items():
        value = message.get(name, "")
        if value != wanted and not (wanted.endswith("*") and value.startswith(wanted[:-1])):
            return False
    return True


class Ami:
    """One AMI session. All events since :meth:`mark` are kept, so nobody can wait for one too late."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._ids = itertools.count(1)
        self._answers: dict[str, asyncio.Future[Message]] = {}
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.closed = False
        self.events: list[Message] = []
        self.channels: dict[str, str] = {}
        """Channels that exist now, as far as this session saw them begin: unique id → name."""
        self.calls_seen = 0
        """How many channels this session saw begin, ever."""

    @classmethod
    async def connect(cls, port: int, user: str, secret: str, *, events: bool = True) -> Self:
        """Log in; raises :class:`AmiError` where refused, OSError where nobody listens."""
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        ami = cls(reader, writer)
        try:
            await reader.readline()  # the greeting: "Asterisk Call Manager/…"
            ami._task = asyncio.create_task(ami._read())
            await ami.action("Login", Username=user, Secret=secret, Events="on" if events else "off")
        except BaseException:
            await ami.close()
            raise
        return ami

    async def close(self) -> None:
        """Close the connection; whoever still waits for something gets an AmiError."""
        self.closed = True
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()

    async def action(self, name: str, **headers: str | list[str]) -> Message:
        """Send an action and return its response; an error response raises :class:`AmiError`."""
        if self.closed:
            raise AmiError("not connected")
        action_id = f"rig-{next(self._ids)}"
        lines = [f"Action: {name}", f"ActionID: {action_id}"]
        for key, value in headers.items():
            lines += [f"{key}: {one}" for one in ([value] if isinstance(value, str) else value)]
        answer: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._answers[action_id] = answer
        try:
            self._writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
            await self._writer.drain()
            message = await asyncio.wait_for(answer, PATIENCE)
        finally:
            self._answers.pop(action_id, None)
        if message.get("Response") == "Error":
            raise AmiError(f"{name}: {message.get('Message', '')} {message.get('Output', '')}".strip())
        return message

    async def cli(self, command: str) -> str:
        """Run a command of Asterisk's console and return what it prints."""
        return (await self.action("Command", Command=command)).get("Output", "")

    async def collect(self, name: str, end: str, **headers: str) -> list[Message]:
        """Send an action that answers with a list of events, the last of which is called *end*."""
        start = len(self.events)
        answer = await self.action(name, **headers)
        wanted = {"ActionID": answer["ActionID"]}
        await self.until(lambda: any(m.get("Event") == end and matches(m, wanted) for m in self.events[start:]))
        return [m for m in self.events[start:] if matches(m, wanted) and m.get("Event") != end]

    def mark(self) -> None:
        """Forget the events so far: what is waited for next has to happen from now on."""
        self.events.clear()

    def seen(self, event: str, **headers: str) -> list[Message]:
        """Return the events of that kind since the last :meth:`mark`."""
        return [m for m in self.events if m.get("Event") == event and matches(m, headers)]

    async def event(self, event: str, *, count: int = 1, **headers: str) -> Message:
        """Wait until *count* such events have been seen since the last :meth:`mark`; return the last one."""
        found: list[Message] = []

        def enough() -> bool:
            found[:] = self.seen(event, **headers)
            return len(found) >= count

        try:
            await self.until(enough)
        except TimeoutError:
            raise TimeoutError(f"no event {event} {headers} within {PATIENCE:.0f} s") from None
        return found[count - 1]

    async def until(self, condition: Callable[[], bool], patience: float = PATIENCE) -> None:
        """Wait until *condition* holds, looking again after every message."""
        async with asyncio.timeout(patience):
            while not condition():
                if self.closed:
                    raise AmiError("the AMI connection is gone")
                self._changed.clear()
                await self._changed.wait()

    async def _read(self) -> None:
        try:
            while True:
                block = await self._reader.readuntil(b"\r\n\r\n")
                self._take(parse(block))
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            self.closed = True
            for answer in self._answers.values():
                if not answer.done():
                    answer.set_exception(AmiError("the AMI connection is gone"))
            self._changed.set()

    def _take(self, message: Message) -> None:
        event = message.get("Event")
        if event is None:
            answer = self._answers.get(message.get("ActionID", ""))
            if answer is not None and not answer.done():
                answer.set_result(message)
        else:
            self.events.append(message)
            if event == "Newchannel":
                self.channels[message["Uniqueid"]] = message["Channel"]
                self.calls_seen += 1
            elif event == "Hangup":
                self.channels.pop(message["Uniqueid"], None)
        self._changed.set()
