"""Asking first, over real sockets: a dialplan's FastAGI request, the bridge, Zammad's stand-in."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import NoReturn

import pytest
from pydantic import SecretStr

from ami2zammad.bridge import Bridge
from ami2zammad.sandbox.pbx import PbxSandbox
from ami2zammad.sandbox.zammad import Fault, ZammadSandbox, _Failure
from ami2zammad.settings import (
    AsteriskSettings,
    ControlSettings,
    NumberSettings,
    OutboxSettings,
    Settings,
    ZammadSettings,
)

CALLER = "4917699999999"
BLOCKED = "4930609998"


class Dialplan:
    """A PBX, a bridge that it asks, and Zammad."""

    def __init__(self, pbx: PbxSandbox, zammad: ZammadSandbox, port: int) -> None:
        self.pbx = pbx
        self.zammad = zammad
        self.port = port
        self._calls = 0

    async def channel(self, name: str, *, exten: str, number: str, context: str) -> str:
        """Create a channel; return its Uniqueid."""
        self._calls += 1
        uniqueid = f"1.{self._calls}"
        await self.pbx.emit(
            "Newchannel",
            {"Channel": name, "ChannelState": "4", "Uniqueid": uniqueid, "Linkedid": uniqueid,
             "Context": context, "Exten": exten, "CallerIDNum": number, "CallerIDName": "Emma Taylor"},
        )  # fmt: skip
        return uniqueid

    async def caller(self, number: str = CALLER) -> str:
        return await self.channel("PJSIP/trunk-1", exten="4930600100", number=number, context="from-trunk")

    async def agent(self, exten: str = "0492214710334") -> str:
        return await self.channel("PJSIP/100-1", exten=exten, number="100", context="from-internal")

    async def ask(self, uniqueid: str, exten: str = "", script: str = "screen") -> list[str]:
        """Run the AGI script; return the commands that came."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        head = {"network": "yes", "network_script": script, "request": f"agi://127.0.0.1/{script}", "channel": "x",
                "uniqueid": uniqueid, "extension": exten, "callerid": "100"}  # fmt: skip
        writer.write("".join(f"agi_{name}: {value}\n" for name, value in head.items()).encode() + b"\n")
        commands = []
        while line := (await reader.readline()).decode().rstrip("\n"):
            commands.append(line)
            writer.write(b"200 result=1\n")
        writer.close()
        await writer.wait_closed()
        return commands


def variables(commands: list[str]) -> dict[str, str]:
    """Return what `SET VARIABLE` set."""
    found = {}
    for command in commands:
        words = command.split(" ", 3)
        if words[:2] == ["SET", "VARIABLE"]:
            found[words[2]] = words[3].strip('"')
    return found


@pytest.fixture
async def dialplan() -> AsyncIterator[Dialplan]:
    async with running(decision_timeout=0.3) as one:
        yield one


@contextlib.asynccontextmanager
async def running(decision_timeout: float) -> AsyncIterator[Dialplan]:
    async with PbxSandbox() as pbx, ZammadSandbox() as zammad:
        settings = Settings(
            asterisk=AsteriskSettings(port=pbx.port, username="ami2zammad", secret=SecretStr("sandbox")),
            zammad=ZammadSettings(url=SecretStr(zammad.url), timeout=1),
            outbox=OutboxSettings(path=None),
            numbers=NumberSettings(outbound_prefix="0"),
            control=ControlSettings(listen="127.0.0.1:0", decision_timeout=decision_timeout),
        )
        bridge = Bridge(settings)
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(bridge.run(stop))
            await pbx.wait_for(lambda: any(action.get("Action") == "Status" for action in pbx.actions))
            assert bridge.fast_agi_port is not None
            yield Dialplan(pbx, zammad, bridge.fast_agi_port)
            zammad.heal()
            stop.set()


async def test_a_blocked_caller_is_rejected_before_any_phone_rings(dialplan: Dialplan) -> None:
    dialplan.zammad.block(BLOCKED)
    uniqueid = await dialplan.caller(BLOCKED)
    commands = await dialplan.ask(uniqueid)
    assert variables(commands) == {"ZAMMAD_STATUS": "ok", "ZAMMAD_ACTION": "reject"}
    assert commands[-1].split()[:2] == ["EXEC", "Hangup"]
    assert "17" in commands[-1]
    await dialplan.pbx.emit("Hangup", {"Uniqueid": uniqueid, "Channel": "PJSIP/trunk-1", "Cause": "17"})
    await dialplan.zammad.wait_for(lambda z: z.log[0].state == "hangup")
    assert (len(dialplan.zammad.log), dialplan.zammad.log[0].cause) == (1, "busy")


async def test_another_caller_goes_on_and_is_told_once(dialplan: Dialplan) -> None:
    uniqueid = await dialplan.caller()
    commands = await dialplan.ask(uniqueid, script="screen?queue=support&user=Emma%20Taylor")
    assert variables(commands) == {"ZAMMAD_STATUS": "ok", "ZAMMAD_ACTION": "none"}
    await dialplan.pbx.emit("HangupRequest", {"Uniqueid": uniqueid})
    await dialplan.pbx.emit("Hangup", {"Uniqueid": uniqueid, "Channel": "PJSIP/trunk-1", "Cause": "0"})
    await dialplan.zammad.wait_for(lambda z: z.log[0].state == "hangup")
    (row,) = dialplan.zammad.log
    assert (row.queue, row.to_comment, row.cause) == ("support", "Emma Taylor", "cancel")


async def test_a_call_out_shows_the_caller_id_of_the_matching_route(dialplan: Dialplan) -> None:
    dialplan.zammad.route("4922*", "496990009111")
    uniqueid = await dialplan.agent()
    found = variables(await dialplan.ask(uniqueid, exten="0492214710334"))
    assert found["ZAMMAD_ACTION"] == "dial"
    assert found["ZAMMAD_CALLER_ID"] == found["CALLERID(num)"] == "496990009111"
    assert found["CALLERID(name)"] == ""
    assert "ZAMMAD_NUMBER" not in found
    (row,) = dialplan.zammad.log
    assert (row.direction, row.to) == ("out", "492214710334")


async def test_a_call_out_that_then_dials_is_still_one_entry(dialplan: Dialplan) -> None:
    uniqueid = await dialplan.agent()
    assert variables(await dialplan.ask(uniqueid, exten="0492214710334"))["ZAMMAD_ACTION"] == "none"
    leg = {"DestUniqueid": "9.9", "DestLinkedid": uniqueid}
    await dialplan.pbx.emit(
        "Newchannel",
        {"Channel": "PJSIP/trunk-9", "ChannelState": "0", "Uniqueid": "9.9", "Linkedid": uniqueid,
         "Context": "from-trunk", "Exten": "s"},
    )  # fmt: skip
    await dialplan.pbx.emit("DialBegin", {"Uniqueid": uniqueid, "Linkedid": uniqueid, "Exten": "0492214710334", **leg})
    await dialplan.pbx.emit("DialEnd", {"DialStatus": "BUSY", **leg})
    for gone in ("9.9", uniqueid):
        await dialplan.pbx.emit("Hangup", {"Uniqueid": gone, "Channel": "x", "Cause": "17"})
    await dialplan.zammad.wait_for(lambda z: z.log[0].state == "hangup")
    assert [(row.changes, row.cause) for row in dialplan.zammad.log] == [(["newCall", "hangup"], "busy")]


@pytest.mark.parametrize(
    ("fault", "status"),
    [
        (Fault.HANG, "timeout"),
        (Fault.SLOW, "timeout"),
        (Fault.ERROR, "unavailable"),
        (Fault.BAD_GATEWAY, "unavailable"),
        (Fault.RESET, "unavailable"),
    ],
)
async def test_whatever_zammad_does_the_call_goes_on(dialplan: Dialplan, fault: Fault, status: str) -> None:
    dialplan.zammad.fail(fault, seconds=1)
    found = variables(await dialplan.ask(await dialplan.agent(), exten="0492214710334"))
    assert found == {"ZAMMAD_STATUS": status, "ZAMMAD_ACTION": "none"}


async def test_while_zammad_is_known_to_be_gone_nobody_waits() -> None:
    # A minute to wait, if it waited: the test's patience is shorter.
    async with running(decision_timeout=60) as dialplan:
        dialplan.zammad.fail(Fault.BAD_GATEWAY)
        for _ in range(3):
            found = variables(await dialplan.ask(await dialplan.caller()))
            assert found == {"ZAMMAD_STATUS": "unavailable", "ZAMMAD_ACTION": "none"}


async def test_a_call_that_zammad_will_not_take_goes_on_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(decision_timeout=60) as dialplan:

        def refuse(_: object) -> NoReturn:
            raise _Failure(422, "Attribute 'from' required!")

        monkeypatch.setattr(dialplan.zammad, "_take", refuse)
        found = variables(await dialplan.ask(await dialplan.caller()))
        assert found == {"ZAMMAD_STATUS": "unavailable", "ZAMMAD_ACTION": "none"}


async def test_a_call_goes_on_at_once_while_asterisk_tells_nothing() -> None:
    async with running(decision_timeout=60) as dialplan:
        await dialplan.pbx.close()
        found = variables(await dialplan.ask("404.404"))
        assert found == {"ZAMMAD_STATUS": "unavailable", "ZAMMAD_ACTION": "none"}


async def test_all_who_wait_go_on_when_zammad_turns_out_to_be_gone() -> None:
    async with running(decision_timeout=60) as dialplan:
        # The first request hangs until the sandbox breaks its connections; the second is on its way meanwhile.
        dialplan.zammad.fail(Fault.HANG)
        callers = [await dialplan.caller() for _ in range(3)]
        asking = [asyncio.create_task(dialplan.ask(caller)) for caller in callers]
        await dialplan.zammad.wait_for(lambda z: len(z.requests) == 3)
        await dialplan.zammad.down()
        for commands in await asyncio.gather(*asking):
            assert variables(commands) == {"ZAMMAD_STATUS": "unavailable", "ZAMMAD_ACTION": "none"}
        await dialplan.zammad.up()


@pytest.mark.parametrize("number", ["112", "0112", "0110"])
async def test_an_emergency_call_is_not_held_and_not_asked_about(dialplan: Dialplan, number: str) -> None:
    dialplan.zammad.default_caller_id = "496990009111"
    found = variables(await dialplan.ask(await dialplan.agent(number), exten=number))
    assert found == {"ZAMMAD_STATUS": "emergency", "ZAMMAD_ACTION": "none"}
    assert not dialplan.zammad.requests


@pytest.mark.parametrize("caller_id", ["49 69", "49\r\nX: y", "anonymous", "1" * 40])
async def test_a_caller_id_that_is_no_number_never_reaches_the_channel(dialplan: Dialplan, caller_id: str) -> None:
    dialplan.zammad.default_caller_id = caller_id
    found = variables(await dialplan.ask(await dialplan.agent(), exten="0492214710334"))
    assert found == {"ZAMMAD_STATUS": "ok", "ZAMMAD_ACTION": "none"}


async def test_a_channel_that_nobody_knows_and_an_internal_call_are_not_asked_about(dialplan: Dialplan) -> None:
    assert variables(await dialplan.ask("404.404"))["ZAMMAD_STATUS"] == "unknown"
    assert variables(await dialplan.ask(await dialplan.agent("s"), exten="s"))["ZAMMAD_STATUS"] == "unknown"
    assert variables(await dialplan.ask(await dialplan.caller(), script="nonsense"))["ZAMMAD_STATUS"] == "unknown"
    assert not dialplan.zammad.requests


async def test_the_dialplan_may_ask_before_the_channel_is_known(dialplan: Dialplan) -> None:
    asking = asyncio.create_task(dialplan.ask("1.1"))
    await dialplan.caller()
    assert variables(await asking)["ZAMMAD_STATUS"] == "ok"
