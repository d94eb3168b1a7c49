"""Live calls of the sandbox: shaped like recorded ones, true in every Status, and cheap."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from ami2zammad.asterisk.connection import AmiEndpoint, AmiSession
from ami2zammad.asterisk.framing import Framer
from ami2zammad.asterisk.recording import read_messages
from ami2zammad.sandbox.live_calls import LiveCalls, Phone
from ami2zammad.sandbox.pbx import PbxSandbox
from ami2zammad.sandbox.zammad import ZammadSandbox
from tests.caller_log import mismatches
from tests.e2e.scenarios import SCENARIOS
from tests.integration.test_bridge import bridged

RECORDINGS = Path(__file__).parents[2] / "recordings" / "22"
EMMA, CHRIS, ZOE = Phone("100", "Emma Taylor"), Phone("101", "Christopher Miller"), Phone("102", "Zoë Müller")
CALLER, DID, OUTSIDE = "4917699999999", "4930600100", "492214710334"

RACES = {"in_queue_cancel", "out_answer"}
PATIENCE = 60.0

LEFT_OUT = re.compile(r"Event: (DeviceStateChange|QueueMemberStatus|Unhold)\r\n")
"""What the simulator leaves out or says at another moment."""

Headers = dict[str, str]
Play = Callable[[LiveCalls], Awaitable[None]]


class Listener:
    """An AMI client that keeps every event."""

    def __init__(self, pbx: PbxSandbox, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._pbx = pbx
        self._reader = reader
        self._writer = writer
        self._framer = Framer()
        self.messages: list[str] = []

    async def caught_up(self) -> list[str]:
        """Return all events so far: those before the answer to a Ping."""
        self._writer.write(b"Action: Ping\r\n\r\n")
        while not self.messages or "Ping: Pong" not in self.messages[-1]:
            data = await self._reader.read(65536)
            assert data
            self.messages += [message.decode() + "\r\n" for message in self._framer.feed(data)]
        self.messages.pop()
        return self.messages


@contextlib.asynccontextmanager
async def listening(pbx: PbxSandbox) -> AsyncIterator[Listener]:
    reader, writer = await asyncio.open_connection("127.0.0.1", pbx.port)
    await reader.readline()
    writer.write(b"Action: Login\r\nUsername: ami2zammad\r\nSecret: sandbox\r\n\r\n")
    await reader.readuntil(b"\r\n\r\n")
    try:
        yield Listener(pbx, reader, writer)
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def in_answer(calls: LiveCalls) -> None:
    call = await calls.inbound(CALLER, DID, EMMA)
    await call.answer()
    await call.hang_up()


async def in_cancel(calls: LiveCalls) -> None:
    call = await calls.inbound(CALLER, DID, EMMA)
    await call.hang_up()


async def in_queue_answer(calls: LiveCalls) -> None:
    call = await calls.queued(CALLER, "4930600130", "support", EMMA, CHRIS)
    await call.answer("101")
    await call.hang_up()


async def in_queue_cancel(calls: LiveCalls) -> None:
    call = await calls.queued(CALLER, "4930600130", "support", EMMA, CHRIS)
    await call.hang_up()


async def out_answer(calls: LiveCalls) -> None:
    call = await calls.outbound(EMMA, f"0{OUTSIDE}", OUTSIDE)
    await call.answer()
    await call.hang_up()


async def in_blind_transfer(calls: LiveCalls) -> None:
    call = await calls.inbound(CALLER, DID, EMMA)
    await call.answer()
    await call.transfer(CHRIS)
    await call.answer()
    await call.hang_up()


async def in_ring_group(calls: LiveCalls) -> None:
    call = await calls.inbound(CALLER, "4930600120", EMMA, CHRIS, ZOE)
    await call.answer("101")
    await call.hang_up()


PLAYS: dict[str, Play] = {
    "in_answer_caller_hangs_up": in_answer,
    "in_cancel": in_cancel,
    "in_queue_answer": in_queue_answer,
    "in_queue_cancel": in_queue_cancel,
    "out_answer": out_answer,
    "in_blind_transfer": in_blind_transfer,
}


def comparable(messages: list[str]) -> list[str]:
    """Return events with names in place of ids, in the order of the ids' first appearance."""
    names: dict[str, str] = {}

    def named(found: re.Match[str]) -> str:
        return names.setdefault(found[0], f"id{len(names)}")

    ids = re.compile(r"PJSIP/\w+-[0-9a-f]{8}|\b\d{10}\.\d+|[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f-]{22}")
    kept = [re.sub(r"Timestamp: .*\r\n", "", message) for message in messages if not LEFT_OUT.match(message)]
    return [ids.sub(named, message) for message in kept]


def recorded(name: str) -> list[str]:
    messages = [message.decode() + "\r\n" for _, message in read_messages(RECORDINGS / f"{name}.ami")]
    return [message for message in messages if message.startswith("Event: ")]


def headers(message: str) -> Headers:
    return dict(line.partition(": ")[::2] for line in message.rstrip("\r\n").split("\r\n"))


@pytest.mark.parametrize("name", PLAYS)
async def test_a_call_looks_like_the_recording_of_a_real_one(name: str) -> None:
    async with PbxSandbox() as pbx, listening(pbx) as listener:
        await PLAYS[name](LiveCalls(pbx))
        live, real = comparable(await listener.caught_up()), comparable(recorded(name))
    # Where two threads of Asterisk's race, the recording has the one order and the simulator the other.
    if name in RACES:
        live, real = sorted(live), sorted(real)
    assert live == real


@pytest.mark.parametrize("play", [*PLAYS.values(), in_ring_group])
async def test_a_status_says_at_any_moment_what_the_events_have_said(play: Play) -> None:
    async with PbxSandbox() as pbx, listening(pbx) as listener:
        calls = StepByStep(pbx)
        await play(calls)
        steps = iter(calls.listed)
        channels: dict[str, tuple[str, str]] = {}
        for message in map(headers, await listener.caught_up()):
            uniqueid, state = message.get("Uniqueid", ""), message.get("ChannelState", "")
            match message["Event"]:
                case "Newchannel":
                    channels[uniqueid] = (state, "")
                case "Newstate":
                    channels[uniqueid] = (state, channels[uniqueid][1])
                case "BridgeEnter":
                    channels[uniqueid] = (state, message["BridgeUniqueid"])
                case "BridgeLeave":
                    channels[uniqueid] = (state, "")
                case "Hangup":
                    del channels[uniqueid]
                case "EndOfStep":
                    assert next(steps) == channels
        assert channels == {}
        assert next(steps, None) is None


class StepByStep(LiveCalls):
    """Notes what is listed after each step, and says so in the stream."""

    def __init__(self, pbx: PbxSandbox) -> None:
        super().__init__(pbx)
        self._sandbox = pbx
        self.listed: list[dict[str, tuple[str, str]]] = []

    async def step(self, text: str, **legs: Any) -> None:
        await super().step(text, **legs)
        rows = self._sandbox.channels
        self.listed.append({uniqueid: (row["ChannelState"], row["BridgeID"]) for uniqueid, row in rows.items()})
        await self._sandbox.emit("EndOfStep")


async def test_the_bridge_tells_zammad_what_it_tells_of_the_real_ones() -> None:
    async with PbxSandbox() as pbx, ZammadSandbox() as zammad, bridged(pbx, zammad):
        calls = LiveCalls(pbx)
        for name, play in PLAYS.items():
            zammad.requests.clear()
            rows = len(zammad.log) + len(SCENARIOS[name].expected)
            await play(calls)
            await zammad.wait_for(partial(all_over, rows=rows), PATIENCE)
            assert (name, mismatches(SCENARIOS[name].expected, [r.fields for r in zammad.requests])) == (name, [])


def all_over(zammad: ZammadSandbox, *, rows: int) -> bool:
    return len(zammad.log) == rows and all(row.state == "hangup" for row in zammad.log)


async def test_nobody_has_to_listen_and_a_call_that_is_over_stays_over() -> None:
    async with PbxSandbox() as pbx:
        calls = LiveCalls(pbx, clock=lambda: 1_700_000_000.0)
        first = await calls.inbound(CALLER, DID, EMMA)
        await first.answer()
        assert [row["ChannelState"] for row in pbx.channels.values()] == ["6", "6"]
        calls.vanish()
        assert (pbx.channels, calls.live, first.over) == ({}, {}, True)
        second = await calls.inbound(CALLER, DID, EMMA)
        # The numbers begin again, the Uniqueids do not.
        assert [row["Channel"] for row in pbx.channels.values()] == ["PJSIP/trunk-00000000", "PJSIP/100-00000001"]
        assert (first.call_id, second.call_id) == ("1700000000.0", "1700000001.0")
        await first.transfer(ZOE)
        await first.answer()
        await first.hang_up()
        assert len(pbx.channels) == 2
        await second.hang_up()
        await second.hang_up()
        assert (pbx.channels, calls.live) == ({}, {})


async def test_ten_thousand_calls_at_once() -> None:
    async with PbxSandbox() as pbx:
        calls = LiveCalls(pbx)
        live = [await calls.inbound(CALLER, DID, EMMA) for _ in range(10_000)]
        assert len({call.call_id for call in live}) == len(calls.live) == 10_000
        session = await AmiSession.open(AmiEndpoint("127.0.0.1", pbx.port, "ami2zammad", "sandbox"), lambda _: None)
        try:
            snapshot = await session.snapshot()
        finally:
            await session.close()
        assert {channel.uniqueid for channel in snapshot.channels} == set(pbx.channels)
        for call in live:
            await call.answer()
            await call.hang_up()
        assert (pbx.channels, calls.live) == ({}, {})
