"""A session over a real socket: login, signals, answers, liveness, backpressure, and every way to end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import LogCapture

from ami2zammad.asterisk import actions
from ami2zammad.asterisk.actions import OriginateRequest
from ami2zammad.asterisk.connection import AmiEndpoint, AmiSession, OriginateOutcome
from ami2zammad.asterisk.errors import (
    ActionRefused,
    ActionTimeout,
    AsteriskStopped,
    ClosedBeforeGreeting,
    ConnectionLost,
    HeaderInjection,
    LoginRefused,
    Md5NotOffered,
    MessageTooLarge,
    PeerSilent,
    SessionClosed,
)
from ami2zammad.asterisk.intake import EventIntake
from ami2zammad.asterisk.recording import RecordingWriter, read_recording
from ami2zammad.calls.signalling import ApplicationSeen, ChannelListed, HangupRequested, Signal, Snapshot
from ami2zammad.sandbox.pbx import PbxSandbox
from tests.fake_time import FakeTime
from tests.integration.asterisk.conftest import SECRET, Peer

CAPTURES = Path(__file__).parents[2] / "recordings" / "captures"
CHANNEL = {
    "Channel": "PJSIP/100-00000001",
    "ChannelState": "6",
    "CallerIDNum": "100",
    "CallerIDName": "Emma Taylor",
    "Context": "from-internal",
    "Exten": "101",
    "Uniqueid": "1.1",
    "Linkedid": "1.0",
    "BridgeID": "b-1",
    "Application": "VoiceMail",
}
LISTED = ChannelListed(
    "1.1", "1.0", "PJSIP/100-00000001", 6, "from-internal", "101", "100", "Emma Taylor", "b-1", "VoiceMail"
)
StartPeer = Callable[..., Awaitable[Peer]]


async def wait_until(condition: Callable[[], bool]) -> None:
    """Wait for something that arrives over a socket."""
    while not condition():  # noqa: ASYNC110 -- what is waited for has no event of its own
        await asyncio.sleep(0.001)


def ignore(_: list[Signal]) -> None:
    """Be a sink."""


@pytest.mark.parametrize("segment", [None, 1, 7])
@pytest.mark.parametrize("auth", ["plain", "md5"])
async def test_login_and_farewell(pbx: PbxSandbox, endpoint: AmiEndpoint, auth: Any, segment: int | None) -> None:
    pbx.segment = segment
    session = await AmiSession.open(replace(endpoint, auth=auth), ignore)
    assert session.version == "11.0.0"
    assert pbx.clients == 1
    await session.close()
    assert isinstance(await session.closed(), SessionClosed)
    login = ["Challenge", "Login"] if auth == "md5" else ["Login"]
    assert [action["Action"] for action in pbx.actions] == [*login, "Logoff"]
    assert any(SECRET in action.values() for action in pbx.actions) == (auth == "plain")
    await session.close()


@pytest.mark.parametrize("auth", ["plain", "md5"])
async def test_a_wrong_secret(endpoint: AmiEndpoint, auth: Any) -> None:
    with pytest.raises(LoginRefused, match=r"asterisk\.secret.*permit/deny"):
        await AmiSession.open(replace(endpoint, secret="wrong", auth=auth), ignore)


async def test_no_md5(pbx: PbxSandbox, endpoint: AmiEndpoint) -> None:
    pbx.md5 = False
    with pytest.raises(Md5NotOffered, match=r'asterisk\.auth = "plain"'):
        await AmiSession.open(replace(endpoint, auth="md5"), ignore)


async def test_a_secret_that_could_inject_is_not_sent(pbx: PbxSandbox, endpoint: AmiEndpoint) -> None:
    with pytest.raises(HeaderInjection, match="Secret"):
        await AmiSession.open(replace(endpoint, secret="x\r\n\r\nAction: Originate"), ignore)
    assert pbx.actions == []


@pytest.mark.parametrize("segment", [None, 1, 100])
async def test_a_real_call_arrives_as_it_was_recorded(
    pbx: PbxSandbox, endpoint: AmiEndpoint, segment: int | None
) -> None:
    signals: list[Signal] = []
    recording = CAPTURES / "in_queue_answer.ami"
    wanted = [replace(signal, at=5.0) for signal in read_recording(recording)]
    session = await AmiSession.open(endpoint, signals.extend, clock=lambda: 5.0)
    pbx.segment = segment
    await pbx.play(recording, speed=1e9)
    await wait_until(lambda: len(signals) >= len(wanted))
    assert signals == wanted
    assert session.garbled == 0
    await session.close()


async def test_snapshot_and_application(pbx: PbxSandbox, endpoint: AmiEndpoint) -> None:
    signals: list[Signal] = []
    session = await AmiSession.open(endpoint, signals.extend, clock=lambda: 5.0)
    assert await session.snapshot() == Snapshot(5.0, (), 5.0)
    pbx.channels[CHANNEL["Uniqueid"]] = CHANNEL
    await pbx.emit("HangupRequest", {"Uniqueid": "before"})
    assert await session.snapshot() == Snapshot(5.0, (LISTED,), 5.0)
    assert await session.application_of("PJSIP/100-00000001") == "VoiceMail"
    assert await session.application_of("PJSIP/none-00000001") == ""
    assert signals == [
        Snapshot(5.0, (), 5.0),
        HangupRequested(5.0, "before"),
        Snapshot(5.0, (LISTED,), 5.0),
        ApplicationSeen(5.0, "1.1", "VoiceMail"),
    ]
    await session.close()


async def test_a_snapshot_that_is_not_allowed(pbx: PbxSandbox, endpoint: AmiEndpoint) -> None:
    pbx.answers["status"] = lambda _: [{"Response": "Error", "Message": "Permission denied"}]
    session = await AmiSession.open(endpoint, ignore)
    with pytest.raises(ActionRefused, match="write = call"):
        await session.snapshot()
    await session.close()


async def test_commands(endpoint: AmiEndpoint) -> None:
    session = await AmiSession.open(endpoint, ignore)
    assert await session.commands() >= {"Ping", "Status", "Hangup", "ListCommands"}
    assert not await session.commands() & {"Response", "ActionID", "content"}
    await session.close()


async def test_an_action_that_is_not_answered(pbx: PbxSandbox, endpoint: AmiEndpoint, time: FakeTime) -> None:
    session = await AmiSession.open(replace(endpoint, ping_interval=1e6, action_timeout=3), ignore, sleep=time.sleep)
    pbx.stall()
    sending = asyncio.create_task(session.send(actions.hangup("PJSIP/1", 17)))
    await pbx.wait_for(lambda: pbx.actions[-1]["Action"] == "Hangup")
    await time.advance(2.9)
    assert not sending.done()
    await time.advance(0.2)
    with pytest.raises(ActionTimeout, match="Hangup within 3 s"):
        await sending
    assert not session._protocol.responses
    closing = asyncio.create_task(session.close())
    await time.advance(2)
    await closing


async def test_an_action_with_a_time_of_its_own(pbx: PbxSandbox, endpoint: AmiEndpoint, time: FakeTime) -> None:
    session = await AmiSession.open(replace(endpoint, ping_interval=1e6, action_timeout=3), ignore, sleep=time.sleep)
    pbx.stall()
    sending = asyncio.create_task(session.send(actions.hangup("PJSIP/1", 17), timeout=30))
    await pbx.wait_for(lambda: pbx.actions[-1]["Action"] == "Hangup")
    await time.advance(29)
    assert not sending.done()
    await time.advance(2)
    with pytest.raises(ActionTimeout, match="Hangup within 30 s"):
        await sending
    closing = asyncio.create_task(session.close())
    await time.advance(2)
    await closing


def dial() -> OriginateRequest:
    return actions.originate(
        channel="PJSIP/49221@trunk",
        application="Bridge",
        data="PJSIP/100-00000001",
        caller_id="4930600100",
        channel_id="bridge-1",
        timeout=30,
    )


QUEUED = {"Response": "Success", "Message": "Originate successfully queued"}


async def respond(pbx: PbxSandbox, action: OriginateRequest, reason: str, response: str) -> None:
    headers = {"ActionID": action["ActionID"], "Response": response, "Reason": reason}
    await pbx.emit("OriginateResponse", headers | {"Channel": "PJSIP/trunk-00000002", "Uniqueid": "bridge-1"})


@pytest.mark.parametrize(
    ("response", "reason", "outcome"),
    [
        ("Success", "4", OriginateOutcome(True, 4, "PJSIP/trunk-00000002", "bridge-1")),
        ("Failure", "3", OriginateOutcome(False, 3, "PJSIP/trunk-00000002", "bridge-1")),
        ("Failure", "x", OriginateOutcome(False, 0, "PJSIP/trunk-00000002", "bridge-1")),
    ],
)
async def test_an_originate_tells_twice(
    pbx: PbxSandbox, endpoint: AmiEndpoint, response: str, reason: str, outcome: OriginateOutcome
) -> None:
    pbx.answers["originate"] = lambda _: [QUEUED]
    session = await AmiSession.open(endpoint, ignore)
    action = dial()
    origination = await session.originate(action)
    waiting = asyncio.create_task(origination.outcome())
    await session.send(actions.ping())
    assert not waiting.done()
    await respond(pbx, action, reason, response)
    assert await waiting == outcome
    assert not session._protocol.responses
    await session.close()


async def test_an_originate_that_is_refused(pbx: PbxSandbox, endpoint: AmiEndpoint) -> None:
    pbx.answers["originate"] = lambda _: [{"Response": "Error", "Message": "Permission denied"}]
    session = await AmiSession.open(endpoint, ignore)
    with pytest.raises(ActionRefused, match=r"Originate: \"Permission denied\".*originate"):
        await session.originate(dial())
    assert not session._protocol.responses
    await session.close()


async def test_an_originate_that_is_not_answered(pbx: PbxSandbox, endpoint: AmiEndpoint, time: FakeTime) -> None:
    session = await AmiSession.open(replace(endpoint, ping_interval=1e6, action_timeout=3), ignore, sleep=time.sleep)
    pbx.answers["originate"] = lambda _: [QUEUED]
    origination = await session.originate(dial())
    waiting = asyncio.create_task(origination.outcome())
    await time.advance(32)
    assert not waiting.done()
    await time.advance(2)
    with pytest.raises(ActionTimeout, match="Originate within 33 s"):
        await waiting
    pbx.answers["originate"] = lambda _: []
    sending = asyncio.create_task(session.originate(dial()))
    await pbx.wait_for(lambda: sum(action["Action"] == "Originate" for action in pbx.actions) == 2)
    await time.advance(3)
    with pytest.raises(ActionTimeout, match="Originate within 3 s"):
        await sending
    assert not session._protocol.responses
    closing = asyncio.create_task(session.close())
    await asyncio.sleep(0.01)
    await time.advance(2)
    await closing


async def test_the_connection_dies_while_it_rings(pbx: PbxSandbox, endpoint: AmiEndpoint) -> None:
    pbx.answers["originate"] = lambda _: [QUEUED]
    session = await AmiSession.open(endpoint, ignore)
    origination = await session.originate(dial())
    await session.originate(dial())  # nobody has to wait
    waiting = asyncio.create_task(origination.outcome())
    pbx.stall()
    sending = asyncio.create_task(session.originate(dial()))
    await pbx.wait_for(lambda: sum(action["Action"] == "Originate" for action in pbx.actions) == 3)
    pbx.cut()
    with pytest.raises(ConnectionLost):
        await waiting
    with pytest.raises(ConnectionLost):
        await sending
    await session.close()


async def test_two_actions_at_once_get_their_own_answers(endpoint: AmiEndpoint) -> None:
    session = await AmiSession.open(endpoint, ignore)
    answers = await asyncio.gather(
        session.send(actions.ping()), session.send(actions.hangup("none", 17)), session.send(actions.status())
    )
    assert [type(answer) is list for answer in answers] == [False, False, True]
    assert [answers[0].success, answers[1].success] == [True, False]  # type: ignore[union-attr]
    await session.close()


async def test_the_connection_dies_while_an_action_waits(pbx: PbxSandbox, endpoint: AmiEndpoint) -> None:
    session = await AmiSession.open(endpoint, ignore)
    pbx.stall()
    sending = asyncio.create_task(session.send(actions.hangup("PJSIP/1", 17)))
    await pbx.wait_for(lambda: pbx.actions[-1]["Action"] == "Hangup")
    pbx.cut()
    with pytest.raises(ConnectionLost):
        await sending
    assert isinstance(await session.closed(), ConnectionLost)
    with pytest.raises(ConnectionLost):
        await session.send(actions.ping())
    await session.close()


async def test_it_dies_in_the_middle_of_a_message(pbx: PbxSandbox, endpoint: AmiEndpoint) -> None:
    signals: list[Signal] = []
    session = await AmiSession.open(endpoint, signals.extend, clock=lambda: 5.0)
    await pbx.send(b"Event: HangupRequest\r\nUniqueid: 1.1\r\n\r\nEvent: HangupRequest\r\nUniqueid: 1.2\r\n")
    await wait_until(lambda: bool(signals))
    pbx.cut()
    assert isinstance(await session.closed(), ConnectionLost)
    assert signals == [HangupRequested(5.0, "1.1")]


async def test_it_dies_in_the_middle_of_the_login(peer: StartPeer) -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"Asterisk Call Manager/11.0.0\r\n")
        await reader.readuntil(b"\r\n\r\n")
        writer.transport.abort()

    dying = await peer(handler)
    with pytest.raises(ConnectionLost):
        await AmiSession.open(dying.endpoint, ignore)


async def test_it_closes_at_once(peer: StartPeer) -> None:
    async def handler(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    closing = await peer(handler)
    with pytest.raises(ClosedBeforeGreeting, match=r"asterisk\.tls"):
        await AmiSession.open(closing.endpoint, ignore)


async def test_a_login_that_is_not_answered(pbx: PbxSandbox, endpoint: AmiEndpoint, time: FakeTime) -> None:
    pbx.stall()
    opening = asyncio.create_task(AmiSession.open(endpoint, ignore, sleep=time.sleep))
    await pbx.wait_for(lambda: len(pbx.actions) == 1)
    await time.advance(10)
    with pytest.raises(ActionTimeout, match="Login"):
        await opening


async def test_shutdown(pbx: PbxSandbox, endpoint: AmiEndpoint) -> None:
    signals: list[Signal] = []
    session = await AmiSession.open(endpoint, signals.extend, clock=lambda: 5.0)
    await pbx.send(b"Event: HangupRequest\r\nUniqueid: 1.1\r\n\r\nEvent: Shutdown\r\nShutdown: Cleanly\r\n\r\n")
    assert isinstance(await session.closed(), AsteriskStopped)
    assert signals == [HangupRequested(5.0, "1.1")]


async def test_a_message_without_end(pbx: PbxSandbox, endpoint: AmiEndpoint) -> None:
    session = await AmiSession.open(endpoint, ignore)
    await pbx.send(b"x" * 300_000)
    assert isinstance(await session.closed(), MessageTooLarge)


async def test_garbage_in_between_does_no_harm(pbx: PbxSandbox, endpoint: AmiEndpoint) -> None:
    signals: list[Signal] = []
    session = await AmiSession.open(endpoint, signals.extend, clock=lambda: 5.0)
    await pbx.send(bytes(range(256)) + b"\r\n\r\n" + b"Event: Hangup\r\n\r\n")
    await pbx.send(b"Event: Newchannel\r\nUniqueid: \xff\x00\r\n\r\nEvent: HangupRequest\r\nUniqueid: 1.1\r\n\r\n")
    await wait_until(lambda: bool(signals))
    assert signals == [HangupRequested(5.0, "1.1")]
    assert session.garbled == 3
    await session.close()


async def test_a_ping_that_is_answered_keeps_the_session(
    pbx: PbxSandbox, endpoint: AmiEndpoint, time: FakeTime
) -> None:
    session = await AmiSession.open(replace(endpoint, ping_interval=10, ping_timeout=5), ignore, sleep=time.sleep)
    for round_ in range(1, 4):
        await time.advance(10)
        await pbx.wait_for(lambda: sum(a["Action"] == "Ping" for a in pbx.actions) == round_)  # noqa: B023
        # Until the answer is in, the watch sleeps for the time-out; then for the next interval.
        await wait_until(lambda: time.slept[-1] == 10)
    await session.close()
    assert isinstance(await session.closed(), SessionClosed)


async def test_a_peer_that_sends_events_but_answers_no_ping(
    pbx: PbxSandbox, endpoint: AmiEndpoint, time: FakeTime
) -> None:
    signals: list[Signal] = []
    session = await AmiSession.open(
        replace(endpoint, ping_interval=10, ping_timeout=5), signals.extend, sleep=time.sleep
    )
    pbx.stall()
    await time.advance(10)
    await pbx.wait_for(lambda: pbx.actions[-1]["Action"] == "Ping")
    await time.advance(4.9)
    await pbx.emit("HangupRequest", {"Uniqueid": "1.1"})
    await wait_until(lambda: bool(signals))
    assert not session._reason.done()
    await time.advance(0.2)
    reason = await session.closed()
    assert isinstance(reason, PeerSilent)
    assert "5 s" in str(reason)
    await session.close()


async def test_a_peer_is_not_blamed_while_we_do_not_listen(
    pbx: PbxSandbox, endpoint: AmiEndpoint, time: FakeTime
) -> None:
    session = await AmiSession.open(replace(endpoint, ping_interval=10, ping_timeout=5), ignore, sleep=time.sleep)
    answer = pbx.answers["ping"]

    def answer_to_deaf_ears(headers: dict[str, str]) -> list[dict[str, str]]:
        session.pause_reading()
        session.pause_reading()
        return answer(headers)

    # Paused in the middle of a ping: the time begins anew once we listen again.
    pbx.answers["ping"] = answer_to_deaf_ears
    await time.advance(10)
    await pbx.wait_for(lambda: pbx.actions[-1]["Action"] == "Ping")
    await time.advance(100)
    assert not session._reason.done()
    pbx.answers["ping"] = answer
    session.resume_reading()
    await wait_until(lambda: time.slept[-1] == 10)
    # Paused when the next ping is due: it waits.
    session.pause_reading()
    pings = len(pbx.actions)
    await time.advance(100)
    assert len(pbx.actions) == pings
    assert not session._reason.done()
    session.resume_reading()
    await pbx.wait_for(lambda: len(pbx.actions) > pings)
    await wait_until(lambda: time.slept[-1] == 10)
    await session.close()


async def test_a_dead_peer_is_found_out_after_a_pause(pbx: PbxSandbox, endpoint: AmiEndpoint, time: FakeTime) -> None:
    session = await AmiSession.open(replace(endpoint, ping_interval=10, ping_timeout=5), ignore, sleep=time.sleep)
    pbx.stall()
    await time.advance(10)
    session.pause_reading()
    await time.advance(50)
    session.resume_reading()
    await time.advance(4)
    assert not session._reason.done()
    await time.advance(2)
    assert isinstance(await session.closed(), PeerSilent)


async def test_backpressure_loses_nothing(
    pbx: PbxSandbox, endpoint: AmiEndpoint, log: Any, capture: LogCapture
) -> None:
    count, limit = 60_000, 500
    intake = EventIntake(log, limit=limit)
    session = await AmiSession.open(endpoint, intake.put)
    intake.attach(session)

    async def flood() -> None:
        for start in range(0, count, 100):
            block = (
                b"Event: HangupRequest\r\nPrivilege: call,all\r\nUniqueid: %d\r\n\r\n" % n
                for n in range(start, start + 100)
            )
            await pbx.send(b"".join(block))

    flooding = asyncio.create_task(flood())
    await wait_until(lambda: intake.full_count > 0)
    for _ in range(50):  # nobody consumes: nothing more comes in
        await asyncio.sleep(0)
    waiting = intake.waiting
    await asyncio.sleep(0.01)
    assert intake.waiting == waiting
    seen: list[str] = []
    most = 0
    async for batch in intake:
        most = max(most, intake.waiting)
        seen += [signal.uniqueid for signal in batch if isinstance(signal, HangupRequested)]
        if len(seen) == count:
            break
    await flooding
    assert seen == [str(number) for number in range(count)]
    # One segment of asyncio's (256 KiB) beyond the limit.
    assert most <= limit + 262_144 // 50
    assert intake.full_count > 1
    lines = [entry["event"] for entry in capture.entries]
    assert lines == ["ami.intake_full", "ami.intake_drained"] * intake.full_count
    await session.close()


async def test_a_session_is_recorded(pbx: PbxSandbox, endpoint: AmiEndpoint, tmp_path: Path) -> None:
    signals: list[Signal] = []
    pbx.channels[CHANNEL["Uniqueid"]] = CHANNEL
    path = tmp_path / "session.ami"
    with RecordingWriter.create(path) as writer:
        session = await AmiSession.open(replace(endpoint, auth="md5"), signals.extend, clock=lambda: 5.0, tap=writer)
        await session.snapshot()
        await pbx.play(CAPTURES / "in_answer.ami", speed=1e9)
        await session.application_of("PJSIP/100-00000001")
        await session.close()
    recorded = [replace(signal, at=5.0) for signal in read_recording(path)]
    assert [replace(one, began=5.0) if isinstance(one, Snapshot) else one for one in recorded] == signals
    content = path.read_text()
    assert content.startswith("Asterisk Call Manager/11.0.0\n")
    assert "Challenge: (left out)" in content
    assert SECRET not in content


async def test_opening_can_be_cancelled(peer: StartPeer) -> None:
    connected = asyncio.Event()

    async def handler(_: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
        connected.set()

    silent = await peer(handler)
    opening = asyncio.create_task(AmiSession.open(silent.endpoint, ignore))
    await connected.wait()
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening


async def test_closing_can_be_cancelled(pbx: PbxSandbox, endpoint: AmiEndpoint) -> None:
    session = await AmiSession.open(endpoint, ignore)
    pbx.stall()
    closing = asyncio.create_task(session.close())
    await pbx.wait_for(lambda: pbx.actions[-1]["Action"] == "Logoff")
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    assert isinstance(await session.closed(), SessionClosed)
