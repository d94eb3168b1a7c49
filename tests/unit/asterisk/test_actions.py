"""Actions: what goes out, and what cannot."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given, strategies as st

from ami2zammad.asterisk import actions
from ami2zammad.asterisk.errors import HeaderInjection
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
