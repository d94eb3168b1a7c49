"""FastAGI without a network: what is written, what is read, and what becomes of commands."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from ami2zammad.asterisk.fastagi import (
    COMMAND_LIMIT,
    AgiHangup,
    AgiInjection,
    AgiRefused,
    AgiRequest,
    AgiTimeout,
)
from tests.fake_time import FakeTime, settle

HEADERS = {"agi_channel": "PJSIP/trunk-00000001", "agi_uniqueid": "1.1"}


class Wire:
    """A StreamWriter that keeps what is written; `then` is what Asterisk answers."""

    def __init__(self, reader: asyncio.StreamReader, then: bytes = b"") -> None:
        self.reader = reader
        self.then = then
        self.written = b""

    def write(self, data: bytes) -> None:
        self.written += data
        if self.then:
            self.reader.feed_data(self.then)

    def is_closing(self) -> bool:
        return False


def request(
    then: bytes = b"200 result=1\n", headers: dict[str, str] | None = None, sleep: Any = asyncio.sleep
) -> tuple[AgiRequest, Any]:
    reader = asyncio.StreamReader(limit=1024)
    wire: Any = Wire(reader, then)
    return AgiRequest(HEADERS | (headers or {}), reader, wire, command_timeout=3.0, sleep=sleep), wire


def words_of(line: bytes) -> list[str]:
    """Take a command apart as Asterisk does (`parse_args` of res/res_agi.c)."""
    words: list[str] = []
    quoted = escaped = False
    whitespace = True
    for char in line.decode().removesuffix("\n"):
        if char == '"' and not escaped:
            quoted = not quoted
            if quoted and whitespace:
                words.append("")
                whitespace = False
        elif char in " \t" and not quoted and not escaped:
            whitespace = True
        elif char == "\\" and not escaped:
            escaped = True
            continue
        else:
            if whitespace:
                words.append("")
                whitespace = False
            words[-1] += char
        escaped = False
    return words


@settings(deadline=None)
@given(value=st.text(max_size=500), arguments=st.text(st.sampled_from('ab "\\,()\n\t\0'), max_size=50))
async def test_whatever_goes_in_it_is_one_command_with_its_words(value: str, arguments: str) -> None:
    asked, wire = request()
    for words, sending in (
        (["SET", "VARIABLE", "CALLERID(num)", value], asked.set_variable("CALLERID(num)", value)),
        (["EXEC", "Hangup", arguments], asked.execute("Hangup", arguments)),
    ):
        wire.written = b""
        try:
            await sending
        except AgiInjection:
            assert wire.written == b""
            continue
        assert wire.written.count(b"\n") == 1
        assert len(wire.written) <= COMMAND_LIMIT
        assert words_of(wire.written) == words


@pytest.mark.parametrize("bad", ["\n", "\r", "\0", "\t", "\x1b", "\x85", "\u2028", "\ud800"])
async def test_control_characters_are_refused(bad: str) -> None:
    asked, wire = request()
    for sending in (
        asked.set_variable("X", f"secret{bad}"),
        asked.set_variable(f"X{bad}", "1"),
        asked.execute("Set", f"secret{bad}"),
        asked.execute(f"Set{bad}"),
    ):
        with pytest.raises(AgiInjection) as caught:
            await sending
        assert "secret" not in str(caught.value)
    assert wire.written == b""


@pytest.mark.parametrize("name", ["", "A B", "A(", "A)", 'A"', "A\\", "A(x)(y)", "A(x y)", "A=1"])
async def test_a_name_is_a_name(name: str) -> None:
    asked, wire = request()
    with pytest.raises(AgiInjection):
        await asked.set_variable(name, "1")
    with pytest.raises(AgiInjection):
        await asked.execute(name, "1")
    assert wire.written == b""


async def test_a_command_that_asterisk_would_take_for_two_is_refused() -> None:
    asked, wire = request()
    room = COMMAND_LIMIT - len('SET VARIABLE X ""\n')
    await asked.set_variable("X", "x" * room)
    assert len(wire.written) == COMMAND_LIMIT
    with pytest.raises(AgiInjection, match="2047 bytes"):
        await asked.set_variable("X", "x" * (room + 1))


@pytest.mark.parametrize(
    ("answer", "result"),
    [
        (b"200 result=0\n", 0),
        (b"200 result=-1\r\n", -1),
        (b"200 result=1 (a value) endpos=5\n", 1),
        (b"100 Trying...\n100 Trying...\n200 result=0\n", 0),
    ],
)
async def test_a_result(answer: bytes, result: int) -> None:
    asked, wire = request(answer)
    assert await asked.execute("Hangup", "17") == result
    assert wire.written == b'EXEC Hangup "17"\n'
    assert await asked.execute("Wait") == result


@pytest.mark.parametrize(
    ("answer", "match"),
    [
        (b"510 Invalid or unknown command\n", "510 Invalid"),
        (b"520 Invalid command syntax.  Proper usage not available.\n", "520 Invalid"),
        (b"520-Invalid command syntax.  Proper usage follows:\nUsage: EXEC\n\n 200 result=1\n520 End\n", "follows"),
        (b"520-Invalid\nHANGUP\n200 result=1\n520 End of proper usage.\n", "Invalid"),
        (b"200 result=-2\n", "no application Nope"),
        (b"200 result=x\n", "result=x"),
        (b"200 result=99999999999999\n", "result=9"),
        (b"200\n", "200"),
        (b"\n", '""'),
        (b"600 x\n", "600 x"),
        (b"\xff\x00\n", "\ufffd"),
    ],
)
async def test_a_refusal(answer: bytes, match: str) -> None:
    asked, _ = request(answer)
    with pytest.raises(AgiRefused, match=match):
        await asked.execute("Nope")


async def test_after_a_refusal_the_next_command_gets_its_own_answer() -> None:
    asked, wire = request(b"520-Invalid command syntax.\nUsage\n520 End of proper usage.\n")
    with pytest.raises(AgiRefused):
        await asked.execute("Wait")
    wire.then = b"200 result=7\n"
    assert await asked.execute("Wait") == 7


@pytest.mark.parametrize("answer", [b"HANGUP\n200 result=1\n", b"100 Trying\nHANGUP\n"])
async def test_the_caller_hangs_up(answer: bytes) -> None:
    asked, wire = request(answer)
    with pytest.raises(AgiHangup):
        await asked.set_variable("X", "1")
    written = wire.written
    with pytest.raises(AgiHangup):
        await asked.set_variable("X", "1")
    assert wire.written == written


async def test_a_dead_channel_is_a_hangup() -> None:
    asked, _ = request(b"511 Command Not Permitted on a dead channel or intercept routine\n")
    with pytest.raises(AgiHangup):
        await asked.execute("Hangup", "17")


@pytest.mark.parametrize("answer", [b"", b"200 resu"])
async def test_the_connection_ends(answer: bytes) -> None:
    asked, wire = request(b"")
    wire.reader.feed_data(answer)
    wire.reader.feed_eof()
    with pytest.raises(AgiHangup):
        await asked.set_variable("X", "1")


@pytest.mark.parametrize("answer", [b"100 Trying\n" * 300, b"520-x\n" * 300, b"x" * 5000, b"x" * 5000 + b"\n"])
async def test_an_answer_without_end_is_refused(answer: bytes) -> None:
    asked, _ = request(answer)
    with pytest.raises(AgiRefused, match=r"200 lines|bytes"):
        await asked.set_variable("X", "1")
    with pytest.raises(AgiHangup):
        await asked.set_variable("X", "1")


@pytest.mark.parametrize(("seconds", "limit"), [(None, 3.0), (60.0, 60.0)])
async def test_a_command_that_is_not_answered(seconds: float | None, limit: float) -> None:
    time = FakeTime()
    asked, wire = request(b"200 resul", sleep=time.sleep)
    sending = asyncio.create_task(asked.execute("Wait", "50", seconds=seconds))
    await time.advance(limit - 0.1)
    assert not sending.done()
    await time.advance(0.2)
    with pytest.raises(AgiTimeout, match=f"EXEC within {limit:g} s"):
        await sending
    # The late answer must not become that of the next command.
    wire.reader.feed_data(b"t=1\n")
    with pytest.raises(AgiHangup):
        await asked.execute("Wait", "1")


async def test_two_commands_at_once_wait_for_each_other() -> None:
    asked, wire = request(b"")
    first = asyncio.create_task(asked.execute("First"))
    second = asyncio.create_task(asked.execute("Second"))
    await settle()
    assert wire.written == b'EXEC First ""\n'
    wire.reader.feed_data(b"200 result=1\n")
    assert await first == 1
    wire.reader.feed_data(b"200 result=2\n")
    assert await second == 2


async def test_a_cancelled_command_takes_the_connection_with_it() -> None:
    asked, wire = request(b"")
    sending = asyncio.create_task(asked.execute("First"))
    await settle()
    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending
    wire.reader.feed_data(b"200 result=1\n")
    with pytest.raises(AgiHangup):
        await asked.execute("Second")


@pytest.mark.parametrize(
    ("script", "path", "query"),
    [
        ("", "", {}),
        ("screen", "screen", {}),
        ("/calls/screen/", "calls/screen", {}),
        (
            "screen?queue=support&to=%2B49%20221&empty=&name=Zo%C3%AB",
            "screen",
            {"queue": "support", "to": "+49 221", "empty": "", "name": "Zoë"},
        ),
        ("screen?a=1&a=2&b", "screen", {"a": "1", "b": ""}),
        ("screen?a=x%0d%0ay%00&c%0a=1", "screen", {"a": "x\ufffd\ufffdy\ufffd", "c\ufffd": "1"}),
        ("screen?a=%ff?b", "screen", {"a": "\ufffd?b"}),
    ],
)
async def test_script_and_query(script: str, path: str, query: dict[str, str]) -> None:
    asked, _ = request(headers={"agi_network_script": script})
    assert (asked.script, asked.query) == (path, query)


async def test_a_query_without_end_makes_no_sense() -> None:
    with pytest.raises(ValueError):
        request(headers={"agi_network_script": "screen?" + "&".join(f"a{n}=1" for n in range(60))})


async def test_unknown_numbers_are_empty() -> None:
    asked, _ = request(headers={"agi_callerid": "unknown", "agi_dnid": "unknown"})
    assert (asked.caller_number, asked.dnid, asked.extension, asked.context) == ("", "", "", "")
