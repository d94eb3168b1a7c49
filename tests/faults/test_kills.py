"""The bridge dies at any moment, again and again, while calls come and go: each is told, once."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import random
import sqlite3
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from ami2zammad.sandbox.zammad import Fault, LogEntry, Received, ZammadSandbox
from tests.e2e.bridge_process import DoomedBridge
from tests.e2e.config import PHONES
from tests.e2e.scenarios import missed, taken
from tests.faults.bridges import PATIENCE, Bridge, write_settings
from tests.faults.ledger import Placed, Tally, tally
from tests.faults.pbxes import DIDS, SimulatedPbx, Talk
from tests.faults.report import Report
from tests.faults.scene import until
from tests.ports import lasting_port

SEEDS = (1, 2, 3)
KILLS = 18
"""With each seed: 54 in all."""

CALLS_PER_SECOND = 8.0
REPLY = 0.05
"""Seconds that Zammad keeps its replies back, so that many kills fall between storing and the reply."""

SURE = 1.5
"""Seconds that a bridge must have lived on after a brief call for the call to count."""

PHONE = "100"


@contextlib.asynccontextmanager
async def rig(
    folder: Path, starting: asyncio.Semaphore | None = None
) -> AsyncIterator[tuple[SimulatedPbx, ZammadSandbox, Bridge]]:
    """Give a PBX, a Zammad, and a bridge between the two that does not run yet."""
    async with SimulatedPbx.start() as pbx, ZammadSandbox(port=lasting_port()) as zammad:
        settings = folder / "ami2zammad.toml"
        write_settings(settings, pbx, zammad, settle=0.05)
        async with Bridge.of(settings, starting=starting) as bridge:
            yield pbx, zammad, bridge


@dataclass
class Traffic:
    """Calls that come and go by themselves, whatever becomes of the bridge."""

    pbx: SimulatedPbx
    zammad: ZammadSandbox
    bridge: Bridge
    rng: random.Random
    count: int = 0
    placed: list[Callable[[], Placed]] = field(default_factory=list)
    """What there is to count; asked when everything is over."""
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)

    async def run(self) -> None:
        """Place calls until cancelled."""
        plays = (self._patient, self._hasty, self._cancelled, self._brief)
        while True:
            await asyncio.sleep(self.rng.expovariate(CALLS_PER_SECOND))
            self._tasks.append(asyncio.create_task(self._place(self.rng.choice(plays))))

    async def finished(self) -> None:
        """Wait until all calls are over; raises what went wrong in one of them."""
        await asyncio.gather(*self._tasks)

    async def _place(self, play: Callable[[Talk, str], Coroutine[Any, Any, None]]) -> None:
        self.count += 1
        caller = f"4917{self.count:09d}"
        await play(await self.pbx.ring(caller, PHONE), caller)

    async def _patient(self, call: Talk, caller: str) -> None:
        """Every step waits until Zammad knows the one before: what it knows is on the bridge's disk."""
        await self._known(call, "newCall")
        await self._pause()
        await call.answer()
        await self._known(call, "answer")
        await self._pause()
        await call.hang_up()
        self.placed.append(lambda: Placed("patient", call.call_id, (self._taken(caller),)))

    async def _hasty(self, call: Talk, caller: str) -> None:
        """Zammad knows that it rings; the rest happens whether somebody listens or not."""
        await self._known(call, "newCall")
        await self._pause()
        await call.answer()
        await self._pause()
        await call.hang_up()
        self.placed.append(lambda: Placed("hasty", call.call_id, (self._as_seen(call, caller),)))

    async def _cancelled(self, call: Talk, caller: str) -> None:
        await self._known(call, "newCall")
        await self._pause()
        await call.hang_up()
        entry = missed("cancel", PHONES[PHONE], to=DIDS[PHONE], caller=caller)
        self.placed.append(lambda: Placed("cancelled", call.call_id, (entry,)))

    async def _brief(self, call: Talk, caller: str) -> None:
        """Nobody is waited for. It counts if one bridge was there from before its beginning until well after its end.

        If not, Zammad may have heard of it or not, but not twice, and not of half of it.
        """
        before = self._watching()
        await self._pause()
        await call.answer()
        await self._pause()
        await call.hang_up()
        await asyncio.sleep(SURE)
        if before is not None and self._watching() is before:
            self.placed.append(lambda: Placed("brief, watched", call.call_id, (self._taken(caller),)))
        else:
            self.placed.append(lambda: Placed("brief", call.call_id, (self._as_seen(call, caller),)))

    def _watching(self) -> DoomedBridge | None:
        """Return the process that watches the PBX, if one does."""
        now = self.bridge.now
        return now if now.alive and any(line.get("event") == "ami.snapshot" for line in now.lines) else None

    async def _known(self, call: Talk, event: str) -> None:
        def known(zammad: ZammadSandbox) -> bool:
            with contextlib.suppress(KeyError):
                return event in zammad.entry(call.call_id).changes
            return False

        await self.zammad.wait_for(known, PATIENCE)

    async def _pause(self) -> None:
        await asyncio.sleep(self.rng.uniform(0.0, 1.5))

    @staticmethod
    def _taken(caller: str) -> Any:
        return taken(PHONE, PHONES[PHONE], to=DIDS[PHONE], caller=caller)

    def _as_seen(self, call: Talk, caller: str) -> Any:
        """An answer that nobody saw cannot be told: then it is a call that was given up. Nor can who rang."""
        entry = self._taken(caller)
        with contextlib.suppress(KeyError):
            if "answer" not in self.zammad.entry(call.call_id).changes:
                entry = missed("cancel", PHONES[PHONE], to=DIDS[PHONE], caller=caller)
        told = (one.fields for one in self.zammad.requests if (one.call_id, one.event) == (call.call_id, "newCall"))
        return entry if any("user" in fields for fields in told) else dataclasses.replace(entry, users=None)


async def kill_again_and_again(folder: Path, starting: asyncio.Semaphore, seed: int) -> tuple[Tally, int]:
    """Let calls flow, kill the bridge `KILLS` times; return what came of the calls, and how many were too brief."""
    rng = random.Random(seed)  # noqa: S311 - no secret
    async with rig(folder, starting) as (pbx, zammad, bridge):
        zammad.fail(Fault.SLOW, seconds=REPLY)
        await bridge.start()
        traffic = Traffic(pbx, zammad, bridge, rng)
        flowing = asyncio.create_task(traffic.run())
        for _ in range(KILLS):
            if rng.random() < 0.7:
                await bridge.logged("ami.snapshot")
            await asyncio.sleep(rng.uniform(0.0, 1.5))
            await bridge.now.kill()
            await (bridge.start() if rng.random() < 0.7 else bridge.spawn())
        await bridge.logged("ami.snapshot")
        flowing.cancel()
        await traffic.finished()
        placed = [ask() for ask in traffic.placed]
        must = {call.call_id for call in placed if call.what != "brief"}

        def everything_over(z: ZammadSandbox) -> bool:
            over = {row.call_id for row in z.log if row.state == "hangup"}
            return over >= must and len(over) == len(z.log)

        with contextlib.suppress(TimeoutError):  # then the tally says what is missing
            await zammad.wait_for(everything_over, PATIENCE)
        await bridge.now.stop()
        known = {row.call_id for row in zammad.log}
        counted = [ask() for ask in traffic.placed]
        counted = [call for call in counted if call.what != "brief" or call.call_id in known]
        result = tally(counted, zammad.log, zammad.requests)
        if result.wrong:
            wrong = [call.call_id for call in counted if any(call.call_id in line for line in result.wrong)]
            print(bridge.about(wrong))  # which pytest shows with the failure
        # A bridge that says this promises nothing if it is killed.
        assert not [line for line in bridge.lines() if line["event"] == "outbox.not_durable"]
        return result, len(placed) - len(counted)


async def test_fifty_kills_at_any_moment(folder: Path, starting: asyncio.Semaphore, report: Report) -> None:
    folders = {seed: folder / str(seed) for seed in SEEDS}
    for one in folders.values():
        one.mkdir()
    results = await asyncio.gather(*(kill_again_and_again(folders[seed], starting, seed) for seed in SEEDS))
    total = sum((one for one, _ in results), Tally())
    unheard = sum(number for _, number in results)
    report.add_trial("SIGKILL at random moments while calls flow", total, kills=KILLS * len(SEEDS), unheard=unheard)
    assert total.wrong == []
    # Without traffic there would be nothing to lose.
    assert total.placed > 10 * len(SEEDS) * CALLS_PER_SECOND


@pytest.mark.parametrize("event", ["newCall", "answer", "hangup"])
async def test_killed_when_zammad_has_stored_an_event_and_the_reply_was_not_read(folder: Path, event: str) -> None:
    async with rig(folder) as (pbx, zammad, bridge):
        zammad.fail(Fault.SLOW, seconds=3600, match=lambda request: request.event == event)
        await bridge.start()
        await bridge.logged("ami.snapshot")
        call = await pbx.ring("4917699999999", PHONE)
        await call.answer()
        await call.hang_up()
        await zammad.wait_for(lambda z: bool(z.log) and event in z.log[0].changes, PATIENCE)
        await bridge.now.kill()
        zammad.heal()
        await bridge.start()
        await zammad.wait_for(lambda z: len(arrived(z, event)) == 2, PATIENCE)
        await zammad.wait_for(over, PATIENCE)
        delivered = await bridge.logged("zammad.delivered", matches=lambda line: line["kind"] == event)
        assert delivered["duplicate"] is (event == "newCall")
        await bridge.now.stop()
        (row,) = zammad.log
        assert list(dict.fromkeys(row.changes)) == ["newCall", "answer", "hangup"]
        assert len(row.changes) == (3 if event == "newCall" else 4)
        first, second = arrived(zammad, event)
        assert first.fields == second.fields


async def test_what_was_over_before_the_kill_is_told_by_the_next(folder: Path) -> None:
    async with rig(folder) as (pbx, zammad, bridge):
        await zammad.down()
        await bridge.start()
        await bridge.logged("ami.snapshot")
        calls = [await pbx.ring(f"49176999999{n:02d}", PHONE) for n in range(20)]
        for call in calls:
            await call.answer()
            await call.hang_up()
        await bridge.logged("call.ended", matches=lambda line: line["call_id"] == calls[-1].call_id)
        await bridge.logged("zammad.unreachable")
        await until(lambda: on_disk(folder / "outbox.db") == 3 * len(calls))
        await bridge.now.kill()
        await bridge.start()
        await zammad.up()
        await zammad.wait_for(lambda z: len(z.log) == len(calls) and over(z), PATIENCE)
        assert {row.call_id for row in zammad.log} == {call.call_id for call in calls}
        assert {tuple(row.changes) for row in zammad.log} == {("newCall", "answer", "hangup")}


async def test_a_second_bridge_on_the_same_outbox_ends_at_once(folder: Path) -> None:
    async with rig(folder) as (pbx, zammad, bridge):
        await bridge.start()
        await bridge.logged("ami.snapshot")
        first = bridge.now
        await bridge.spawn()
        assert await bridge.now.ended() == 2
        failed = await bridge.now.logged("bridge.failed")
        assert failed["level"] == "critical"
        assert str(folder / "outbox.db") in failed["problem"]
        assert f"process {first.pid}" in failed["problem"]
        assert "outbox.path" in failed["problem"]
        # The first has not noticed anything.
        call = await pbx.ring("4917699999999", PHONE)
        await call.hang_up()
        await zammad.wait_for(over, PATIENCE)
        await first.stop()
        assert pbx.line.connections == 1


def on_disk(outbox: Path) -> int:
    """Return how many events wait in the file."""
    with contextlib.closing(sqlite3.connect(f"file:{outbox}?mode=ro", uri=True)) as database:
        (count,) = database.execute("SELECT count(*) FROM event").fetchone()
    return int(count)


def arrived(zammad: ZammadSandbox, event: str) -> list[Received]:
    return [request for request in zammad.requests if request.event == event]


def over(zammad: ZammadSandbox) -> bool:
    rows: list[LogEntry] = zammad.log
    return bool(rows) and all(row.state == "hangup" for row in rows)
