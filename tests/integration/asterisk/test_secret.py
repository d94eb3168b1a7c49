"""The secret is nowhere but on the wire: not in logs at debug level, errors, chains of errors or representations."""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest
from structlog.testing import LogCapture

from ami2zammad.asterisk import actions
from ami2zammad.asterisk.connection import AmiEndpoint, AmiSession
from ami2zammad.asterisk.errors import AsteriskError
from ami2zammad.asterisk.intake import EventIntake
from ami2zammad.asterisk.reconnect import AmiFollower
from ami2zammad.sandbox.pbx import PbxSandbox
from tests.integration.asterisk.conftest import SECRET, Peer

StartPeer = Callable[..., Awaitable[Peer]]
GREETING = b"Asterisk Call Manager/11.0.0\r\n"


@pytest.fixture(autouse=True)
async def _debug(caplog: pytest.LogCaptureFixture) -> None:
    """Everything that asyncio and panoramisk have to say, too."""
    caplog.set_level(logging.DEBUG)
    asyncio.get_running_loop().set_debug(True)


def ignore(_: list[Any]) -> None:
    """Be a sink."""


def everything(error: BaseException | None) -> str:
    """Give all that a log could show of an error, with the local variables of all its frames."""
    if error is None:
        return ""
    shown = traceback.TracebackException.from_exception(error, capture_locals=True)
    # The frames of the tests themselves hold the secret, of course.
    for part in (shown, shown.__cause__, shown.__context__):
        for frame in part.stack if part else ():
            if "/tests/" in frame.filename:
                frame.locals = None
    return "".join(shown.format()) + repr(error) + repr(error.args)


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Refuse the login with all that it said."""
    writer.write(GREETING)
    asked = await reader.readuntil(b"\r\n\r\n")
    headers = dict(line.split(": ", 1) for line in asked.decode().strip().split("\r\n"))
    said = f"Message: you said {headers.get('Secret')}"
    writer.write(f"Response: Error\r\nActionID: {headers['ActionID']}\r\n{said}\r\n\r\n".encode())


async def die(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(GREETING)
    await reader.readuntil(b"\r\n\r\n")
    writer.transport.abort()


async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(GREETING)
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"x" * 300_000)


async def garble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(GREETING)
    asked = await reader.readuntil(b"\r\n\r\n")
    writer.write(b"Response: Error\r\n" + asked.replace(b"ActionID", b"ActionID: x\r\nActionID", 1))
    action_id = asked.partition(b"ActionID: ")[2].partition(b"\r\n")[0]
    writer.write(b"Response: Error\r\nActionID: %s\r\nActionID: %s\r\n\r\n" % (action_id, action_id))


async def ssh(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"SSH-2.0-OpenSSH\r\n")


@pytest.mark.parametrize("handler", [echo, die, flood, garble, ssh])
@pytest.mark.parametrize("changes", [{}, {"tls": True, "host": "localhost"}], ids=["plain", "tls"])
async def test_failing_to_log_in(
    peer: StartPeer, caplog: pytest.LogCaptureFixture, handler: Any, changes: dict[str, Any]
) -> None:
    stranger = await peer(handler)
    with pytest.raises(AsteriskError) as caught:
        await AmiSession.open(replace(stranger.endpoint, **changes), ignore)
    assert SECRET not in everything(caught.value)
    assert SECRET not in caplog.text


@pytest.mark.parametrize(
    "changes",
    [{"port": 1}, {"host": "no-such-host.invalid"}, {"secret": SECRET + "\r\n"}, {"secret": SECRET + "\ud800"}],
    ids=["refused", "unknown", "injection", "surrogate"],
)
async def test_failing_before_that(
    endpoint: AmiEndpoint, caplog: pytest.LogCaptureFixture, changes: dict[str, Any]
) -> None:
    with pytest.raises(AsteriskError) as caught:
        await AmiSession.open(replace(endpoint, **changes), ignore)
    assert SECRET not in everything(caught.value)
    assert SECRET not in caplog.text


async def test_a_session_and_its_end(
    pbx: PbxSandbox, endpoint: AmiEndpoint, log: Any, capture: LogCapture, caplog: pytest.LogCaptureFixture
) -> None:
    connected: asyncio.Queue[AmiSession] = asyncio.Queue()
    ended: asyncio.Queue[AsteriskError] = asyncio.Queue()
    follower = AmiFollower(endpoint, EventIntake(log), log, on_connected=connected.put, on_disconnected=ended.put)
    task = asyncio.create_task(follower.run())
    session = await connected.get()
    shown = [repr(vars(thing)) for thing in (session, follower, session._wire, session._protocol)]
    shown += [repr(session), repr(follower), repr(endpoint), str(endpoint), repr(task)]
    assert SECRET not in "".join(shown)
    pbx.stall()
    sending = asyncio.create_task(session.send(actions.ping()))
    await pbx.wait_for(lambda: pbx.actions[-1]["Action"] == "Ping")
    pbx.cut()
    assert SECRET not in everything(await ended.get())
    with pytest.raises(AsteriskError) as caught:
        await sending
    assert SECRET not in everything(caught.value)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert SECRET not in caplog.text
    assert SECRET not in repr(capture.entries)
    assert any(action.get("Secret") == SECRET for action in pbx.actions)


async def test_md5_does_not_even_put_it_on_the_wire(pbx: PbxSandbox, endpoint: AmiEndpoint) -> None:
    session = await AmiSession.open(replace(endpoint, auth="md5"), ignore)
    await session.close()
    assert SECRET not in repr(pbx.actions)
