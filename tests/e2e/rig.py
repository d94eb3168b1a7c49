"""The people of the play: agents' phones, the trunk, and an AMI session that sees everything."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Self

from tests.e2e import config
from tests.e2e.ami import Ami, AmiError, Message
from tests.e2e.asterisk import PBX_HOST, PHONE_HOST, TRUNK_HOST, Asterisk
from tests.e2e.sip import Call, UserAgent

CALLER = "4917699999999"
DID = "4930600100"
BLOCKED_CALLER = "4930609998"
OUTSIDE = "492214710334"

TALK = 0.4
"""Seconds that people talk in a scenario: not a wait for anything, but the length of the call."""


class Rig:
    """Phones, trunk and eyes on one Asterisk; get it with :meth:`open`."""

    def __init__(self, pbx: Asterisk, ami: Ami, trunk: UserAgent, phones: dict[str, UserAgent]) -> None:
        self.pbx = pbx
        self.ami = ami
        self.trunk = trunk
        self.phones = phones

    @classmethod
    async def open(cls, pbx: Asterisk) -> Self:
        """Switch on the phones and the trunk's far side."""
        address = (PBX_HOST, pbx.sip_port)
        async with contextlib.AsyncExitStack() as stack:
            ami = await pbx.connect("rig")
            stack.push_async_callback(ami.close)
            trunk = await UserAgent.open(TRUNK_HOST, pbx.trunk_port, "trunk", address)
            stack.callback(trunk.close)
            phones = {}
            for number, port in pbx.phone_ports.items():
                if number != config.OFFLINE:
                    phones[number] = await UserAgent.open(PHONE_HOST, port, number, address)
                    stack.callback(phones[number].close)
            stack.pop_all()
            return cls(pbx, ami, trunk, phones)
        raise AssertionError("unreachable: the exit stack swallows nothing")

    async def close(self) -> None:
        """Switch everything off."""
        for agent in (self.trunk, *self.phones.values()):
            agent.close()
        await self.ami.close()

    async def reconnect(self) -> None:
        """See again, after Asterisk was stopped and started (the phones have not noticed anything)."""
        await self.ami.close()
        self.ami = await self.pbx.connect("rig")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    # Between scenarios

    async def begin(self) -> None:
        """Start a scenario: nothing goes on, and nothing of the past is remembered."""
        await self.idle()
        self.ami.mark()
        for agent in (self.trunk, *self.phones.values()):
            agent.forget()

    async def idle(self) -> None:
        """Wait until no channel is left and every queue member can be called again."""
        await self.ami.until(lambda: not self.ami.channels)
        while True:
            members = await self.ami.collect("QueueStatus", "QueueStatusComplete")
            # 1: not in use (a device state follows its channel's end by some milliseconds)
            if all(m["Status"] == "1" for m in members if m["Event"] == "QueueMember"):
                return
            await asyncio.sleep(0.02)

    async def hang_up_everything(self) -> None:
        """End all calls, after a scenario that went wrong."""
        for agent in (self.trunk, *self.phones.values()):
            for call in agent.calls:
                call.over = True
        with contextlib.suppress(AmiError):
            await self.ami.cli("channel request hangup all")

    # What scenarios are made of

    def dial_in(self, did: str = DID, *, caller: str = CALLER, name: str = "") -> Call:
        """Let somebody outside call *did*."""
        display = f'"{name}" ' if name else ""
        return self.trunk.call(did, from_header=f"{display}<sip:{caller}@{TRUNK_HOST}>")

    async def ringing(self, *numbers: str) -> list[Call]:
        """Wait until these phones are called, and let them ring; returns their calls in that order."""
        calls = [await self.phones[number].ringing() for number in numbers]
        for number in numbers:
            await self.ami.event("Newstate", Channel=f"PJSIP/{number}-*", ChannelStateDesc="Ringing")
        return calls

    async def talk(self, seconds: float = TALK) -> None:
        """Let them talk."""
        await asyncio.sleep(seconds)

    async def in_bridge(self, device: str, count: int = 1) -> Message:
        """Wait until the device's channel has entered a bridge (for the *count*-th time)."""
        return await self.ami.event("BridgeEnter", Channel=f"{device}-*", count=count)

    async def together(self, device: str, other: str) -> None:
        """Wait until channels of these two devices are in one bridge with each other."""

        def connected() -> bool:
            where: dict[str, str] = {}
            for event in self.ami.events:
                channel = event.get("Channel", "")
                if event.get("Event") == "BridgeEnter":
                    where[channel] = event["BridgeUniqueid"]
                elif event.get("Event") in {"BridgeLeave", "Hangup"}:
                    where.pop(channel, None)
            left = {bridge for channel, bridge in where.items() if channel.startswith(f"{device}-")}
            right = {bridge for channel, bridge in where.items() if channel.startswith(f"{other}-")}
            return bool(left & right)

        try:
            await self.ami.until(connected)
        except TimeoutError:
            raise TimeoutError(f"{device} and {other} were never connected") from None

    async def application(self, name: str, channel: str = "PJSIP/trunk-*") -> Message:
        """Wait until the dialplan runs an application on a channel."""
        return await self.ami.event("Newexten", Application=name, Channel=channel)
