"""Redaction: nobody can be recognised, everything still happens."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st

from ami2zammad.asterisk.events import EVENTS, event_name
from ami2zammad.asterisk.recording import read_messages
from ami2zammad.asterisk.redaction import Redactor

RECORDINGS = Path(__file__).parents[2] / "recordings"
CAPTURES = sorted((RECORDINGS / "captures").glob("*.ami"))
NAMES = ["Emma Taylor", "Christopher Miller", "Bob Smith", "Zoë Müller"]
NUMBERS = ["4917699999999", "4930600100", "4930600200", "4930600300", "492214710334"]
IDS = {"at", "uniqueid", "linkedid", "dest_uniqueid", "dest_linkedid", "bridge", "first_uniqueid", "second_uniqueid"}

key = st.binary(min_size=1, max_size=32)
digits = st.text("0123456789", min_size=5, max_size=20)


def redacted(text: str, redactor: Redactor | None = None) -> str:
    return (redactor or Redactor(b"key")).redact(text.encode()).decode()


@pytest.mark.parametrize("capture", CAPTURES, ids=lambda path: path.stem)
@settings(max_examples=5, deadline=None)
@given(key=key)
def test_a_recording_under_any_key(capture: Path, key: bytes) -> None:
    check_redaction([capture], Redactor(key))


@pytest.mark.parametrize("folder", ["16", "22", "22-full"])
def test_all_recordings_of_a_real_asterisk(folder: str) -> None:
    check_redaction(sorted((RECORDINGS / folder).glob("*.ami")), Redactor())


def check_redaction(recordings: list[Path], redactor: Redactor) -> None:
    """No name and number is left, the same signals come, and what is called alike before is so after."""
    became: dict[str, str] = {}
    for recording in recordings:
        for at, message in read_messages(recording):
            after = redactor.redact(message)
            assert len(after.split(b"\r\n")) == len(message.split(b"\r\n"))
            for secret in NAMES + NUMBERS:
                assert secret.encode() not in after
            reader = EVENTS.get(event_name(message))
            if reader is None:
                continue
            was, is_now = reader(message, at), reader(after, at)
            assert type(was) is type(is_now)
            assert was is not None
            for field in fields(was):
                before, now = getattr(was, field.name), getattr(is_now, field.name)
                if field.name in IDS or not isinstance(before, str):
                    assert now == before
                else:
                    assert became.setdefault(before, now) == now
    # Two never became one.
    assert len(set(became.values())) == len(became)


@given(key=key, number=digits)
def test_a_number_keeps_its_length_and_its_beginning(key: bytes, number: str) -> None:
    after = Redactor(key).number(number)
    assert re.fullmatch("[0-9]+", after)
    assert len(after) == len(number)
    zeros = len(number) - len(number.lstrip("0"))
    assert after[:zeros] == number[:zeros]
    if len(number) - zeros >= 8:
        assert after[zeros : zeros + 2] == number[zeros : zeros + 2]
    assert Redactor(key).number(number) == after


@given(key=key, numbers=st.sets(st.integers(10_000, 99_999), min_size=2, max_size=200))
def test_two_numbers_never_become_one(key: bytes, numbers: set[int]) -> None:
    redactor = Redactor(key)
    assert len({redactor.number(str(number)) for number in numbers}) == len(numbers)


@given(key=key, number=st.integers(10**6, 10**14))
def test_a_line_prefix_makes_no_other_number(key: bytes, number: int) -> None:
    redactor = Redactor(key)
    assert redactor.number(f"0{number}") == "0" + redactor.number(str(number))
    assert redactor.number(f"00{number}") == "00" + redactor.number(str(number))


def test_numbers_do_change() -> None:
    redactor = Redactor(b"key")
    numbers = [str(4917600000000 + n * 7919) for n in range(500)]
    assert all(redactor.number(n) != n for n in numbers)
    assert Redactor().number(numbers[0]) != Redactor().number(numbers[0])


@pytest.mark.parametrize(
    "kept",
    [
        "Uniqueid: 1795294371.98",
        "DestLinkedid: pbx1-1795294371.98",
        "BridgeUniqueid: 33ec62cd-1923-4584-97d8-55555555a03a",
        "BridgeID: 33ec62cd-1923-4584-97d8-55555555a03a",
        "Timestamp: 1795294371.123456",
        "ActionID: snapshot/action/33ec62cd-1923-4584-97d8-55555555a03a/1/12",
        "Channel: PJSIP/trunk-00000055",
        "Channel: PJSIP/trunk-12345678",
        "DestChannel: Local/100@from-internal-00000012;2",
        "Newname: PJSIP/100-0000001a",
        "Exten: 100",
        "CallerIDNum: 1001",
        "CallerIDNum: <unknown>",
        "CallerIDName: <unknown>",
        "CallerIDName: ",
        "Context: from-trunk",
        "Application: Dial",
        "AppData: PJSIP/100&PJSIP/101,30,tT",
        "Value: /var/spool/1795294371.98.wav",
        "Value: PJSIP/100-00000056",
        "Cause: 16",
    ],
)
def test_what_stays(kept: str) -> None:
    line = f"Event: X\r\n{kept}\r\nLast: 1"
    assert redacted(line) == line


@pytest.mark.parametrize(
    ("line", "gone"),
    [
        ("CallerIDNum: +49 (221) 4710-334", "4710"),
        ("CallerIDNum: 10001", "10001"),
        ("Exten: 0492214710334", "4710334"),
        ("DialString: 492214710334@trunk", "4710334"),
        ("DialString: 0221-47103341@trunk", "47103341"),
        ("Channel: PJSIP/492214710334-0000001a", "4710334"),
        ("Channel: Local/492214710334@ctx-0000001a;1", "4710334"),
        ("AppData: PJSIP/492214710334@trunk,30", "4710334"),
        ("AppData: PJSIP/0221-47103341@trunk,30", "47103341"),
        ("Value: /var/spool/0221471033.1795294371.98.wav", "0221471033"),
        ("Value: sip:4917699999999@10.0.0.1", "17699999999"),
        ("CallerIDName: Emma Taylor", "Taylor"),
        ("CallerIDName: 4917699999999", "17699999999"),
        ("ConnectedLineName: Zoë", "Zoë"),
        ("MemberName: Emma Taylor", "Emma"),
        ('CallerID: "Emma Taylor" <100>', "Emma"),
        ('Value: "Emma Taylor" <sip:100@10.0.0.1>', "Emma"),
        ("AppData: CALLERID(name)=Emma Taylor", "Emma"),
        ("Variable: CALLERID(name)\r\nValue: Emma Taylor", "Emma"),
        ("Variable: DIALEDPEERNAME\r\nValue: Emma", "Emma"),
        ("CallerIDName: Emma Taylor\r\nAppData: NoOp(call of Emma Taylor here)", "Emma"),
    ],
)
def test_what_goes(line: str, gone: str) -> None:
    after = redacted(f"Event: X\r\n{line}\r\nLast: 1")
    assert gone not in after
    assert after.startswith("Event: X\r\n")
    assert after.endswith("\r\nLast: 1")


def test_the_same_number_is_the_same_everywhere() -> None:
    after = redacted(
        "Event: X\r\nCallerIDNum: 4917699999999\r\nExten: 04917699999999\r\nCallerIDName: 4917699999999\r\n"
        'Channel: PJSIP/4917699999999-00000001\r\nAppData: "4917699999999" <4917699999999>\r\n'
        "ConnectedLineNum: +49 176 99999999"
    )
    number = Redactor(b"key").number("4917699999999")
    assert after.replace(" ", "").count(number) == 7
    assert re.sub("[^0-9]", "", after.partition("ConnectedLineNum")[2]) == number


def test_a_caller_who_calls_himself_like_a_queue_changes_nothing() -> None:
    redactor = Redactor(b"key")
    redacted("Event: X\r\nCallerIDName: Queue\r\nConnectedLineName: from-trunk", redactor)
    line = "Event: X\r\nApplication: Queue\r\nContext: from-trunk\r\nQueue: Queue\r\nChannel: PJSIP/Queue-00000001"
    assert redacted(line, redactor) == line


@given(st.binary(max_size=200), key)
def test_any_bytes_survive(value: bytes, key: bytes) -> None:
    value = value.replace(b"\r", b"").replace(b"\n", b"")
    message = b"Event: X\r\nUniqueid: 1.1\r\nOther: " + value
    assert Redactor(key).redact(message).startswith(b"Event: X\r\nUniqueid: 1.1\r\nOther: ")


def test_what_is_remembered_is_bounded() -> None:
    redactor = Redactor(b"key")
    for number in range(2000):
        redactor.name(f"Caller Number{number}")
    assert len(redactor._names) <= 500
