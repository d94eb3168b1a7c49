"""Connecting again and again, and saying so once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from structlog.testing import LogCapture

from ami2zammad.asterisk import actions
from ami2zammad.asterisk.connection import AmiEndpoint, AmiSession
from ami2zammad.asterisk.errors import AsteriskError
from ami2zammad.asterisk.intake import EventIntake
from ami2zammad.asterisk.reconnect import LONGEST_DELAY, AmiFollower, Backoff
from ami2zammad.calls.signalling import HangupRequested
from ami2zammad.sandbox.pbx import PbxSandbox
from tests.fake_time import FakeTime


class Following:
    """A follower that runs, and what it did."""

    def __init__(self, endpoint: AmiEndpoint, log: Any, time: FakeTime) -> None:
        self.time = time
        self.intake = EventIntake(log)
        self.connected: asyncio.Queue[AmiSession] = asyncio.Queue()
        self.disconnected: asyncio.Queue[AsteriskError] = asyncio.Queue()
        self.follower = AmiFollower(
            endpoint,
            self.intake,
            log,
            on_connected=self.connected.put,
            on_disconnected=self.disconnected.put,
            backoff=Backoff(lambda: 0.0),
            clock=time.clock,
            sleep=time.sleep,
        )
        self.task: asyncio.Task[None] = asyncio.create_task(self.follower.run())

    async def stop(self) -> None:
        self.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await self.task

    async def backs_off(self) -> float:
        """Wait until it waits for the next attempt; give for how long. All other time-outs here are longer."""
        while not (short := [seconds for seconds in self.time.sleeping() if seconds <= LONGEST_DELAY]):  # noqa: ASYNC110
            await asyncio.sleep(0)
        return short[0]


@pytest.fixture
async def following(endpoint: AmiEndpoint, log: Any, time: FakeTime) -> AsyncIterator[Following]:
    running = Following(replace(endpoint, ping_interval=1e6, connect_timeout=1e5, action_timeout=1e5), log, time)
    yield running
    if not running.task.done():
        await running.stop()


async def test_it_comes_back_and_sends_nothing_twice(
    following: Following, pbx: PbxSandbox, capture: LogCapture, time: FakeTime
) -> None:
    session = await following.connected.get()
    pbx.answering = False
    sending = asyncio.create_task(session.send(actions.hangup("PJSIP/1-1", 17)))
    await pbx.wait_for(lambda: pbx.actions[-1]["Action"] == "Hangup")
    pbx.answering = True
    pbx.cut()
    assert (await following.disconnected.get()).code == "connection_lost"
    with pytest.raises(AsteriskError):
        await sending
    await time.advance(0.5)
    again = await following.connected.get()
    assert again is not session
    await again.send(actions.ping())
    assert [action["Action"] for action in pbx.actions] == ["Login", "Hangup", "Login", "Ping"]
    assert [entry["event"] for entry in capture.entries] == ["ami.connected", "ami.disconnected", "ami.connected"]
    lost = capture.entries[1]
    assert (lost["reason"], lost["port"], lost["log_level"]) == ("connection_lost", pbx.port, "warning")
    assert capture.entries[0]["version"] == "11.0.0"


async def test_delays_grow_and_are_short_again_after_a_session_that_lived(
    following: Following, pbx: PbxSandbox, time: FakeTime
) -> None:
    await following.connected.get()
    for delay in (0.5, 1, 2, 4):
        pbx.cut()
        await following.disconnected.get()
        assert await following.backs_off() == delay
        await time.advance(delay)
        await following.connected.get()
    await time.advance(10)
    pbx.cut()
    await following.disconnected.get()
    assert await following.backs_off() == 0.5


async def test_how_the_connection_is_can_be_asked_at_any_time(
    following: Following, pbx: PbxSandbox, time: FakeTime
) -> None:
    follower = following.follower

    def standing() -> tuple[int, float | None, AsteriskError | None]:
        return follower.connections, follower.connected_since, follower.trouble

    assert standing() == (0, None, None)
    await following.connected.get()
    assert standing() == (1, time.clock(), None)
    pbx.greeting = b"SSH-2.0-OpenSSH\r\n"
    pbx.cut()
    await following.disconnected.get()
    assert follower.connected_since is None
    assert follower.trouble is not None
    assert follower.trouble.code == "connection_lost"
    await following.backs_off()
    await time.advance(0.5)
    await following.backs_off()
    assert follower.trouble.code == "not_ami"
    pbx.greeting = b"Asterisk Call Manager/11.0.0\r\n"
    await time.advance(1)
    await following.connected.get()
    assert standing() == (2, time.clock(), None)


async def test_the_same_reason_is_reported_once(
    endpoint: AmiEndpoint, log: Any, capture: LogCapture, time: FakeTime, pbx: PbxSandbox
) -> None:
    pbx.greeting = b"SSH-2.0-OpenSSH\r\n"
    following = Following(replace(endpoint, ping_interval=1e6, connect_timeout=1e5), log, time)
    for delay in (0.5, 1, 2):
        assert await following.backs_off() == delay
        await time.advance(delay)
    assert await following.backs_off() == 4
    assert [entry["event"] for entry in capture.entries] == ["ami.unreachable"]
    assert capture.entries[0]["reason"] == "not_ami"
    assert "asterisk.port" in capture.entries[0]["remedy"]
    assert "SSH" in capture.entries[0]["problem"]
    pbx.greeting = b"Asterisk Call Manager/11.0.0\r\n"
    await time.advance(4)
    await following.connected.get()
    pbx.greeting = b"SSH-2.0-OpenSSH\r\n"
    pbx.cut()
    await following.disconnected.get()
    await time.advance(8)
    await following.backs_off()
    assert [entry["event"] for entry in capture.entries] == [
        "ami.unreachable",
        "ami.connected",
        "ami.disconnected",
        "ami.unreachable",
    ]
    await following.stop()


async def test_a_refused_login_is_not_tried_often(endpoint: AmiEndpoint, log: Any, time: FakeTime) -> None:
    following = Following(replace(endpoint, secret="wrong", connect_timeout=1e5), log, time)
    assert await following.backs_off() == 30
    await time.advance(30)
    assert await following.backs_off() == 30
    await following.stop()


async def test_cancelled_it_logs_off(following: Following, pbx: PbxSandbox) -> None:
    await following.connected.get()
    await following.stop()
    assert [action["Action"] for action in pbx.actions] == ["Login", "Logoff"]
    assert following.disconnected.empty()
    assert following.follower.session is None


async def test_what_fails_on_connecting_ends_the_session(
    endpoint: AmiEndpoint, log: Any, time: FakeTime, pbx: PbxSandbox
) -> None:
    pbx.answers["status"] = lambda _: [{"Response": "Error", "Message": "Permission denied"}]
    reasons: asyncio.Queue[AsteriskError] = asyncio.Queue()

    async def snapshot(session: AmiSession) -> None:
        await session.snapshot()

    follower = AmiFollower(
        endpoint,
        EventIntake(log),
        log,
        on_connected=snapshot,
        on_disconnected=reasons.put,
        clock=time.clock,
        sleep=time.sleep,
    )
    task = asyncio.create_task(follower.run())
    assert (await reasons.get()).code == "action_refused"
    await pbx.wait_for(lambda: pbx.actions[-1]["Action"] == "Logoff")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_signals_of_all_sessions_come_in_order(following: Following, pbx: PbxSandbox, time: FakeTime) -> None:
    await following.connected.get()
    await pbx.emit("HangupRequest", {"Uniqueid": "1.1"})
    while not following.intake.waiting:  # noqa: ASYNC110 -- the test consumes later
        await asyncio.sleep(0)
    pbx.cut()
    await following.disconnected.get()
    await time.advance(0.5)
    await following.connected.get()
    await pbx.emit("HangupRequest", {"Uniqueid": "1.2"})
    got = [*await following.intake.get_batch(), *await following.intake.get_batch()]
    assert got == [HangupRequested(1000.0, "1.1"), HangupRequested(1000.5, "1.2")]
