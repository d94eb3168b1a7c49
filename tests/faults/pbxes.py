"""The PBX of a cell: a real Asterisk with real SIP calls, or the simulated one; the bridge reaches it over a `Line`."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Protocol

from ami2zammad.sandbox.live_calls import InboundCall, LiveCall, LiveCalls, Phone
from ami2zammad.sandbox.pbx import PbxSandbox
from tests.e2e.asterisk import Asterisk
from tests.e2e.config import PHONES
from tests.e2e.rig import Rig
from tests.e2e.scenarios import Entry, missed, taken
from tests.e2e.sip import Call
from tests.faults.ledger import Placed
from tests.line import Line

DIDS = {"100": "4930600190", "101": "4930600191", "102": "4930600192"}
"""Numbers that ring at one phone for as long as a cell may last."""

WAITING_DID, WAITING = "4930600193", "waiting"
"""A queue without members: callers wait."""

READY_DID, READY, MEMBER = "4930600194", "ready", "102"
"""A queue whose one member rings at once, whatever else he does."""

_DIALPLAN = "[from-trunk]\n" + "".join(
    f"exten => {did},1,{application}\n same => n,Hangup()\n"
    for did, application in (
        *((did, f"Dial(PJSIP/{phone},900)") for phone, did in DIDS.items()),
        (WAITING_DID, f"Answer()\n same => n,Queue({WAITING},,,,900)"),
        (READY_DID, f"Answer()\n same => n,Queue({READY},,,,900)"),
    )
)
_QUEUES = f"""\
[general]
persistentmembers=no

[{WAITING}]
joinempty=yes

[{READY}]
strategy=ringall
timeout=900
ringinuse=yes
member => PJSIP/{MEMBER},0,{PHONES[MEMBER]},PJSIP/{MEMBER}
"""


class Talk(Protocol):
    """A call that goes on."""

    @property
    def call_id(self) -> str:
        """What Zammad is to know it by."""
        ...

    async def answer(self) -> None:
        """Let whoever it rings at take it; returns when the PBX has brought them together. Nothing if it is over."""
        ...

    async def hang_up(self) -> None:
        """Let who began it hang up; returns when it is gone. A call that is over already stays so."""
        ...

    async def pass_on(self, phone: str) -> None:
        """Let the agent who talks send the caller on to another phone, unasked, and let that take the call."""
        ...


class Pbx(Protocol):
    """What a cell needs of a PBX. A call is returned when the PBX has told of its ringing or waiting."""

    label: str
    """Which PBX this is, for the report."""
    account: str
    secret: str
    line: Line

    async def ring(self, caller: str, phone: str) -> Talk:
        """Let *caller* ring at a phone."""
        ...

    async def wait_in_queue(self, caller: str) -> Talk:
        """Let *caller* wait in a queue in which nobody answers."""
        ...

    async def ring_by_queue(self, caller: str) -> Talk:
        """Let *caller* come into a queue whose member rings."""
        ...

    async def dial(self, phone: str, number: str) -> Talk:
        """Let a phone dial *number*; it rings there."""
        ...

    async def kill(self) -> None:
        """End the PBX as a crash does: all calls are gone, nobody is told."""
        ...

    async def stop(self) -> None:
        """Stop the PBX as an administrator does: all calls are gone."""
        ...

    async def run_again(self) -> None:
        """Start it again; the line is still down."""
        ...


# What the calls must leave in Zammad


UNANSWERED = ("cancel", "noAnswer")
"""How a call ends that rings or waits when the PBX goes: nobody saw its end, or Asterisk said at its shutdown that
nobody took it."""


def rang(talk: Talk, what: str, caller: str, phone: str) -> Placed:
    """Return what a call to a phone that was answered is to become."""
    return Placed(what, talk.call_id, (taken(phone, PHONES[phone], to=DIDS[phone], caller=caller),))


def passed_on(talk: Talk, what: str, caller: str, phone: str, other: str) -> Placed:
    """Return what a call is to become that one phone took and passed on to another, which took it too."""
    first = taken(phone, PHONES[phone], to=DIDS[phone], caller=caller, cause="forwarded")
    return Placed(what, talk.call_id, (first, taken(other, PHONES[other], to=other, caller=caller)))


def rang_in_vain(talk: Talk, what: str, caller: str, phone: str) -> Placed:
    """Return what a call to a phone is to become that ends with the PBX."""
    entry = replace(missed("", PHONES[phone], to=DIDS[phone], caller=caller), cause=None)
    return Placed(what, talk.call_id, (entry,), UNANSWERED)


def waited(talk: Talk, what: str, caller: str, *, until_the_pbx_went: bool) -> Placed:
    """Return what a call that nobody took out of the queue is to become."""
    entry = missed("cancel", queue=WAITING, to=WAITING_DID, caller=caller)
    if until_the_pbx_went:
        return Placed(what, talk.call_id, (replace(entry, cause=None),), UNANSWERED)
    return Placed(what, talk.call_id, (entry,))


def taken_from_queue(talk: Talk, what: str, caller: str) -> Placed:
    """Return what a call that the queue's member took is to become."""
    entry = taken(MEMBER, PHONES[MEMBER], queue=READY, to=READY_DID, caller=caller)
    return Placed(what, talk.call_id, (entry,))


def dialled(talk: Talk, what: str, phone: str, number: str) -> Placed:
    """Return what an outbound call that was answered is to become."""
    entry = Entry(
        direction="out",
        from_number=phone,
        to_number=number,
        users=(PHONES[phone],),
        queue="",
        answered=True,
        answered_by="",
        cause="normalClearing",
    )
    return Placed(what, talk.call_id, (entry,))


# Simulated


class _SimulatedTalk:
    """A simulated call."""

    def __init__(self, call: LiveCall) -> None:
        self._call = call
        self.call_id = call.call_id

    async def answer(self) -> None:
        await self._call.answer()

    async def hang_up(self) -> None:
        await self._call.hang_up()

    async def pass_on(self, phone: str) -> None:
        assert isinstance(self._call, InboundCall)
        await self._call.transfer(_phone(phone))
        await self._call.answer()


class SimulatedPbx:
    """A `PbxSandbox` with live calls."""

    label = "simulated"
    account = "ami2zammad"
    secret = "sandbox"

    def __init__(self, sandbox: PbxSandbox, line: Line) -> None:
        self._sandbox = sandbox
        self.line = line
        self.calls = LiveCalls(sandbox)

    @classmethod
    @contextlib.asynccontextmanager
    async def start(cls) -> AsyncIterator[SimulatedPbx]:
        """Run one for the length of an `async with`."""
        async with PbxSandbox(username=cls.account, secret=cls.secret) as sandbox, Line.lay(sandbox.port) as line:
            yield cls(sandbox, line)

    async def ring(self, caller: str, phone: str) -> Talk:
        """See `Pbx`."""
        return _SimulatedTalk(await self.calls.inbound(caller, DIDS[phone], _phone(phone)))

    async def wait_in_queue(self, caller: str) -> Talk:
        """See `Pbx`."""
        return _SimulatedTalk(await self.calls.queued(caller, WAITING_DID, WAITING))

    async def ring_by_queue(self, caller: str) -> Talk:
        """See `Pbx`."""
        return _SimulatedTalk(await self.calls.queued(caller, READY_DID, READY, _phone(MEMBER)))

    async def dial(self, phone: str, number: str) -> Talk:
        """See `Pbx`."""
        return _SimulatedTalk(await self.calls.outbound(_phone(phone), f"0{number}", number))

    async def send(self, raw: bytes) -> None:
        """Send any bytes to who is connected; waits where they are not read."""
        await self._sandbox.send(raw)

    async def kill(self) -> None:
        """See `Pbx`."""
        self.calls.vanish()
        await self.line.down()

    async def stop(self) -> None:
        """See `Pbx`; an account without the class `system` is told nothing, its connection just ends."""
        self.calls.vanish()
        await self.line.close_gently()

    async def run_again(self) -> None:
        """See `Pbx`."""


def _phone(extension: str) -> Phone:
    return Phone(extension, PHONES[extension])


# Real


class _RealTalk:
    """A call between real SIP devices."""

    def __init__(self, rig: Rig, call_id: str, caller: Call, called: Call | None) -> None:
        self._rig = rig
        self._call_id = call_id
        self._caller = caller
        self._called = called

    @property
    def call_id(self) -> str:
        return self._call_id

    async def answer(self) -> None:
        if self._caller.over:
            return
        assert self._called is not None
        self._called.answer()
        await self._caller.answered()
        await self._rig.ami.event("BridgeEnter", Uniqueid=self._call_id)

    async def hang_up(self) -> None:
        if self._caller.over:
            return
        await (self._caller.bye() if self._caller.status >= 200 else self._caller.cancel())
        await self._rig.ami.event("Hangup", Uniqueid=self._call_id)

    async def pass_on(self, phone: str) -> None:
        if self._caller.over:
            return
        assert self._called is not None
        await self._called.refer(phone)
        other = await self._rig.phones[phone].ringing()
        other.answer()
        await self._called.transferred()
        # Each of the two bridges is entered once.
        await self._rig.ami.event("BridgeEnter", Uniqueid=self._call_id, count=2)


class RealPbx:
    """An Asterisk in a chroot, with phones and a trunk."""

    account = "least"

    def __init__(self, asterisk: Asterisk, rig: Rig, line: Line, starting: asyncio.Semaphore) -> None:
        self._asterisk = asterisk
        self._starting = starting
        self._rig = rig
        self.line = line
        self.label = f"Asterisk {asterisk.version}"
        self.secret = asterisk.secrets[self.account]

    @classmethod
    @contextlib.asynccontextmanager
    async def start(cls, version: str, starting: asyncio.Semaphore) -> AsyncIterator[RealPbx]:
        """Run one for the length of an `async with`; `starting` bounds how many start at a time."""
        async with contextlib.AsyncExitStack() as stack:
            async with starting:
                asterisk = await stack.enter_async_context(
                    Asterisk.start(version, dialplan=_DIALPLAN, files={"queues.conf": _QUEUES})
                )
            rig = await stack.enter_async_context(await Rig.open(asterisk))
            line = await stack.enter_async_context(Line.lay(asterisk.ami_port))
            for agent in (rig.trunk, *rig.phones.values()):
                agent.voice = False
            yield cls(asterisk, rig, line, starting)

    async def ring(self, caller: str, phone: str) -> _RealTalk:
        """See `Pbx`."""
        return await self._call_in(caller, DIDS[phone], phone)

    async def wait_in_queue(self, caller: str) -> _RealTalk:
        """See `Pbx`."""
        call = self._rig.dial_in(WAITING_DID, caller=caller)
        await call.answered()
        joined = await self._rig.ami.event("QueueCallerJoin", CallerIDNum=caller)
        return _RealTalk(self._rig, joined["Uniqueid"], call, None)

    async def ring_by_queue(self, caller: str) -> _RealTalk:
        """See `Pbx`."""
        return await self._call_in(caller, READY_DID, MEMBER)

    async def dial(self, phone: str, number: str) -> _RealTalk:
        """See `Pbx`."""
        call = self._rig.phones[phone].call(f"0{number}")
        called = await self._rig.trunk.ringing()
        begun = await self._rig.ami.event("Newchannel", Channel=f"PJSIP/{phone}-*", Exten=f"0{number}")
        await self._rig.ami.event("Newstate", Linkedid=begun["Uniqueid"], ChannelStateDesc="Ringing")
        return _RealTalk(self._rig, begun["Uniqueid"], call, called)

    async def kill(self) -> None:
        """See `Pbx`."""
        await self._asterisk.kill()
        await self._gone()

    async def stop(self) -> None:
        """See `Pbx`."""
        await self._asterisk.stop()
        await self._gone()

    async def run_again(self) -> None:
        """See `Pbx`."""
        async with self._starting:
            await self._asterisk.run_again()
        await self._rig.reconnect()

    async def _call_in(self, caller: str, did: str, phone: str) -> _RealTalk:
        call = self._rig.dial_in(did, caller=caller)
        called = await self._rig.phones[phone].ringing()
        begun = await self._rig.ami.event("Newchannel", Channel="PJSIP/trunk-*", CallerIDNum=caller)
        await self._rig.ami.event("Newstate", Linkedid=begun["Uniqueid"], ChannelStateDesc="Ringing")
        return _RealTalk(self._rig, begun["Uniqueid"], call, called)

    async def _gone(self) -> None:
        """Let the devices know what Asterisk cannot tell them any more."""
        await self.line.down()
        for agent in (self._rig.trunk, *self._rig.phones.values()):
            for call in agent.calls:
                call.over = True
            agent.forget()
