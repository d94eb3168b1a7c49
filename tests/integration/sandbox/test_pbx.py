"""The sandbox's PBX: what `demo` and the other tests rely on."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ami2zammad.sandbox.pbx import PbxSandbox

CAPTURES = Path(__file__).parents[2] / "recordings" / "captures"


class Client:
    """A client with no more than a socket."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def ask(self, **headers: str) -> bytes:
        self.writer.write("".join(f"{k}: {v}\r\n" for k, v in headers.items()).encode() + b"\r\n")
        return await self.message()

    async def message(self) -> bytes:
        return await self.reader.readuntil(b"\r\n\r\n")


@contextlib.asynccontextmanager
async def connected(pbx: PbxSandbox, *, login: bool = True) -> AsyncIterator[Client]:
    reader, writer = await asyncio.open_connection("127.0.0.1", pbx.port)
    client = Client(reader, writer)
    if login:
        assert await reader.readline() == b"Asterisk Call Manager/11.0.0\r\n"
        assert b"accepted" in await client.ask(Action="Login", Username="ami2zammad", Secret="sandbox")
    yield client
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


async def test_nothing_without_login() -> None:
    async with PbxSandbox() as pbx, connected(pbx, login=False) as client:
        await client.reader.readline()
        answer = await client.ask(Action="Status", ActionID="7")
        assert answer == b"Response: Error\r\nActionID: 7\r\nMessage: Permission denied\r\n\r\n"
        await pbx.emit("Hangup")
        assert b"failed" in await client.ask(Action="Login", Username="ami2zammad", Secret="wrong")
        assert await client.reader.read() == b""


async def test_actions() -> None:
    async with PbxSandbox() as pbx, connected(pbx) as client:
        assert b"Pong" in await client.ask(Action="Ping")
        assert b"\r\nListCommands: " in await client.ask(Action="ListCommands")
        assert b"unknown command" in await client.ask(Action="Originate")
        assert b"No such channel" in await client.ask(Action="Hangup", Channel="PJSIP/1")
        pbx.channels["1.1"] = {"Channel": "PJSIP/1", "Uniqueid": "1.1"}
        assert b"Hungup" in await client.ask(Action="Hangup", Channel="PJSIP/1")
        assert b"EventList: start" in await client.ask(Action="Status")
        assert b"Event: Status\r\n" in await client.message()
        assert b"ListItems: 1\r\n" in await client.message()
        assert b"No such channel" in await client.ask(Action="Status", Channel="PJSIP/2")
        assert b"Goodbye" in await client.ask(Action="Logoff")
        assert pbx.actions[-1] == {"Action": "Logoff"}


async def test_recordings_are_played_with_their_own_timing(tmp_path: Path) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    stamps = (100, 102, 102, 200)
    (tmp_path / "call.ami").write_text(
        "Asterisk Call Manager/11.0.0\n"
        "Response: Success\nMessage: Authentication accepted\n\n"
        "Event: FullyBooted\nTimestamp: 1.0\n\n"
        + "".join(f"Event: Call{i}\nTimestamp: {at}.000000\n\n" for i, at in enumerate(stamps))
    )
    async with PbxSandbox(sleep=sleep) as pbx, connected(pbx) as client:
        played = await pbx.play(
            tmp_path / "call.ami", speed=4, longest_gap=3, rewrite=lambda message: message.replace(b"Call", b"Ring")
        )
        assert played == 4
        assert [await client.message() for _ in stamps] == [
            b"Event: Ring%d\r\nTimestamp: %d.000000\r\n\r\n" % (i, at) for i, at in enumerate(stamps)
        ]
    assert slept == [0.5, 3]


async def test_two_recordings_at_once_to_two_clients() -> None:
    async with PbxSandbox() as pbx, connected(pbx) as first, connected(pbx) as second:
        assert pbx.clients == 2
        counts = await asyncio.gather(
            pbx.play(CAPTURES / "in_answer.ami", speed=1e9), pbx.play(CAPTURES / "in_busy.ami", speed=1e9)
        )
        for client in (first, second):
            got = [await client.message() for _ in range(sum(counts))]
            assert all(message.startswith(b"Event: ") for message in got)
            assert sum(b"Event: Newchannel" in message for message in got) == 4


async def test_bad_manners() -> None:
    async with PbxSandbox() as pbx:
        pbx.greeting, pbx.segment = b"SSH-2.0-OpenSSH\r\n", 3
        async with connected(pbx, login=False) as client:
            assert await client.reader.readline() == b"SSH-2.0-OpenSSH\r\n"
        pbx.greeting, pbx.segment = b"Asterisk Call Manager/11.0.0\r\n", None
        async with connected(pbx) as client:
            pbx.stall()
            client.writer.write(b"Action: Ping\r\n\r\n")
            await pbx.wait_for(lambda: pbx.actions[-1]["Action"] == "Ping")
            await pbx.send(b"half a mess")
            pbx.cut()
            with contextlib.suppress(ConnectionError):
                assert await client.reader.read() in {b"half a mess", b""}


async def test_a_port_needs_a_start() -> None:
    with pytest.raises(RuntimeError, match="not started"):
        _ = PbxSandbox().port
