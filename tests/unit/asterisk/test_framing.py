"""Bytes to messages, however they are cut."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, strategies as st

from ami2zammad.asterisk.framing import Framer

MESSAGES = [
    b"Response: Success\r\nMessage: Authentication accepted",
    "Event: Newchannel\r\nCallerIDName: Zoë Müller 😀\r\nExten: 100".encode(),
    b"Event: Bad\r\nCallerIDName: \xff\xfe\x80\x00\x07\x1b[31m",
    b"Event: Lonely",
    b"Event: LF\r\nValue: one\n\ntwo\r\nExten: 1",
]
STREAM = b"".join(message + b"\r\n\r\n" for message in MESSAGES)


def pieces(stream: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(cuts), len(stream)]
    return [stream[start:end] for start, end in pairwise(edges)]


@given(st.lists(st.integers(0, len(STREAM)), max_size=40))
def test_any_split_gives_the_same_messages(cuts: list[int]) -> None:
    framer = Framer()
    assert [m for piece in pieces(STREAM, cuts) for m in framer.feed(piece)] == MESSAGES
    assert framer.rest() == b""


def test_byte_by_byte() -> None:
    framer = Framer()
    assert [m for i in range(len(STREAM)) for m in framer.feed(STREAM[i : i + 1])] == MESSAGES


@given(st.binary(max_size=400), st.lists(st.integers(0, 400), max_size=20))
def test_splits_of_any_bytes_make_no_difference(stream: bytes, cuts: list[int]) -> None:
    whole, split = Framer(), Framer()
    parts = pieces(stream, [min(cut, len(stream)) for cut in cuts])
    # Where more than one empty line stands between two messages, the cut decides to which the line end goes.
    got = [m.strip(b"\r\n") for piece in parts for m in split.feed(piece)]
    assert [m for m in got if m] == [m for m in (m.strip(b"\r\n") for m in whole.feed(stream)) if m]


@given(st.lists(st.integers(0, len(STREAM)), max_size=40))
def test_a_stream_with_bare_line_feeds_gives_crlf_messages(cuts: list[int]) -> None:
    wanted = [message for message in MESSAGES if b"\n\n" not in message]
    stream = b"".join(message.replace(b"\r\n", b"\n") + b"\n\n" for message in wanted)
    framer = Framer()
    framer.lf_only = True
    assert [m for piece in pieces(stream, [c for c in cuts if c <= len(stream)]) for m in framer.feed(piece)] == wanted


@given(st.lists(st.integers(0, len(STREAM)), max_size=40))
def test_crlf_in_a_stream_with_bare_line_feeds_counts_as_one_line_end(cuts: list[int]) -> None:
    wanted = [message for message in MESSAGES if b"\n\n" not in message]
    stream = b"".join(message + b"\r\n\r\n" for message in wanted)
    framer = Framer()
    framer.lf_only = True
    assert [m for piece in pieces(stream, [c for c in cuts if c <= len(stream)]) for m in framer.feed(piece)] == wanted


def test_a_line_feed_in_a_value_begins_no_message() -> None:
    framer = Framer()
    forged = b"Event: Newchannel\r\nCallerIDName: x\n\nEvent: Hangup\nUniqueid: 1.1\r\n\r\n"
    assert framer.feed(forged) == [forged[:-4]]


@pytest.mark.parametrize("size", [1, 100, 5000])
def test_a_message_without_end_is_refused(size: int) -> None:
    framer = Framer(limit=1000)
    assert framer.feed(b"Event: A\r\n\r\n") == [b"Event: A"]
    for _ in range(0, 1200, size):
        assert framer.feed(b"x" * size) == []
    assert framer.overflowed
    assert framer.feed(b"\r\n\r\nEvent: B\r\n\r\n") == []
    assert framer.rest() == b""


def test_a_complete_message_that_is_too_large_is_refused_but_not_those_before_it() -> None:
    framer = Framer(limit=1000)
    assert framer.feed(b"Event: A\r\n\r\n" + b"x" * 1001 + b"\r\n\r\nEvent: B\r\n\r\n") == [b"Event: A"]
    assert framer.overflowed


def test_many_messages_in_one_segment_are_not_one_large_one() -> None:
    framer = Framer(limit=1000)
    assert len(framer.feed(b"Event: A\r\n\r\n" * 1000)) == 1000
    assert not framer.overflowed
