"""Recordings: read as a live session would have understood them, written as they came."""

from __future__ import annotations

import io
import stat
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from ami2zammad.asterisk.errors import NotARecording
from ami2zammad.asterisk.framing import Framer
from ami2zammad.asterisk.recording import RecordingWriter, read_messages, read_recording
from ami2zammad.asterisk.redaction import Redactor
from ami2zammad.calls.signalling import ApplicationSeen, ChannelGone, HangupRequested, Snapshot

CAPTURES = sorted((Path(__file__).parents[2] / "recordings" / "captures").glob("*.ami"))
REQUEST = "Event: HangupRequest\r\nUniqueid: {}.1\r\n"


def written(tmp_path: Path, content: str | bytes) -> Path:
    path = tmp_path / "recording.ami"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_times(tmp_path: Path) -> None:
    stamps = ["", "100.5", "", "", "99.0", "200.000001", "nonsense", "nan", "inf"]
    events = [REQUEST.format(n) + (f"Timestamp: {s}\r\n" if s else "") + "\r\n" for n, s in enumerate(stamps)]
    at = [signal.at for signal in read_recording(written(tmp_path, "".join(events)))]
    assert at == pytest.approx([0.001, 100.5, 100.501, 100.502, 100.502, *[200.000001] * 4])


@pytest.mark.parametrize("end", ["\r\n", "\n"])
def test_line_ends(tmp_path: Path, end: str) -> None:
    text = "Asterisk Call Manager/11.0.0\r\nResponse: Success\r\nMessage: Authentication accepted\r\n\r\n"
    text += REQUEST.format(1) + "\r\n" + REQUEST.format(2) + "\r\n"
    path = written(tmp_path, text.replace("\r\n", end))
    assert list(read_recording(path)) == [HangupRequested(0.002, "1.1"), HangupRequested(0.003, "2.1")]


@pytest.mark.parametrize(
    ("last", "signals"),
    [
        ("Event: Hangup\r\nUniqueid: 1.1\r\n\r\n", 2),
        ("Event: Hangup\r\nUniqueid: 1.1\r\n", 2),
        ("Event: Hangup\r\nUniqueid: 1", 1),
        ("Event: Hangup\r\n", 1),
        ("Event: Han", 1),
    ],
)
def test_a_last_message_that_breaks_off(tmp_path: Path, last: str, signals: int) -> None:
    assert len(list(read_recording(written(tmp_path, REQUEST.format(1) + "\r\n" + last)))) == signals


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "empty"),
        (b"hello world\n", "begins with no AMI"),
        (b"\x89PNG\r\n\x1a\n" + bytes(1000), "begins with no AMI"),
        (b'{"event": "Newchannel"}', "begins with no AMI"),
        (b"Event: X\r\n" + b"x" * 300_000, "larger than"),
    ],
)
def test_what_is_no_recording(tmp_path: Path, content: bytes, problem: str) -> None:
    path = written(tmp_path, content)
    with pytest.raises(NotARecording, match=problem) as caught:
        list(read_recording(path))
    assert str(path) in str(caught.value)


def test_reading_is_streaming(tmp_path: Path) -> None:
    path = written(tmp_path, (REQUEST.format(1) + "\r\n") * 20_000)
    messages = read_messages(path)
    next(messages)
    # The first message is there although the file has grown something unreadable meanwhile.
    with path.open("ab") as file:
        file.write(b"x" * 300_000)
    with pytest.raises(NotARecording):
        list(messages)


def test_answers_to_status_are_understood_as_they_were_live(tmp_path: Path) -> None:
    status = "Event: Status\r\nActionID: {}\r\nChannel: A\r\nChannelState: 6\r\nUniqueid: 1.{}\r\nLinkedid: 1.1\r\n"
    status += "Application: VoiceMail\r\n\r\n"
    end = "Event: StatusComplete\r\nActionID: {}\r\n\r\n"
    text = status.format("snapshot/1", 1) + status.format("application/2", 2) + end.format("application/2")
    text += status.format("snapshot/1", 3) + end.format("snapshot/1")
    text += status.format("another's", 4) + end.format("another's")
    seen, snapshot, seen_by_another = read_recording(written(tmp_path, text))
    assert seen == ApplicationSeen(seen.at, "1.2", "VoiceMail")
    assert seen_by_another == ApplicationSeen(seen_by_another.at, "1.4", "VoiceMail")
    assert isinstance(snapshot, Snapshot)
    assert [channel.uniqueid for channel in snapshot.channels] == ["1.1", "1.3"]


@pytest.mark.parametrize("capture", CAPTURES, ids=lambda path: path.stem)
def test_a_real_recording(capture: Path) -> None:
    signals = list(read_recording(capture))
    assert isinstance(signals[-1], ChannelGone)
    assert all(before.at < after.at for before, after in pairwise(signals))


@pytest.mark.parametrize("capture", CAPTURES, ids=lambda path: path.stem)
@pytest.mark.parametrize("redactor", [None, Redactor(b"key")], ids=["as it is", "redacted"])
def test_what_is_written_can_be_read_again(tmp_path: Path, capture: Path, redactor: Redactor | None) -> None:
    path = tmp_path / "copy.ami"
    now = iter(range(1_000_000))
    with path.open("wb") as file:
        writer = RecordingWriter(file, redactor=redactor, clock=lambda: 1795294371.25 + next(now) / 8)
        for message in Framer().feed(capture.read_bytes()):
            writer(message)
    was, now_is = list(read_recording(capture)), list(read_recording(path))
    assert [type(signal) for signal in was] == [type(signal) for signal in now_is]
    assert now_is[0].at > 1795294371
    assert writer.count == sum(1 for _ in read_messages(capture)) or capture.read_bytes().startswith(b"Asterisk")


def test_the_writer_adds_times_and_leaves_out_the_challenge() -> None:
    file = io.BytesIO()
    writer = RecordingWriter(file, clock=lambda: 1795294371.5)
    writer(b"Asterisk Call Manager/11.0.0")
    writer(b"Response: Success\r\nActionID: 1\r\nChallenge: 123456")
    writer(b"\r\nEvent: Lonely")
    writer(b"Event: A\r\nTimestamp: 5.000000\r\nX: 1")
    writer(b"")
    assert file.getvalue() == (
        b"Asterisk Call Manager/11.0.0\r\n"
        b"Response: Success\r\nActionID: 1\r\nChallenge: (left out)\r\n\r\n"
        b"Event: Lonely\r\nTimestamp: 1795294371.500000\r\n\r\n"
        b"Event: A\r\nTimestamp: 5.000000\r\nX: 1\r\n\r\n"
    )


def test_a_new_recording_is_for_its_owner_only_and_overwrites_nothing(tmp_path: Path) -> None:
    path = tmp_path / "new.ami"
    with RecordingWriter.create(path) as writer:
        writer(REQUEST.format(1).encode())
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(list(read_recording(path))) == 1
    with pytest.raises(FileExistsError), RecordingWriter.create(path):
        pass


@given(st.lists(st.binary(max_size=80), max_size=8))
def test_the_writer_takes_anything(messages: list[bytes]) -> None:
    writer = RecordingWriter(io.BytesIO(), redactor=Redactor(b"key"), clock=lambda: 1.0)
    for message in messages:
        writer(message)
