"""The protocol without a socket: segments in, signals and answers out."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings, strategies as st
from panoramisk.manager import Manager

from ami2zammad.asterisk import actions
from ami2zammad.asterisk.errors import (
    AsteriskError,
    AsteriskStopped,
    ConnectionLost,
    GarbledAnswer,
    HeaderInjection,
    MessageTooLarge,
    TooManyActions,
)
from ami2zammad.asterisk.protocol import AmiProtocol, Stranger
from ami2zammad.calls.signalling import ChannelGone, ChannelListed, HangupRequested, Signal, Snapshot

CAPTURES = Path(__file__).parents[2] / "recordings" / "captures"
GREETING = b"Asterisk Call Manager/11.0.0\r\n"


class Wire(asyncio.Transport):
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += bytes(data)

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = True


class Line:
    """A protocol with all that hangs on it."""

    def __init__(self, greeting: bytes = GREETING) -> None:
        self.signals: list[Signal] = []
        self.tapped: list[bytes] = []
        self.ends: list[AsteriskError] = []
        self.wire = Wire()
        self.manager: Any = Manager(loop=asyncio.get_running_loop())
        self.protocol = AmiProtocol(
            self.manager, self.signals.extend, lambda: 7.0, self.ends.append, self.tapped.append
        )
        self.protocol.connection_made(self.wire)
        if greeting:
            self.protocol.data_received(greeting)

    def feed(self, data: bytes) -> None:
        self.protocol.data_received(data)

    def answer(self, action: actions.Request, *blocks: str) -> None:
        self.feed("".join(f"{b}\r\nActionID: {action['ActionID']}\r\n\r\n" for b in blocks).encode())


@pytest.mark.parametrize("capture", sorted(CAPTURES.glob("*.ami")), ids=lambda path: path.stem)
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(size=st.integers(1, 4000))
async def test_a_real_stream_gives_the_same_signals_however_it_is_cut(capture: Path, size: int) -> None:
    stream = capture.read_bytes()
    whole, cut = Line(b""), Line(b"")
    whole.feed(stream)
    for start in range(0, len(stream), size):
        cut.feed(stream[start : start + size])
    assert whole.signals == cut.signals
    assert whole.tapped == cut.tapped
    assert len(whole.signals) >= 10
    assert (whole.protocol.garbled, cut.protocol.garbled) == (0, 0)
    assert whole.protocol.messages == cut.protocol.messages


async def test_the_greeting_gives_the_version() -> None:
    line = Line(b"")
    line.feed(b"Asterisk Call Man")
    assert not line.protocol.greeting.done()
    line.feed(b"ager/11.0.0\r")
    line.feed(b"\nEvent: HangupRequest\r\nUniqueid: 1.1\r\n\r\n")
    assert await line.protocol.greeting == "11.0.0"
    assert line.signals == [HangupRequested(7.0, "1.1")]


async def test_bare_line_feeds_count_where_the_greeting_ends_with_one() -> None:
    line = Line(b"Asterisk Call Manager/11.0.0\n")
    line.feed(b"Event: HangupRequest\nUniqueid: 1.1\n\nEvent: Hang")
    line.feed(b"up\nUniqueid: 1.1\nCause: 16\n\n")
    assert line.signals == [HangupRequested(7.0, "1.1"), ChannelGone(7.0, "1.1", 16)]


async def test_more_empty_lines_than_one() -> None:
    line = Line()
    line.feed(b"\r\n\r\n\r\nEvent: HangupRequest\r\nUniqueid: 1.1\r\n\r\n\r\n\r\n\r\n\r\nEvent: X\r\n\r\n")
    line.feed(b"\r\nEvent: HangupRequest\r\nUniqueid: 1.2\r\n\r\n")
    assert line.signals == [HangupRequested(7.0, "1.1"), HangupRequested(7.0, "1.2")]
    assert line.protocol.garbled == 0


@pytest.mark.parametrize(
    ("greeting", "what"),
    [
        (b"SSH-2.0-OpenSSH_9.2\r\n", "SSH"),
        (b"HTTP/1.1 400 Bad Request\r\n", "web server"),
        (b"\x15\x03\x01\x00\x02\x02\x46", "TLS"),
        (b"220 mail ESMTP\r\n", "220 mail"),
        (b"\xff\xfd\x18\n", "greets with"),
        (b"x" * 2000, "xxx"),
    ],
)
async def test_strangers(greeting: bytes, what: str) -> None:
    for size in (1, len(greeting)):
        line = Line(b"")
        for start in range(0, len(greeting), size):
            line.feed(greeting[start : start + size])
        with pytest.raises(Stranger, match=what):
            await line.protocol.greeting
        line.feed(b"and so on\r\n\r\n")
        assert line.signals == []


async def test_an_answer_goes_to_its_action() -> None:
    line = Line()
    first, second = actions.ping(), actions.ping()
    futures = [line.protocol.send(first), line.protocol.send(second)]
    line.answer(second, "Response: Success\r\nPing: Pong")
    line.answer(first, "Response: Error\r\nMessage: No")
    assert [(await future).success for future in futures] == [False, True]
    await asyncio.sleep(0)
    assert not line.protocol.responses


async def test_an_answer_to_nobody_is_dropped() -> None:
    line = Line()
    action = actions.ping()
    future = line.protocol.send(action)
    future.cancel()
    await asyncio.sleep(0)
    line.answer(action, "Response: Success\r\nPing: Pong", "Event: StatusComplete")
    line.feed(b"Response: Error\r\nMessage: Missing action in request\r\n\r\n")
    assert line.protocol.garbled == 0
    assert not line.protocol.responses


async def test_a_snapshot_takes_its_place_among_the_signals() -> None:
    line = Line()
    action = actions.status()
    future = line.protocol.send(action)
    request = b"Event: HangupRequest\r\nUniqueid: %d.1\r\n\r\n"
    line.feed(request % 1)
    line.answer(action, "Response: Success\r\nEventList: start\r\nMessage: Channel status will follow")
    status = "Event: Status\r\nChannel: PJSIP/1-1\r\nChannelState: 6\r\nUniqueid: 1.1\r\nLinkedid: 1.1"
    line.answer(action, status, "Event: Status\r\nChannel: garbled", "Event: StatusComplete\r\nListItems: 2")
    line.feed(request % 2)
    snapshot = Snapshot(7.0, (ChannelListed("1.1", "1.1", "PJSIP/1-1", 6),), 7.0)
    assert line.signals == [HangupRequested(7.0, "1.1"), snapshot, HangupRequested(7.0, "2.1")]
    assert len(await future) == 4
    assert action.reader.signal == snapshot


async def test_an_answer_that_panoramisk_stumbles_over_fails_its_action_only() -> None:
    line = Line()
    action = actions.ping()
    future = line.protocol.send(action)
    line.answer(action, f"Response: Success\r\nActionID: {action['ActionID']}")
    with pytest.raises(GarbledAnswer, match="Ping"):
        await future
    assert line.protocol.garbled == 1
    assert line.ends == []


async def test_an_answer_with_too_many_headers_is_not_taken() -> None:
    line = Line()
    action = actions.list_commands()
    future = line.protocol.send(action)
    line.answer(action, "Response: Success" + "".join(f"\r\nA{i}: x" for i in range(5000)))
    assert not future.done()
    assert line.protocol.garbled == 1


async def test_an_answer_without_end_fails_its_action(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ami2zammad.asterisk.protocol._ANSWER_LIMIT", 10)
    line = Line()
    action = actions.status()
    future = line.protocol.send(action)
    line.answer(action, "Response: Success\r\nEventList: start\r\nMessage: will follow")
    line.answer(action, *["Event: Status"] * 20)
    with pytest.raises(GarbledAnswer):
        await future


async def test_what_cannot_be_sent_is_not_even_begun() -> None:
    line = Line()
    with pytest.raises(HeaderInjection):
        line.protocol.send(actions.hangup("PJSIP/1\r\n\r\nAction: Originate", 17))
    assert line.wire.written == b""
    assert not line.protocol.responses


async def test_pending_actions_are_bounded() -> None:
    line = Line()
    futures = [line.protocol.send(actions.ping()) for _ in range(1000)]
    with pytest.raises(TooManyActions):
        line.protocol.send(actions.ping())
    futures[0].cancel()
    await asyncio.sleep(0)
    line.protocol.send(actions.ping())


async def test_the_end_fails_all_pending_actions_and_keeps_none_for_later() -> None:
    line = Line()
    futures = [line.protocol.send(actions.hangup("PJSIP/1-1", 17)), line.protocol.send(actions.ping())]
    written = line.wire.written
    line.protocol.connection_lost(ConnectionResetError(104, "Connection reset by peer"))
    for future in futures:
        with pytest.raises(ConnectionLost):
            await future
    assert [type(end) for end in line.ends] == [ConnectionLost]
    assert not line.manager.awaiting_actions
    with pytest.raises(ConnectionLost):
        line.protocol.send(actions.ping())
    assert line.wire.written == written


async def test_shutdown_ends_the_session_but_not_what_was_said_before() -> None:
    line = Line()
    line.feed(
        b"Event: HangupRequest\r\nUniqueid: 1.1\r\n\r\nEvent: Shutdown\r\nShutdown: Cleanly\r\n\r\nEvent: X\r\n\r\n"
    )
    line.feed(b"Event: HangupRequest\r\nUniqueid: 1.2\r\n\r\n")
    line.protocol.connection_lost(None)
    assert line.signals == [HangupRequested(7.0, "1.1")]
    assert [type(end) for end in line.ends] == [AsteriskStopped]
    assert line.wire.closed


async def test_a_message_without_end_ends_the_session() -> None:
    line = Line()
    line.feed(b"Event: HangupRequest\r\nUniqueid: 1.1\r\n\r\n")
    for _ in range(300):
        line.feed(b"x" * 1024)
    assert line.signals == [HangupRequested(7.0, "1.1")]
    assert [type(end) for end in line.ends] == [MessageTooLarge]
    assert line.wire.closed


@given(st.lists(st.binary(max_size=200), max_size=10))
@settings(deadline=None)
async def test_garbage_never_raises(segments: list[bytes]) -> None:
    # Asterisk's farewell is no garbage: it ends the session. Hypothesis finds it among the texts of the source.
    assume(b"Event: Shutdown" not in b"".join(segments))
    line = Line()
    for segment in segments:
        line.feed(segment)
    line.feed(b"\r\n\r\nEvent: HangupRequest\r\nUniqueid: 1.1\r\n\r\n")
    assert line.signals == [HangupRequested(7.0, "1.1")]


async def test_garbled_messages_are_counted() -> None:
    line = Line()
    line.feed(b"Event: Hangup\r\nCause: 16\r\n\r\nwhat is this\r\n\r\nEvent: Unknown\r\n\r\n")
    assert line.protocol.garbled == 2
    assert line.protocol.messages == 3
