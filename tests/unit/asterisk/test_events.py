"""AMI events to signals: the table, line by line, and over all real recordings."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from ami2zammad.asterisk.events import (
    EVENTS,
    ID_LIMIT,
    TEXT_LIMIT,
    channel_listed,
    event_name,
    raw_header,
    text_header,
)
from ami2zammad.asterisk.recording import read_messages
from ami2zammad.calls.signalling import (
    ApplicationSeen,
    BlindTransferred,
    BridgeEntered,
    BridgeLeft,
    ChannelCreated,
    ChannelGone,
    ChannelListed,
    ChannelRenamed,
    ChannelStateChanged,
    DialBegan,
    DialEnded,
    DialRequested,
    HangupRequested,
    LocalBridged,
    MemberCalled,
    Parked,
    QueueJoined,
    QueueLeft,
    Signal,
)

RECORDINGS = sorted((Path(__file__).parents[2] / "recordings").glob("*/*.ami"))

CHANNEL = {
    "Channel": "PJSIP/trunk-00000055",
    "ChannelState": "4",
    "ChannelStateDesc": "Ring",
    "CallerIDNum": "4917699999999",
    "CallerIDName": "Zoë",
    "ConnectedLineNum": "<unknown>",
    "Context": "from-trunk",
    "Exten": "4930600100",
    "Uniqueid": "1.98",
    "Linkedid": "1.97",
}
DEST = {"DestChannel": "PJSIP/100-1", "DestExten": "s", "DestUniqueid": "1.99", "DestLinkedid": "1.98"}
BRIDGE = {"BridgeUniqueid": "b-1", "BridgeType": "basic", "BridgeTechnology": "simple_bridge"}
PARKEE = {f"Parkee{name}": value for name, value in CHANNEL.items()}
TRANSFER = {f"Transferer{k}": v for k, v in CHANNEL.items()} | {"Extension": "101", "Context": "from-internal"}


def block(event: str, *headers: dict[str, str]) -> bytes:
    lines = [f"Event: {event}", "Privilege: call,all"]
    lines += [f"{name}: {value}" for part in headers for name, value in part.items()]
    return "\r\n".join(lines).encode()


def read(message: bytes, at: float = 7.0) -> Signal | None:
    return EVENTS[event_name(message)](message, at)


TABLE: list[tuple[bytes, Signal]] = [
    (
        block("Newchannel", CHANNEL),
        ChannelCreated(
            7.0, "1.98", "1.97", "PJSIP/trunk-00000055", 4, "from-trunk", "4930600100", "4917699999999", "Zoë"
        ),
    ),
    (block("Newstate", CHANNEL, {"ChannelState": "6"}), ChannelStateChanged(7.0, "1.98", "1.97", 4)),
    (
        block("Rename", {"Channel": "PJSIP/1-1", "Newname": "PJSIP/1-1<MASQ>", "Uniqueid": "1.98"}),
        ChannelRenamed(7.0, "1.98", "PJSIP/1-1<MASQ>"),
    ),
    (
        block("DialBegin", CHANNEL, DEST, {"DialString": "49221@trunk"}),
        DialBegan(7.0, "1.98", "1.97", "1.99", "1.98", "4930600100", "49221@trunk", "4917699999999"),
    ),
    (block("DialBegin", DEST, {"DialString": "100"}), DialBegan(7.0, "", "", "1.99", "1.98", "", "100", "")),
    (block("DialEnd", CHANNEL, DEST, {"DialStatus": "NOANSWER"}), DialEnded(7.0, "1.99", "NOANSWER")),
    (block("HangupRequest", CHANNEL, {"Cause": "16"}), HangupRequested(7.0, "1.98")),
    (block("HangupRequest", CHANNEL), HangupRequested(7.0, "1.98")),
    (block("Hangup", CHANNEL, {"Cause": "17", "Cause-txt": "User busy"}), ChannelGone(7.0, "1.98", 17)),
    (block("Hangup", CHANNEL), ChannelGone(7.0, "1.98", 0)),
    (block("Hangup", CHANNEL, {"Cause": "seventeen"}), ChannelGone(7.0, "1.98", 0)),
    (block("BridgeEnter", BRIDGE, CHANNEL), BridgeEntered(7.0, "1.98", "1.97", "b-1")),
    (
        block("BridgeEnter", BRIDGE | {"BridgeTechnology": "holding_bridge"}, CHANNEL),
        BridgeEntered(7.0, "1.98", "1.97", "b-1", holding=True),
    ),
    (block("BridgeLeave", BRIDGE, CHANNEL), BridgeLeft(7.0, "1.98", "b-1")),
    (
        block("LocalBridge", {"LocalOneUniqueid": "1.1", "LocalTwoUniqueid": "1.2", "Context": "c"}),
        LocalBridged(7.0, "1.1", "1.2"),
    ),
    (block("QueueCallerJoin", CHANNEL, {"Queue": "support"}), QueueJoined(7.0, "1.98", "support")),
    (block("QueueCallerLeave", CHANNEL, {"Queue": "support"}), QueueLeft(7.0, "1.98", "support")),
    (
        block("AgentCalled", CHANNEL, DEST, {"Queue": "support", "Interface": "PJSIP/100", "MemberName": "Emma"}),
        MemberCalled(7.0, "1.98", "1.99", "support", "Emma"),
    ),
    (
        block("BlindTransfer", TRANSFER, {"TransfereeUniqueid": "1.97"}),
        BlindTransferred(7.0, "1.98", "1.97", "101"),
    ),
    (block("BlindTransfer", TRANSFER), BlindTransferred(7.0, "1.98", "", "101")),
    (block("ParkedCall", PARKEE, {"ParkingSpace": "701"}), Parked(7.0, "1.98")),
    (
        block("Newexten", CHANNEL, {"Application": "VoiceMail", "AppData": "100@default,u"}),
        ApplicationSeen(7.0, "1.98", "VoiceMail"),
    ),
    (
        block("UserEvent", CHANNEL, {"UserEvent": "ZammadDial", "Number": "0221 4710334"}),
        DialRequested(7.0, "1.98", "1.97", "0221 4710334"),
    ),
]


@pytest.mark.parametrize(("message", "signal"), TABLE)
def test_table(message: bytes, signal: Signal) -> None:
    assert read(message) == signal


def test_every_event_of_the_table_was_tried() -> None:
    assert {event_name(message) for message, _ in TABLE} == set(EVENTS)


@pytest.mark.parametrize("headers", [{"Number": ""}, {"Uniqueid": ""}, {"Linkedid": "1" * (ID_LIMIT + 1)}])
def test_a_request_to_dial_without_what_it_needs_is_garbled(headers: dict[str, str]) -> None:
    assert read(block("UserEvent", CHANNEL | {"UserEvent": "ZammadDial", "Number": "1"} | headers)) is None


@pytest.mark.parametrize("name", ["Other", "zammaddial", "", "ZammadDial/x"])
def test_the_events_of_other_dialplans_are_not_for_us(name: str) -> None:
    assert event_name(block("UserEvent", CHANNEL, {"UserEvent": name})) not in EVENTS


def test_what_the_dialplan_adds_cannot_take_the_place_of_the_channel() -> None:
    added = {"UserEvent": "ZammadDial", "Number": "1"}
    message = block("UserEvent", CHANNEL, added) + b"\r\nUniqueid: 6.6\r\nLinkedid: 6.6\r\nNumber: 2"
    assert read(message) == DialRequested(7.0, "1.98", "1.97", "1")


@pytest.mark.parametrize("event", sorted(EVENTS))
def test_an_event_without_headers_gives_nothing(event: bytes) -> None:
    assert EVENTS[event](b"Event: " + event, 7.0) is None


@given(message=st.binary(max_size=300), event=st.sampled_from(sorted(EVENTS)))
def test_garbage_never_raises(message: bytes, event: bytes) -> None:
    EVENTS[event](b"Event: " + event + b"\r\n" + message, 7.0)
    channel_listed(message)


@given(
    event=st.sampled_from(TABLE),
    headers=st.dictionaries(
        st.sampled_from(["Uniqueid", "DestUniqueid", "ChannelState", "Cause", "Channel"]),
        st.text(st.characters(exclude_characters="\r\n", codec="utf-8"), max_size=200),
    ),
)
def test_garbled_values_never_raise(event: tuple[bytes, Signal], headers: dict[str, str]) -> None:
    for name, value in headers.items():
        message = event[0].replace(f"\r\n{name}: ".encode(), f"\r\n{name}: {value}".encode())
        EVENTS[event_name(message)](message, 7.0)


@pytest.mark.parametrize("state", ["", "x", "-1", "1_0", "99999999999", "\u0664"])
def test_a_state_that_is_no_number_is_garbled(state: str) -> None:
    assert read(block("Newstate", CHANNEL | {"ChannelState": state})) is None


def test_what_stands_for_no_number_becomes_empty() -> None:
    created = read(block("Newchannel", CHANNEL | {"CallerIDNum": "<unknown>", "CallerIDName": ""}))
    assert isinstance(created, ChannelCreated)
    assert (created.caller_number, created.caller_name) == ("", "")


def test_the_channel_of_a_header_is_not_mixed_up_with_another_of_similar_name() -> None:
    message = block("DialBegin", DEST, {"Exten": "100", "DialString": "x"})
    assert raw_header(message, b"\r\nExten: ") == b"100"
    assert raw_header(message, b"\r\nUniqueid: ") == b""


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        ("Zoë Müller".encode(), "Zoë Müller"),
        ("😀".encode(), "😀"),
        (b"a\xffb", "a\ufffdb"),
        (b"a\x00b\x1b[31mc\nd\re", "a\ufffdb\ufffd[31mc\ufffdd\ufffde"),
        ("a\u2028b\x85".encode(), "a\ufffdb\ufffd"),
        ("a\u00a0b".encode(), "a\u00a0b"),
        (b"x" * 5000, "x" * TEXT_LIMIT),
    ],
)
def test_values_are_bounded_and_free_of_control_characters(raw: bytes, text: str) -> None:
    assert text_header(b"Event: E\r\nCallerIDName: " + raw, b"\r\nCallerIDName: ") == text


def test_an_id_that_no_asterisk_makes_is_garbled() -> None:
    assert read(block("HangupRequest", {"Uniqueid": "1" * ID_LIMIT})) is not None
    assert read(block("HangupRequest", {"Uniqueid": "1" * (ID_LIMIT + 1)})) is None


def test_a_listed_channel() -> None:
    message = block("Status", CHANNEL, {"BridgeID": "b-1", "Application": "Dial", "Data": "PJSIP/100", "Seconds": "5"})
    assert channel_listed(message) == ChannelListed(
        "1.98",
        "1.97",
        "PJSIP/trunk-00000055",
        4,
        "from-trunk",
        "4930600100",
        "4917699999999",
        "Zoë",
        "b-1",
        "Dial",
    )


@pytest.mark.parametrize("recording", RECORDINGS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_every_event_of_a_real_asterisk_is_understood(recording: Path) -> None:
    counted: Counter[str] = Counter()
    for _, message in read_messages(recording):
        reader = EVENTS.get(event_name(message))
        if reader is not None:
            signal = reader(message, 0.0)
            assert signal is not None, message
            counted[type(signal).__name__] += 1
    assert counted["ChannelCreated"]
    assert counted["ChannelGone"]


def test_the_real_recordings_were_found() -> None:
    assert len(RECORDINGS) >= 8
