"""Actions: what goes out, and what cannot."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Any

import pytest
from hypothesis import given, strategies as st
from panoramisk.message import Message

from ami2zammad.asterisk import actions
from ami2zammad.asterisk.errors import ConnectionLost, HeaderInjection
from ami2zammad.asterisk.framing import Framer

SECRET = "c0rrect-h0rse"


async def test_what_is_written() -> None:
    action = actions.hangup("PJSIP/100-00000001", 17)
    assert (
        action.to_wire()
        == (
            f"Action: Hangup\r\nChannel: PJSIP/100-00000001\r\nCause: 17\r\nActionID: {action['ActionID']}\r\n\r\n"
        ).encode()
    )


async def test_every_action_has_an_id_of_its_own() -> None:
    ids = {actions.ping()["ActionID"] for _ in range(100)} | {actions.status()["ActionID"] for _ in range(100)}
    assert len(ids) == 200


async def test_md5_login_holds_the_digest_and_not_the_secret() -> None:
    wire = actions.login_md5("user", SECRET, "12345").to_wire()
    assert f"Key: {hashlib.md5(('12345' + SECRET).encode(), usedforsecurity=False).hexdigest()}\r\n".encode() in wire
    assert SECRET.encode() not in wire


async def test_no_action_shows_its_values() -> None:
    for action in (actions.login("user", SECRET), actions.login_md5("user", SECRET, "1"), actions.ping()):
        for shown in (str(action), repr(action), f"{action}"):
            assert SECRET not in shown
            assert action.name in shown


@pytest.mark.parametrize(
    "bad", ["\r", "\n", "\r\n\r\nAction: Originate", "\0", "\x1b[0m", "\t", "\x85", "\u2028", "\ud800"]
)
async def test_control_characters_are_refused(bad: str) -> None:
    with pytest.raises(HeaderInjection, match='"Secret"') as caught:
        actions.login("user", f"{SECRET}{bad}").to_wire()
    assert SECRET not in str(caught.value)
    with pytest.raises(HeaderInjection, match='"Channel"'):
        actions.hangup(f"PJSIP/100{bad}", 17).to_wire()
    with pytest.raises(HeaderInjection):
        actions.Request("Ping", {f"Na{bad}me": "x"}).to_wire()


async def test_a_name_with_a_colon_is_refused() -> None:
    with pytest.raises(HeaderInjection):
        actions.Request("Ping", {"Channel: x": "y"}).to_wire()


async def test_setvar_is_written() -> None:
    action = actions.setvar("PJSIP/100-00000001", "CALLERID(num)", "4930")
    assert action.to_wire().startswith(
        b"Action: Setvar\r\nChannel: PJSIP/100-00000001\r\nVariable: CALLERID(num)\r\nValue: 4930\r\n"
    )


def originate(**changes: Any) -> actions.OriginateRequest:
    headers: dict[str, Any] = {
        "channel": "PJSIP/49221@trunk",
        "application": "Bridge",
        "data": "PJSIP/100-00000001",
        "caller_id": "4930600100",
        "channel_id": "bridge-1",
        "timeout": 30.5,
    }
    return actions.originate(**headers | changes)


async def test_originate_is_written() -> None:
    action = originate(variables={"CALL": "1", "__INHERITED": "a=b"}, other_channel_id="bridge-2")
    assert action.to_wire().decode().split("\r\n") == [
        "Action: Originate",
        "Channel: PJSIP/49221@trunk",
        "Application: Bridge",
        "Data: PJSIP/100-00000001",
        "CallerID: 4930600100",
        "ChannelId: bridge-1",
        "OtherChannelId: bridge-2",
        "Timeout: 30500",
        "Async: true",
        f"ActionID: {action['ActionID']}",
        "Variable: CALL=1",
        "Variable: __INHERITED=a=b",
        "",
        "",
    ]
    assert b"OtherChannelId" not in originate().to_wire()


async def test_what_asterisk_would_take_out_of_a_variable_is_escaped() -> None:
    wire = originate(variables={"V": 'a,b "q" \\ (p) [x]'}).to_wire()
    assert rb"Variable: V=a\,b \"q\" \\ \(p\) \[x\]" + b"\r\n" in wire


@pytest.mark.parametrize(
    "changes", [{"caller_id": "1\r\nX: y"}, {"variables": {"V": "a\nb"}}, {"variables": {"V\r": "a"}}]
)
async def test_nothing_can_be_put_into_an_originate(changes: dict[str, Any]) -> None:
    with pytest.raises(HeaderInjection):
        originate(**changes).to_wire()


QUEUED = Message({"Response": "Success", "Message": "Originate successfully queued"})
REFUSED = Message({"Response": "Error", "Message": "Permission denied"})
BUSY = Message({"Event": "OriginateResponse", "Response": "Failure", "Reason": "0"})


async def test_an_originate_is_answered_twice() -> None:
    action = originate()
    assert not action.add_message(QUEUED)
    assert action.queued.result() is QUEUED
    assert not action.future.done()
    assert action.add_message(BUSY)
    assert action.add_message(BUSY)
    assert action.future.result() is BUSY


@pytest.mark.parametrize("only", [REFUSED, BUSY])
async def test_an_originate_that_is_answered_once(only: Any) -> None:
    action = originate()
    assert action.add_message(only)
    assert await action.queued is only


async def test_who_waits_for_the_first_answer_learns_of_the_end() -> None:
    lost, given_up = originate(), originate()
    lost.future.set_exception(ConnectionLost("gone"))
    with pytest.raises(ConnectionLost):
        await lost.queued
    given_up.future.cancel()
    with pytest.raises(asyncio.CancelledError):
        await given_up.queued


@given(channel=st.text(), name=st.text())
async def test_whatever_goes_in_it_is_one_message_with_its_headers(channel: str, name: str) -> None:
    try:
        wire = actions.Request("Hangup", {"Channel": channel, f"X{name}": "1"}).to_wire()
    except HeaderInjection:
        return
    framer = Framer()
    (message,) = framer.feed(wire)
    assert framer.rest() == b""
    assert len(message.splitlines()) == 4
