"""Whoever else may be on the port, and TLS: each has an error of its own that says which setting to change."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest
import trustme

from ami2zammad.asterisk.connection import AmiEndpoint, AmiSession
from ami2zammad.asterisk.errors import (
    AsteriskError,
    CaFileUnusable,
    CertificateNotTrusted,
    ClosedBeforeGreeting,
    ConnectionRefused,
    ConnectTimeout,
    HostUnknown,
    HostUnreachable,
    NotAmi,
    PeerSpeaksPlainly,
    PeerSpeaksTls,
)
from ami2zammad.calls.signalling import Signal
from ami2zammad.sandbox.pbx import PbxSandbox
from tests.fake_time import FakeTime
from tests.integration.asterisk.conftest import SECRET, Peer

StartPeer = Callable[..., Awaitable[Peer]]


def ignore(_: list[Signal]) -> None:
    """Be a sink."""


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def ca_file(authority: trustme.CA, tmp_path: Path) -> Path:
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(path)
    return path


def server_tls(authority: trustme.CA, name: str = "localhost") -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    return context


@pytest.mark.parametrize(
    ("greeting", "error", "match"),
    [
        (b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n", NotAmi, r"SSH server.*asterisk\.port"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", NotAmi, r"web server.*asterisk\.port"),
        (b"220 mail.example ESMTP\r\n", NotAmi, r"220 mail.*asterisk\.port"),
        (b"\x00\x01\x02\xff" * 400, NotAmi, r"greets with.*asterisk\.port"),
        (b"\x15\x03\x03\x00\x02\x02\x46", PeerSpeaksTls, r"asterisk\.tls = true"),
    ],
)
async def test_who_speaks_first(peer: StartPeer, greeting: bytes, error: type[AsteriskError], match: str) -> None:
    async def handler(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(greeting)

    stranger = await peer(handler)
    with pytest.raises(error, match=match):
        await AmiSession.open(stranger.endpoint, ignore)
    assert SECRET.encode() not in stranger.received


@pytest.mark.parametrize(
    ("reply", "error", "match"),
    [
        (b"HTTP/1.0 400 Bad Request\r\n\r\n", NotAmi, "web server"),
        (b"\x15\x03\x01\x00\x02\x02\x46", PeerSpeaksTls, r"asterisk\.tls"),
        (b"", ClosedBeforeGreeting, r"asterisk\.port"),
    ],
)
async def test_who_speaks_when_spoken_to(
    peer: StartPeer, time: FakeTime, reply: bytes, error: type[AsteriskError], match: str
) -> None:
    connected = asyncio.Event()
    nudges: list[bytes] = []

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connected.set()
        nudges.append(await reader.read(100))
        writer.write(reply)
        if not reply:
            writer.close()

    stranger = await peer(handler)
    opening = asyncio.create_task(AmiSession.open(stranger.endpoint, ignore, sleep=time.sleep))
    await connected.wait()
    await time.advance(5)
    with pytest.raises(error, match=match):
        await opening
    assert nudges == [b"\r\n" * 4]


@pytest.mark.parametrize("head", [b"", b"Aster", b"wait a minute"])
async def test_who_never_speaks(peer: StartPeer, time: FakeTime, head: bytes) -> None:
    connected = asyncio.Event()

    async def handler(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(head)
        connected.set()

    stranger = await peer(handler)
    opening = asyncio.create_task(AmiSession.open(stranger.endpoint, ignore, sleep=time.sleep))
    await connected.wait()
    # The time for the greeting begins when the connection stands.
    while time.slept != [10, 5]:  # noqa: ASYNC110 -- nothing else tells
        await asyncio.sleep(0)
    await time.advance(10)
    with pytest.raises(NotAmi, match="nothing" if not head else "only says"):
        await opening
    assert SECRET.encode() not in stranger.received


async def test_a_slow_greeting_is_no_reason_to_leave(pbx: PbxSandbox, endpoint: AmiEndpoint, time: FakeTime) -> None:
    pbx.greeting = None
    opening = asyncio.create_task(AmiSession.open(endpoint, ignore, sleep=time.sleep))
    await pbx.wait_for(lambda: pbx.connections == 1)
    while time.slept != [10, 5]:  # noqa: ASYNC110 -- nothing else tells
        await asyncio.sleep(0)
    await time.advance(6)
    (client,) = pbx._clients
    client.writer.write(b"Asterisk Call Manager/11.0.0\r\n")
    session = await opening
    assert [action["Action"] for action in pbx.actions] == ["Login"]
    await session.close()


async def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    for host in ("127.0.0.1", "localhost"):
        with pytest.raises(ConnectionRefused, match=r"asterisk\.port"):
            await AmiSession.open(AmiEndpoint(host, port), ignore)


@pytest.mark.parametrize("name", ["no-such-host.invalid", "x" * 300, "a..b"])
async def test_a_name_without_address(name: str) -> None:
    with pytest.raises(HostUnknown, match=r"asterisk\.host"):
        await AmiSession.open(AmiEndpoint(name), ignore)


async def test_no_way_to_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    async def create_connection(*_: object, **__: object) -> None:
        raise OSError(113, "No route to host")

    monkeypatch.setattr(asyncio.get_running_loop(), "create_connection", create_connection)
    with pytest.raises(HostUnreachable, match=r"No route to host.*asterisk\.host"):
        await AmiSession.open(AmiEndpoint("127.0.0.1"), ignore)


async def test_a_connection_that_does_not_come_about(peer: StartPeer, time: FakeTime) -> None:
    connected = asyncio.Event()

    async def handler(_: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
        connected.set()

    silent = await peer(handler)
    opening = asyncio.create_task(AmiSession.open(silent.tls_endpoint(), ignore, sleep=time.sleep))
    await connected.wait()
    await time.advance(10)
    with pytest.raises(ConnectTimeout, match=r"within 10 s.*asterisk\.port"):
        await opening


async def test_tls(authority: trustme.CA, ca_file: Path) -> None:
    async with PbxSandbox(secret=SECRET, tls=server_tls(authority)) as pbx:
        endpoint = AmiEndpoint("localhost", pbx.port, "ami2zammad", SECRET, tls=True, ca_file=ca_file)
        session = await AmiSession.open(endpoint, ignore)
        assert "Ping" in await session.commands()
        session.pause_reading()
        session.resume_reading()
        assert (await session.snapshot()).channels == ()
        await session.close()


async def test_a_certificate_that_is_not_trusted(authority: trustme.CA) -> None:
    async with PbxSandbox(secret=SECRET, tls=server_tls(authority)) as pbx:
        endpoint = AmiEndpoint("localhost", pbx.port, "ami2zammad", SECRET, tls=True)
        with pytest.raises(CertificateNotTrusted, match=r"asterisk\.ca_file"):
            await AmiSession.open(endpoint, ignore)
        assert pbx.actions == []


async def test_a_certificate_for_another_name(authority: trustme.CA, ca_file: Path) -> None:
    async with PbxSandbox(secret=SECRET, tls=server_tls(authority, "pbx.example")) as pbx:
        endpoint = AmiEndpoint("localhost", pbx.port, "ami2zammad", SECRET, tls=True, ca_file=ca_file)
        with pytest.raises(CertificateNotTrusted, match=r"asterisk\.host"):
            await AmiSession.open(endpoint, ignore)
        assert pbx.actions == []


async def test_no_usable_ca_file(tmp_path: Path) -> None:
    endpoint = AmiEndpoint("localhost", 1, tls=True)
    with pytest.raises(CaFileUnusable, match=r"asterisk\.ca_file"):
        await AmiSession.open(replace(endpoint, ca_file=tmp_path / "none.pem"), ignore)
    (tmp_path / "bad.pem").write_text("no certificate")
    with pytest.raises(CaFileUnusable, match=r"asterisk\.ca_file"):
        await AmiSession.open(replace(endpoint, ca_file=tmp_path / "bad.pem"), ignore)


async def test_tls_to_one_who_speaks_plainly(pbx: PbxSandbox, endpoint: AmiEndpoint) -> None:
    with pytest.raises(PeerSpeaksPlainly, match=r"asterisk\.tls = false"):
        await AmiSession.open(replace(endpoint, tls=True), ignore)
    assert pbx.actions == []


async def test_plainly_to_one_who_wants_tls(authority: trustme.CA, time: FakeTime) -> None:
    async with PbxSandbox(secret=SECRET, tls=server_tls(authority)) as pbx:
        endpoint = AmiEndpoint("127.0.0.1", pbx.port, "ami2zammad", SECRET)
        opening = asyncio.create_task(AmiSession.open(endpoint, ignore, sleep=time.sleep))
        while time.slept != [10, 5]:  # noqa: ASYNC110 -- nothing else tells
            await asyncio.sleep(0)
        await time.advance(5)
        # OpenSSL may send an alert, or just close.
        with pytest.raises((PeerSpeaksTls, ClosedBeforeGreeting), match=r"asterisk\.tls = true"):
            await opening
        assert pbx.actions == []
