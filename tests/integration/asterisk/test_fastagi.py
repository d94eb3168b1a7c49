"""FastAGI over real sockets: the question and its answer, and all who ask in another way."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from structlog.testing import LogCapture

from ami2zammad.asterisk.fastagi import HEAD_LIMIT, HEAD_LINES, AgiHandler, AgiHangup, AgiRequest, FastAgiServer
from tests.fake_time import FakeTime, settle

HEAD = {
    "agi_network": "yes",
    "agi_network_script": "screen?queue=support&to=4930600100",
    "agi_request": "agi://127.0.0.1:4573/screen?queue=support&to=4930600100",
    "agi_channel": "PJSIP/trunk-00000001",
    "agi_language": "en",
    "agi_type": "PJSIP",
    "agi_uniqueid": "1.1",
    "agi_callerid": "4917699999999",
    "agi_calleridname": "Zoë",
    "agi_dnid": "4930600100",
    "agi_context": "from-trunk",
    "agi_extension": "4930600190",
    "agi_accountcode": "",
}
Client = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def head(**changes: str) -> bytes:
    return "".join(f"{name}: {value}\n" for name, value in (HEAD | changes).items()).encode() + b"\n"


async def wait_until(condition: Callable[[], bool]) -> None:
    """Wait for something that arrives over a socket."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 -- what is waited for has no event of its own
            await asyncio.sleep(0.001)


async def accept(_: AgiRequest) -> None:
    """Let the call go on."""


class Rig:
    """A server, and those who connect to it."""

    def __init__(self, server: FastAgiServer, time: FakeTime) -> None:
        self.server = server
        self.time = time

    async def connect(self, data: bytes = b"") -> Client:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.server.port)
        writer.write(data)
        return reader, writer

    async def ask(self, data: bytes) -> bytes:
        """Send this; give what comes until the server closes."""
        reader, writer = await self.connect(data)
        return await self.rest(reader, writer)

    @staticmethod
    async def rest(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        received = b""
        with contextlib.suppress(OSError):  # a reset is an end too
            async with asyncio.timeout(10):
                received = await reader.read()
        writer.transport.abort()
        return received


Start = Callable[..., Any]


@pytest.fixture
def start(log: Any, time: FakeTime) -> Start:
    @asynccontextmanager
    async def start(handler: AgiHandler = accept, **options: Any) -> AsyncIterator[Rig]:
        async with FastAgiServer(
            handler, host="127.0.0.1", port=0, log=log, clock=time.clock, sleep=time.sleep, **options
        ) as server:
            yield Rig(server, time)
            await wait_until(lambda: not server.connections)

    return start


async def test_a_question_and_its_answer(start: Start, capture: LogCapture) -> None:
    results: list[int] = []

    async def busy(request: AgiRequest) -> None:
        assert (request.channel, request.uniqueid) == ("PJSIP/trunk-00000001", "1.1")
        assert (request.caller_number, request.dnid) == ("4917699999999", "4930600100")
        assert (request.extension, request.context, request.script) == ("4930600190", "from-trunk", "screen")
        assert request.query == {"queue": "support", "to": "4930600100"}
        await request.set_variable("CALLERID(num)", "4969")
        results.append(await request.execute("Hangup", "17"))

    async with start(busy) as rig:
        reader, writer = await rig.connect(head())
        assert await reader.readline() == b'SET VARIABLE CALLERID(num) "4969"\n'
        writer.write(b"200 resu")
        await writer.drain()
        writer.write(b"lt=1\n")
        assert await reader.readline() == b'EXEC Hangup "17"\n'
        writer.write(b"200 result=-1\n")
        assert await rig.rest(reader, writer) == b""
        assert results == [-1]
        assert (rig.server.handled, rig.server.faults) == (1, 0)
    assert capture.entries == []


async def test_a_request_in_single_bytes(start: Start) -> None:
    async with start() as rig:
        reader, writer = await rig.connect()
        for byte in head().replace(b"\n", b"\r\n"):
            writer.write(bytes([byte]))
            await writer.drain()
        assert await rig.rest(reader, writer) == b""
        assert rig.server.handled == 1


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "garbled"),
        (b"\x16\x03\x01\x02\x00\n", "garbled"),
        (b"\n", "garbled"),
        (b"\n" * 100_000, "garbled"),
        (b"agi_channel: x\n\n", "garbled"),
        (head(agi_channel=""), "garbled"),
        (head(agi_uniqueid="1" * 151), "garbled"),
        (head(agi_accountcode="x\nagi_uniqueid: 6.6"), "garbled"),
        (head(agi_network_script="?" + "a&" * 100), "garbled"),
        (b"x" * 1_000_000, "too large"),
        (b"agi_x: " + b"x" * 1_000_000 + b"\n", "too large"),
        (b"".join(b"agi_x%d: %s\n" % (n, b"x" * 1000) for n in range(50)), "too large"),
        (b"".join(b"agi_x%d: 1\n" % n for n in range(1000)), "too large"),
    ],
)
async def test_what_is_no_request_is_closed_at_once(
    start: Start, capture: LogCapture, data: bytes, reason: str
) -> None:
    async with start() as rig:
        assert await rig.ask(data) == b""
        assert rig.server.refused == {reason: 1}
        assert rig.server.handled == 0
        assert await rig.ask(head()) == b""
        assert rig.server.handled == 1
    assert [(entry["event"], entry["reason"]) for entry in capture.entries] == [("agi.refused", reason)]


async def test_the_limits_leave_room_for_what_is_allowed(start: Start) -> None:
    lines = {f"agi_arg_{n}": "x" * 100 for n in range(HEAD_LINES - len(HEAD))}
    request = head(**lines)
    assert len(request) < HEAD_LIMIT
    async with start() as rig:
        await rig.ask(request)
        await rig.ask(head(agi_arg_1="x" * 8000))
        assert rig.server.handled == 2


@pytest.mark.parametrize("data", [b"", head()[:-1], head()[:50], b"agi_network"])
@pytest.mark.parametrize("rst", [False, True])
async def test_it_closes_without_asking(start: Start, data: bytes, rst: bool) -> None:  # noqa: FBT001
    async with start() as rig:
        _, writer = await rig.connect(data)
        await writer.drain()
        await wait_until(lambda: rig.server.connections == 1)
        if rst:
            linger = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        writer.transport.abort()
        await wait_until(lambda: rig.server.refused.total() == 1)
        # With a reset, what came before it may be lost.
        expected = {"half a request"} if data and not rst else {"half a request", "closed without a request"}
        assert set(rig.server.refused) <= (expected if data else {"closed without a request"})


@pytest.mark.parametrize(("data", "reason"), [(b"", "silent"), (head()[:-1], "half a request")])
async def test_it_stays_silent(start: Start, data: bytes, reason: str) -> None:
    async with start(request_timeout=2.0) as rig:
        reader, writer = await rig.connect(data)
        await wait_until(lambda: rig.time.sleeping() == [2.0])
        await asyncio.sleep(0.01)
        await rig.time.advance(1.9)
        assert rig.server.connections == 1
        await rig.time.advance(0.2)
        assert await rig.rest(reader, writer) == b""
        assert rig.server.refused == {reason: 1}


async def test_a_slow_loris_has_no_more_time_than_others(start: Start) -> None:
    async with start(request_timeout=2.0) as rig:
        reader, writer = await rig.connect()
        await wait_until(lambda: rig.time.sleeping() == [2.0])
        for number in range(20):
            writer.write(b"agi_x%d: 1\n" % number)
            await writer.drain()
            await rig.time.advance(0.09)
        assert rig.server.connections == 1
        await rig.time.advance(0.3)
        assert await rig.rest(reader, writer) == b""
        assert rig.server.refused == {"half a request": 1}


async def test_nobody_makes_it_spin(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    reads = 0
    original = asyncio.StreamReader.readuntil

    async def counted(self: asyncio.StreamReader, *args: Any) -> bytes:
        nonlocal reads
        reads += 1
        return await original(self, *args)

    async def wait(request: AgiRequest) -> None:
        await rig.time.sleep(1000)
        with pytest.raises(AgiHangup):
            await request.execute("Wait")

    monkeypatch.setattr(asyncio.StreamReader, "readuntil", counted)
    async with start(wait) as rig:
        clients = [await rig.connect(data) for data in (b"", head()[:-1], head(), head())]
        await wait_until(lambda: rig.server.handled == 2 and reads == 2 + 3 * len(HEAD) + 2)
        clients[2][1].transport.abort()
        clients[3][1].write(b"x" * 100_000)
        before = reads
        for _ in range(50):
            await asyncio.sleep(0.001)
        assert reads == before
        await rig.time.advance(5)
        await wait_until(lambda: rig.server.connections == 2)
        clients[3][1].transport.abort()
        await rig.time.advance(1000)
        await wait_until(lambda: rig.server.connections == 0)
        assert reads <= before + 2
        for _, writer in clients:
            writer.transport.abort()


async def test_a_flood_is_turned_away_and_the_log_stays_quiet(start: Start, capture: LogCapture) -> None:
    async with start(limit=100) as rig:
        clients = await asyncio.gather(*(rig.connect() for _ in range(300)))
        await wait_until(lambda: rig.server.turned_away == 200)
        assert rig.server.connections == 100
        assert [entry["event"] for entry in capture.entries] == ["agi.full"]
        await rig.time.advance(2)
        await wait_until(lambda: rig.server.connections == 0)
        assert rig.server.refused == {"silent": 100}
        await asyncio.gather(*(rig.rest(*client) for client in clients))
        await rig.ask(head())
        assert rig.server.handled == 1
        assert sorted(entry["event"] for entry in capture.entries) == ["agi.full", "agi.refused", "agi.relieved"]
        assert capture.entries[-1]["turned_away"] == 200


async def test_refusals_are_logged_once_a_minute(start: Start, capture: LogCapture) -> None:
    async with start() as rig:
        for _ in range(5):
            await rig.ask(b"x\n")
        rig.time.now += 60
        await rig.ask(b"x\n")
    assert [entry["unlogged"] for entry in capture.entries] == [0, 4]


async def test_a_handler_that_raises_hurts_only_itself(start: Start, capture: LogCapture) -> None:
    async def fail(request: AgiRequest) -> None:
        if request.extension == "bad":
            raise ValueError("a secret")

    async with start(fail) as rig:
        assert await rig.ask(head(agi_extension="bad")) == b""
        assert await rig.ask(head()) == b""
        assert (rig.server.handled, rig.server.faults) == (2, 1)
    (entry,) = capture.entries
    assert (entry["event"], entry["error"], entry["uniqueid"]) == ("agi.fault", "ValueError", "1.1")
    assert "a secret" not in str(entry)


async def test_a_caller_who_hangs_up_is_no_fault(start: Start, capture: LogCapture) -> None:
    async def hold(request: AgiRequest) -> None:
        await request.execute("Wait", "10")

    async with start(hold) as rig:
        reader, writer = await rig.connect(head())
        await reader.readline()
        writer.write(b"HANGUP\n")
        assert await rig.rest(reader, writer) == b""
        reader, writer = await rig.connect(head())
        await reader.readline()
        writer.transport.abort()
        await wait_until(lambda: rig.server.hangups == 2)
    assert capture.entries == []


async def test_a_peer_that_takes_nothing_does_not_stay(start: Start, capture: LogCapture) -> None:
    async def talk(request: AgiRequest) -> None:
        # More than the socket takes, so that the rest waits in our hands.
        request._writer.write(b"x" * 20_000_000)
        await request.execute("Wait", "1")

    async with start(talk, command_timeout=3.0) as rig:
        _, writer = await rig.connect(head())
        writer.transport.pause_reading()
        await wait_until(lambda: rig.time.sleeping() == [3.0])
        transport = next(iter(rig.server._connections.values())).transport
        await rig.time.advance(3)
        await wait_until(lambda: rig.server.connections == 0)
        await settle()
        assert transport.get_write_buffer_size() == 0
        assert transport.is_closing()
        writer.transport.abort()
    assert [entry["error"] for entry in capture.entries] == ["AgiTimeout"]


async def test_the_end_comes_for_all_at_once(log: Any, time: FakeTime, capture: LogCapture) -> None:
    async def hold(request: AgiRequest) -> None:
        await request.execute("Wait", "10")

    server = FastAgiServer(hold, host="127.0.0.1", port=0, log=log, clock=time.clock, sleep=time.sleep)
    with pytest.raises(RuntimeError, match="does not listen"):
        assert server.port
    await server.start()
    port = server.port
    rig = Rig(server, time)
    clients = [await rig.connect(data) for data in (b"", head()[:-1], head())]
    await clients[2][0].readline()
    await wait_until(lambda: server.connections == 3)
    await server.close()
    assert server.connections == 0
    for client in clients:
        assert await rig.rest(*client) == b""
    with pytest.raises(OSError):
        await asyncio.open_connection("127.0.0.1", port)
    await server.close()
    assert capture.entries == []
    assert time.sleeping() == []


async def test_a_port_that_is_taken(log: Any, start: Start) -> None:
    async with start() as rig:
        other = FastAgiServer(accept, host="127.0.0.1", port=rig.server.port, log=log)
        with pytest.raises(OSError):
            await other.start()
        await other.close()
