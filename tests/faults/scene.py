"""One cell of the matrix, played: calls in every stage, the three faults, healing, more calls, and the comparison."""

from __future__ import annotations

import asyncio
import contextlib
import time
import traceback
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ami2zammad.sandbox.zammad import Fault, ZammadSandbox
from tests.faults import pbxes
from tests.faults.bridges import PATIENCE, Bridge, write_settings
from tests.faults.cells import AsteriskFault, BridgeFault, Cell, ZammadFault
from tests.faults.clock import DAY, WallClock
from tests.faults.ledger import Placed, Tally, tally
from tests.faults.pbxes import Pbx, Talk
from tests.ports import lasting_port

ALL_TOLD = 240.0
"""Seconds until everything must be in Zammad: after a wrong token the bridge tries once a minute."""

SLOW = 6_000.0
"""Bytes a second of the slow line: a call that begins takes two seconds to be told of."""

_STORM = b"\x00\xff\x80garbage without an end: \xc3" * 12_000
"""More than the bridge takes for one message."""

_LITTER = (
    b"\r\n\r\n",
    b"\x16\x03\x01\x00\xff\xfe\r\n\r\n",
    b"Event: Hangup\r\nUniqueid: \xff\xfe\x00\r\nCause: seventeen\r\n\r\n",
    b"Event: Newchannel\r\nChannel: PJSIP/trunk-0000dead\r\n\r\n",
    b"Event: BridgeEnter\r\nUniqueid: 1.1\r\nLinkedid: 1.1\r\n\r\n",
    b"Response: Success\r\nActionID: nobody-asked\r\nMessage: " + b"x" * 5000 + b"\r\n\r\n",
    b": \r\n:\r\nEvent\r\n\r\n",
)
"""Messages that make no sense, between others that do."""

# What the bridge says when an attempt to deliver has failed.
_FAILED = ("zammad.unreachable", "zammad.configuration_fault", "zammad.retry")


@dataclass(slots=True)
class Outcome:
    """What came of a cell."""

    cell: Cell
    pbx: str = ""
    tally: Tally = field(default_factory=Tally)
    seconds: float = 0.0
    error: str = ""
    """Why the cell could not be played to its end."""
    log: str = ""
    """The end of the bridge's log, where something is wrong."""

    @property
    def good(self) -> bool:
        """Everything is as it must be."""
        return not self.error and not self.tally.wrong


class Scene:
    """A cell with its PBX, its Zammad and its bridge."""

    def __init__(self, cell: Cell, pbx: Pbx, zammad: ZammadSandbox, bridge: Bridge, clock: WallClock | None) -> None:
        self._cell = cell
        self._pbx = pbx
        self._zammad = zammad
        self._bridge = bridge
        self._clock = clock
        self._callers: Iterator[str] = iter(f"491769999{n:04d}" for n in range(10_000))
        self._numbers: Iterator[str] = iter(f"49221471{n:04d}" for n in range(10_000))
        self._live: list[Talk] = []
        self.placed: list[Placed] = []

    async def play(self) -> None:
        """Place the calls and make everything fail; returns when everything has healed and every call is over."""
        cell = self._cell
        await self._bridge.start()
        await self._bridge.logged("ami.snapshot")

        # All is well: a call in each stage.
        ringing = await self._ring("ringing, then answered", "100")
        answered = await self._ring("answered", "101")
        await answered.answer()
        await self._wait_in_queue("waits in a queue", until_the_pbx_went=cell.asterisk.ends_calls)
        outbound = await self._dial("outbound", "100")
        await outbound.answer()
        ends = await self._ring("ends during the faults", "102")
        await ends.answer()
        passed_on = await self._ring_and_pass_on("passed on during the faults", "101", "102")
        await passed_on.answer()
        await self._zammad.wait_for(self._knows_all_so_far, PATIENCE)

        # Zammad fails, and the disk or the clock of the bridge: what happens now is heard of, and has to wait.
        await self._fail_zammad()
        await self._fail_bridge()
        await ringing.answer()
        begun = await self._ring("begins while Zammad fails", "101", in_vain=cell.asterisk.ends_calls)
        await self._heard_of("call.answered", ringing)
        await self._heard_of("call.new", begun)
        await self._prove_bridge_fault()
        await self._bridge.logged(*_FAILED)

        # Asterisk fails too: what happens now nobody tells.
        await self._fail_asterisk()
        await ends.hang_up()
        await passed_on.pass_on("102")
        await begun.answer()
        unseen = await self._ring("begins during the faults", "100")
        await unseen.answer()
        unseen_outbound = await self._dial("begins outbound during the faults", "102")
        await unseen_outbound.answer()
        await self._wait_in_queue("waits in a queue since the faults", until_the_pbx_went=False)
        await self._go_on_failing()

        # Everything heals; in half of the cells Zammad first.
        heard = len(self._bridge.now.lines)
        if cell.zammad_heals_first:
            await self._heal_zammad()
        await self._heal_asterisk(heard)
        await self._heal_bridge()
        if not cell.zammad_heals_first:
            await self._heal_zammad()

        # Life goes on.
        later = await self._ring("placed after healing", "102")
        await later.answer()
        queued = await self._ring_by_queue("placed after healing, queue")
        await queued.answer()
        outbound = await self._dial("placed after healing, outbound", "101")
        await outbound.answer()
        for talk in self._live:
            await talk.hang_up()

    async def compare(self, patience: float) -> Tally:
        """Wait until Zammad has everything, for so many seconds at most, stop the bridge, and count."""
        with contextlib.suppress(TimeoutError):  # then the tally says what is missing
            await self._zammad.wait_for(self._has_all, patience)
        await self._bridge.now.stop()
        return tally(self.placed, self._zammad.log, self._zammad.requests)

    # Calls

    async def _ring(self, what: str, phone: str, *, in_vain: bool = False) -> Talk:
        caller = next(self._callers)
        talk = await self._pbx.ring(caller, phone)
        expected = pbxes.rang_in_vain if in_vain else pbxes.rang
        return self._note(talk, expected(talk, what, caller, phone))

    async def _ring_and_pass_on(self, what: str, phone: str, other: str) -> Talk:
        """Place a call that is going to be passed on, if the PBX lives that long."""
        caller = next(self._callers)
        talk = await self._pbx.ring(caller, phone)
        if self._cell.asterisk.ends_calls:
            return self._note(talk, pbxes.rang(talk, what, caller, phone))
        return self._note(talk, pbxes.passed_on(talk, what, caller, phone, other))

    async def _wait_in_queue(self, what: str, *, until_the_pbx_went: bool) -> Talk:
        caller = next(self._callers)
        talk = await self._pbx.wait_in_queue(caller)
        return self._note(talk, pbxes.waited(talk, what, caller, until_the_pbx_went=until_the_pbx_went))

    async def _ring_by_queue(self, what: str) -> Talk:
        caller = next(self._callers)
        talk = await self._pbx.ring_by_queue(caller)
        return self._note(talk, pbxes.taken_from_queue(talk, what, caller))

    async def _dial(self, what: str, phone: str) -> Talk:
        number = next(self._numbers)
        talk = await self._pbx.dial(phone, number)
        return self._note(talk, pbxes.dialled(talk, what, phone, number))

    def _note(self, talk: Talk, placed: Placed) -> Talk:
        self._live.append(talk)
        self.placed.append(placed)
        return talk

    def _knows_all_so_far(self, zammad: ZammadSandbox) -> bool:
        states = {row.call_id: row.state for row in zammad.log}
        # The first is still ringing, the third waits.
        wanted = [{0: "newCall", 2: "newCall"}.get(n, "answer") for n in range(len(self.placed))]
        return [states.get(call.call_id) for call in self.placed] == wanted

    def _has_all(self, zammad: ZammadSandbox) -> bool:
        over = {row.call_id for row in zammad.log if row.state == "hangup"}
        return over >= {call_id for call in self.placed for call_id in call.ids}

    async def _heard_of(self, event: str, talk: Talk) -> None:
        await self._bridge.logged(event, matches=lambda line: line["call_id"] == talk.call_id)

    # Zammad

    async def _fail_zammad(self) -> None:
        zammad = self._zammad
        match self._cell.zammad:
            case ZammadFault.REFUSES | ZammadFault.RESTARTS:
                await zammad.down()
            case ZammadFault.WRONG_TOKEN:
                zammad.tokens = {"another"}
            case fault:
                zammad.fail(_FAULTS[fault])

    async def _heal_zammad(self) -> None:
        self._zammad.heal()
        self._zammad.tokens = {self._zammad.token}
        await self._zammad.up()

    # Asterisk

    async def _fail_asterisk(self) -> None:
        pbx, line, heard = self._pbx, self._pbx.line, len(self._bridge.now.lines)
        match self._cell.asterisk:
            case AsteriskFault.KILLED:
                await pbx.kill()
            case AsteriskFault.RESTARTED:
                await pbx.stop()
            case AsteriskFault.HALF_OPEN:
                line.freeze()
            case AsteriskFault.SLOW:
                line.bytes_per_second = SLOW
                return
            case AsteriskFault.GARBAGE:
                for litter in _LITTER:
                    line.inject(litter)
                line.greeting = b"\x00\x01garbage\xff\r\n"
                line.inject(_STORM)
            case AsteriskFault.CLOSES_LOGIN:
                line.breaks_logins = True
                line.cut()
        await self._bridge.logged("ami.disconnected", after=heard)
        if self._cell.asterisk.ends_calls:
            # It comes back before the bridge can see it.
            self._live.clear()
            await pbx.run_again()
        elif self._cell.asterisk is AsteriskFault.CLOSES_LOGIN:
            await until(lambda: line.broken_logins > 1)

    async def _heal_asterisk(self, heard: int) -> None:
        line = self._pbx.line
        line.thaw()
        line.greeting, line.breaks_logins, line.bytes_per_second = None, False, None
        await line.up()
        if self._cell.asterisk is not AsteriskFault.SLOW or self._cell.bridge.restarts:
            await self._bridge.logged("ami.snapshot", after=0 if self._cell.bridge.restarts else heard)

    # The bridge

    async def _fail_bridge(self) -> None:
        match self._cell.bridge:
            case BridgeFault.DISK_FULL:
                self._bridge.limit_files(0)
            case BridgeFault.CLOCK_JUMPS:
                self._jump(2)

    async def _prove_bridge_fault(self) -> None:
        """See to it that the bridge has felt its fault."""
        match self._cell.bridge:
            case BridgeFault.DISK_FULL:
                await self._bridge.logged("outbox.not_durable")
            case BridgeFault.CLOCK_JUMPS:
                await at_day(self._bridge, 2)

    async def _go_on_failing(self) -> None:
        """Do what is to be done while all the rest is broken."""
        if self._cell.zammad is ZammadFault.RESTARTS:
            # It listens again, but only its proxy answers.
            self._zammad.fail(Fault.UNAVAILABLE)
            await self._zammad.up()
        match self._cell.bridge:
            case BridgeFault.TERMINATED:
                await self._bridge.now.stop()
            case BridgeFault.KILLED:
                await self._bridge.now.kill()
            case BridgeFault.CLOCK_JUMPS:
                self._jump(-2)
        if self._cell.bridge.restarts:
            await self._bridge.start()
            # What waits came out of the file. A Zammad that stores all the same may leave nothing to wait.
            if self._cell.zammad is not ZammadFault.STORES_AND_FAILS:
                await self._bridge.logged(*_FAILED)

    async def _heal_bridge(self) -> None:
        match self._cell.bridge:
            case BridgeFault.DISK_FULL:
                self._bridge.limit_files(None)
                await self._bridge.logged("outbox.durable")
            case BridgeFault.CLOCK_JUMPS:
                await at_day(self._bridge, -2)
                self._jump(0)

    def _jump(self, days: int) -> None:
        assert self._clock is not None
        self._clock.jump(days * DAY)


async def at_day(bridge: Bridge, days: int) -> None:
    """Wait until the bridge's own clock, as its log shows it, is so many days off."""

    def so_far_off(line: dict[str, Any]) -> bool:
        ahead = datetime.fromisoformat(line["timestamp"]) - datetime.now(UTC)
        return round(ahead.total_seconds() / DAY) == days

    await until(lambda: any(map(so_far_off, bridge.now.lines[-20:])))


_FAULTS = {
    ZammadFault.RESETS: Fault.RESET,
    ZammadFault.HANGS: Fault.HANG,
    ZammadFault.STORES_AND_FAILS: Fault.ERROR_AFTER_STORING,
    ZammadFault.BAD_GATEWAY: Fault.BAD_GATEWAY,
    ZammadFault.TOO_MANY: Fault.TOO_MANY,
}


async def until(condition: Any, patience: float = PATIENCE) -> None:
    """Wait until something is so that nobody tells of."""
    async with asyncio.timeout(patience):
        while not condition():  # noqa: ASYNC110 - as said: there is no event
            await asyncio.sleep(0.05)


@contextlib.asynccontextmanager
async def scene(
    cell: Cell, version: str | None, folder: Path, starting: asyncio.Semaphore
) -> AsyncIterator[tuple[Scene, Bridge, Pbx]]:
    """Set the scene of a cell: on the real Asterisk *version*, or (None) on the simulated PBX."""
    clock = WallClock(folder) if cell.bridge is BridgeFault.CLOCK_JUMPS else None
    settings = folder / "ami2zammad.toml"
    start = pbxes.SimulatedPbx.start() if version is None else pbxes.RealPbx.start(version, starting)
    async with start as pbx, ZammadSandbox(port=lasting_port()) as zammad:
        write_settings(settings, pbx, zammad)
        environment = clock.environment if clock is not None else None
        async with Bridge.of(settings, starting=starting, environment=environment) as bridge:
            yield Scene(cell, pbx, zammad, bridge, clock), bridge, pbx
        if clock is not None:
            clock.clean_up_after(bridge.now.pid)


async def play(cell: Cell, version: str | None, folder: Path, starting: asyncio.Semaphore) -> Outcome:
    """Play one cell; never raises, except when cancelled."""
    outcome = Outcome(cell)
    began = time.monotonic()
    try:
        async with scene(cell, version, folder, starting) as (stage, bridge, pbx):
            outcome.pbx = pbx.label
            try:
                await stage.play()
            except Exception:  # noqa: BLE001 - it is told, with the log
                outcome.error = traceback.format_exc()
            outcome.tally = await stage.compare(0.0 if outcome.error else ALL_TOLD)
            if not outcome.good:
                outcome.log = bridge.about(call_id for call in stage.placed for call_id in call.ids)
    except Exception:  # noqa: BLE001 - a cell that cannot be set up is a cell that failed, as are its last words
        outcome.error += traceback.format_exc()
    outcome.seconds = round(time.monotonic() - began, 1)
    return outcome
