"""The whole bridge over real sockets: recorded calls in, Zammad's caller log out."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from ami2zammad.asterisk.errors import ConnectionLost
from ami2zammad.bridge import Bridge
from ami2zammad.memory import QUIET_FOR
from ami2zammad.sandbox.pbx import PbxSandbox
from ami2zammad.sandbox.zammad import Fault, ZammadSandbox
from ami2zammad.settings import AsteriskSettings, CallSettings, NumberSettings, OutboxSettings, Settings, ZammadSettings
from tests.caller_log import mismatches
from tests.e2e.scenarios import SCENARIOS
from tests.fake_time import FakeTime

RECORDINGS = Path(__file__).parents[1] / "recordings" / "22"


def settings_for(pbx: PbxSandbox, zammad: ZammadSandbox) -> Settings:
    return Settings(
        asterisk=AsteriskSettings(port=pbx.port, username="ami2zammad", secret=SecretStr("sandbox")),
        zammad=ZammadSettings(url=SecretStr(zammad.url), timeout=1),
        outbox=OutboxSettings(path=None),
        numbers=NumberSettings(outbound_prefix="0"),
        # Long enough for a machine on which the recordings are played with delays.
        calls=CallSettings(settle=1),
    )


@contextlib.asynccontextmanager
async def bridged(pbx: PbxSandbox, zammad: ZammadSandbox) -> AsyncIterator[None]:
    """Run a bridge between the two."""
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(Bridge(settings_for(pbx, zammad)).run(stop))
        await pbx.wait_for(lambda: any(action.get("Action") == "Status" for action in pbx.actions))
        yield
        stop.set()


def status_actions(pbx: PbxSandbox) -> int:
    return sum(action.get("Action") == "Status" for action in pbx.actions)


async def test_all_recorded_calls_at_the_same_time() -> None:
    names = [name for name in SCENARIOS if name != "in_blocked_caller"]
    expected = [entry for name in names for entry in SCENARIOS[name].expected]
    async with PbxSandbox() as pbx, ZammadSandbox() as zammad, bridged(pbx, zammad):
        await asyncio.gather(*(pbx.play(RECORDINGS / f"{name}.ami") for name in names))
        await zammad.wait_for(lambda z: len(z.log) >= len(expected) and all(row.state == "hangup" for row in z.log), 30)
        assert {received.status for received in zammad.requests} == {200}
        for name in names:
            created = {uniqueid for _, uniqueid, _ in _channels((RECORDINGS / f"{name}.ami").read_bytes())}
            posted = [r.fields for r in zammad.requests if r.call_id.partition("-")[0] in created]
            assert (name, mismatches(SCENARIOS[name].expected, posted)) == (name, [])


@pytest.mark.parametrize("fault", [Fault.RESET, Fault.ERROR_AFTER_STORING, Fault.BAD_GATEWAY])
async def test_a_call_is_logged_once_and_in_order_though_zammad_fails_in_between(fault: Fault) -> None:
    async with PbxSandbox() as pbx, ZammadSandbox() as zammad, bridged(pbx, zammad):
        zammad.fail(fault, times=2)
        await pbx.play(RECORDINGS / "in_attended_transfer.ami")
        await zammad.wait_for(lambda z: len(z.log) == 2 and all(row.state == "hangup" for row in z.log), 30)
        first, second = zammad.log
        assert (first.cause, second.cause) == ("forwarded", "normalClearing")
        assert second.call_id == first.call_id + "-2"


async def test_what_ended_while_the_connection_was_down_is_told_at_the_next() -> None:
    recording = (RECORDINGS / "in_answer_caller_hangs_up.ami").read_bytes()
    until_answered = recording[: recording.index(b"Event: HangupRequest")]
    async with PbxSandbox() as pbx, ZammadSandbox() as zammad, bridged(pbx, zammad):
        await pbx.send(until_answered[until_answered.index(b"Event: Newchannel") :])
        await zammad.wait_for(lambda z: len(z.log) == 1 and z.log[0].state == "answer", 30)
        pbx.cut()
        # Asterisk has no channel any more when the bridge comes back.
        await zammad.wait_for(lambda z: z.log[0].state == "hangup", 30)
        assert zammad.log[0].cause == "normalClearing"
        assert status_actions(pbx) == 2


async def test_a_call_that_goes_on_while_the_connection_is_down_is_told_once() -> None:
    recording = (RECORDINGS / "in_answer_caller_hangs_up.ami").read_bytes()
    calls = recording[recording.index(b"Event: Newchannel") :]
    answered, _, end = calls.partition(b"Event: HangupRequest")
    async with PbxSandbox() as pbx, ZammadSandbox() as zammad, bridged(pbx, zammad):
        await pbx.send(answered)
        await zammad.wait_for(lambda z: len(z.log) == 1 and z.log[0].state == "answer", 30)
        pbx.channels = {
            uniqueid: {"Channel": name, "Uniqueid": uniqueid, "Linkedid": zammad.log[0].call_id, "ChannelState": "6",
             "Context": context, "Exten": "4930600100", "BridgeID": "b"}
            for name, uniqueid, context in _channels(answered)
        }  # fmt: skip
        pbx.cut()
        await pbx.wait_for(lambda: status_actions(pbx) == 2)
        await pbx.send(b"Event: HangupRequest" + end)
        await zammad.wait_for(lambda z: z.log[0].state == "hangup", 30)
        assert len(zammad.log) == 1
        assert zammad.log[0].changes == ["newCall", "answer", "hangup"]


def _channels(stream: bytes) -> list[tuple[str, str, str]]:
    """Return name, Uniqueid and context of every channel that a stream creates."""
    channels = []
    for message in stream.decode().split("\r\n\r\n"):
        headers = dict(line.partition(": ")[::2] for line in message.split("\r\n"))
        if headers.get("Event") == "Newchannel":
            channels.append((headers["Channel"], headers["Uniqueid"], headers["Context"]))
    return channels


async def test_connections_that_show_no_channels_do_not_keep_entries_open() -> None:
    """A PBX that lets the bridge in and then does not list its channels: nobody sees the calls."""
    recording = (RECORDINGS / "in_answer_caller_hangs_up.ami").read_bytes()
    until_answered = recording[recording.index(b"Event: Newchannel") : recording.index(b"Event: HangupRequest")]
    time = FakeTime()
    async with PbxSandbox() as pbx, ZammadSandbox() as zammad, asyncio.TaskGroup() as group:
        settings = settings_for(pbx, zammad)
        bridge, stop = Bridge(settings, clock=time.clock, sleep=time.sleep), asyncio.Event()
        group.create_task(bridge.run(stop))
        await pbx.wait_for(lambda: status_actions(pbx) == 1)
        await pbx.send(until_answered)
        await zammad.wait_for(lambda z: len(z.log) == 1 and z.log[0].state == "answer", 30)
        for _ in range(5):
            await bridge._disconnected(ConnectionLost("no list"))
            await time.advance(settings.calls.unobserved_limit / 4)
        await zammad.wait_for(lambda z: z.log[0].state == "hangup", 30)
        stop.set()


async def test_memory_is_given_back_after_a_peak_and_calls_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ami2zammad.memory.AT_LEAST", 1)
    recording = (RECORDINGS / "in_answer_caller_hangs_up.ami").read_bytes()
    answered, _, end = recording[recording.index(b"Event: Newchannel") :].partition(b"Event: HangupRequest")
    fake, passed, stop = FakeTime(), 0.0, asyncio.Event()
    async with PbxSandbox() as pbx, ZammadSandbox() as zammad, asyncio.TaskGroup() as group:
        outbox = OutboxSettings(path=tmp_path / "outbox.db")
        settings = settings_for(pbx, zammad).model_copy(update={"outbox": outbox})
        bridge = Bridge(settings, clock=lambda: time.monotonic() + passed, sleep=fake.sleep)
        group.create_task(bridge.run(stop))
        await pbx.wait_for(lambda: status_actions(pbx) == 1)
        with capture_logs() as logs:
            await pbx.send(answered)
            await zammad.wait_for(lambda z: len(z.log) == 1 and z.log[0].state == "answer", 30)
            # One look that sees the call, one that does not, and one when it has been quiet for long enough.
            await fake.advance(15)
            await pbx.send(b"Event: HangupRequest" + end)
            await zammad.wait_for(lambda z: z.log[0].state == "hangup", 30)
            # Its reply is under way: until then the event still waits.
            await bridge._outbox.drain(30)
            await fake.advance(15)
            assert "bridge.memory_given_back" not in [line["event"] for line in logs]
            passed += QUIET_FOR
            await fake.advance(15)
            assert [line["event"] for line in logs].count("bridge.memory_given_back") == 1
        await pbx.play(RECORDINGS / "in_busy.ami")
        await zammad.wait_for(lambda z: len(z.log) == 2 and z.log[1].state == "hangup", 30)
        stop.set()


async def test_stopping_delivers_what_is_left_first() -> None:
    async with PbxSandbox() as pbx, ZammadSandbox() as zammad:
        async with bridged(pbx, zammad):
            zammad.fail(Fault.SLOW, times=1, seconds=0.3)
            await pbx.play(RECORDINGS / "in_busy.ami")
            await zammad.wait_for(lambda z: len(z.requests) == 1, 30)
        assert [row.cause for row in zammad.log] == ["busy"]
        assert any(action.get("Action") == "Logoff" for action in pbx.actions)


async def test_calls_that_nobody_sees_any_more_are_ended_after_a_while_and_not_begun_again() -> None:
    recording = (RECORDINGS / "in_answer_caller_hangs_up.ami").read_bytes()
    answered, _, end = recording[recording.index(b"Event: Newchannel") :].partition(b"Event: HangupRequest")
    fake, passed = FakeTime(), 0.0
    stop = asyncio.Event()
    async with PbxSandbox() as pbx, ZammadSandbox() as zammad, asyncio.TaskGroup() as group:
        bridge = Bridge(settings_for(pbx, zammad), clock=lambda: time.monotonic() + passed, sleep=fake.sleep)
        group.create_task(bridge.run(stop))
        await pbx.wait_for(lambda: status_actions(pbx) == 1)
        await pbx.send(answered)
        await zammad.wait_for(lambda z: len(z.log) == 1 and z.log[0].state == "answer", 30)
        # Connected, it never matters how long nothing happens.
        passed += 10_000
        await fake.advance(60)
        pbx.channels = {
            uniqueid: {"Channel": name, "Uniqueid": uniqueid, "Linkedid": zammad.log[0].call_id, "ChannelState": "6",
             "Context": context, "Exten": "4930600100", "BridgeID": "b"}
            for name, uniqueid, context in _channels(answered)
        }  # fmt: skip
        pbx.greeting = None
        with capture_logs() as logs:
            pbx.cut()
            await pbx.wait_for(lambda: pbx.connections == 2)
            assert zammad.log[0].state == "answer"
            passed += 3600
            await fake.advance(60)
            await zammad.wait_for(lambda z: z.log[0].state == "hangup", 30)
        assert [line for line in logs if line["event"] == "calls.given_up"] == [
            {"event": "calls.given_up", "log_level": "warning", "live_calls": 1, "seconds": 3600}
        ]
        assert zammad.log[0].cause == "normalClearing"
        # The call itself went on all the time.
        pbx.greeting = b"Asterisk Call Manager/11.0.0\r\n"
        pbx.cut()
        await pbx.wait_for(lambda: status_actions(pbx) == 2)
        await pbx.send(b"Event: HangupRequest" + end)
        await pbx.play(RECORDINGS / "in_busy.ami")
        await zammad.wait_for(lambda z: len(z.log) == 2 and z.log[1].state == "hangup", 30)
        assert zammad.log[0].changes == ["newCall", "answer", "hangup"]
        stop.set()
