"""Every fault of Zammad with every fault of Asterisk and every fault of the bridge, calls in every stage: none is lost.

Each cell has a bridge process, a Zammad and a PBX of its own. Cells mostly wait, so many are played at the same time;
each is a test of its own, which waits for its result.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from ami2zammad.outbox.outbox import LOOK_FOR_OLD_EVERY
from ami2zammad.sandbox.zammad import ZammadSandbox
from tests.faults.bridges import PATIENCE, Bridge, write_settings
from tests.faults.cells import CELLS, BridgeFault, Cell, ZammadFault
from tests.faults.clock import DAY, ClockUnavailable, WallClock, library
from tests.faults.ledger import Tally, tally
from tests.faults.pbxes import SimulatedPbx, rang
from tests.faults.report import Report
from tests.faults.scene import Outcome, at_day, play
from tests.ports import lasting_port

AT_ONCE = 28
"""Cells that are played at the same time."""

CALLS = 13
"""Calls that each cell places."""


@dataclass
class Trials:
    """What is played in the background."""

    cells: Mapping[Cell, asyncio.Task[Outcome]]
    waiting_while_the_clock_jumps: asyncio.Task[Tally]


async def _play(
    cell: Cell, asterisk: str | None, shared_folder: Path, gate: asyncio.Semaphore, starting: asyncio.Semaphore
) -> Outcome:
    version = asterisk if cell.asterisk.takes_a_real_one else None
    async with gate:
        with tempfile.TemporaryDirectory(prefix="cell-", dir=shared_folder) as folder:
            return await play(cell, version, Path(folder), starting)


async def _wait_while_the_clock_jumps(folder: Path, starting: asyncio.Semaphore) -> Tally:
    """Let events wait while the clock is two days ahead, then two behind, until the bridge has looked for old ones."""
    clock = WallClock(folder)
    async with SimulatedPbx.start() as pbx, ZammadSandbox(port=lasting_port()) as zammad:
        write_settings(folder / "ami2zammad.toml", pbx, zammad)
        async with Bridge.of(folder / "ami2zammad.toml", starting=starting, environment=clock.environment) as bridge:
            await bridge.start()
            await bridge.logged("ami.snapshot")
            await zammad.down()
            over = await pbx.ring("4917699999901", "100")
            await over.answer()
            await over.hang_up()
            live = await pbx.ring("4917699999902", "101")
            await live.answer()
            await bridge.logged("call.answered", matches=lambda line: line["call_id"] == live.call_id)
            for days in (2, -2):
                clock.jump(days * DAY)
                await at_day(bridge, days)
                # Nothing tells of a look that finds nothing.
                await asyncio.sleep(LOOK_FOR_OLD_EVERY + 5)
            await live.hang_up()
            await zammad.up()
            await zammad.wait_for(lambda z: [row.state for row in z.log] == ["hangup", "hangup"], PATIENCE)
            await bridge.now.stop()
            clock.clean_up_after(bridge.now.pid)
            placed = [rang(over, "over", "4917699999901", "100"), rang(live, "live", "4917699999902", "101")]
            return tally(placed, zammad.log, zammad.requests)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def trials(
    request: pytest.FixtureRequest,
    shared_folder: Path,
    report: Report,
    asterisk: str | None,
    starting: asyncio.Semaphore,
) -> AsyncIterator[Trials]:
    """Play all cells that were asked for; give what becomes of them."""
    asked_for = {item.name for item in request.session.items if item.path == request.path}
    wanted = [cell for cell in CELLS if f"{test_no_call_is_lost_doubled_or_left_open.__name__}[{cell}]" in asked_for]
    # Those that take longest first: after a wrong token the bridge tries once a minute.
    wanted.sort(key=lambda cell: cell.zammad is not ZammadFault.WRONG_TOKEN)
    gate = asyncio.Semaphore(AT_ONCE)
    clock = asyncio.create_task(_wait_while_the_clock_jumps(shared_folder, starting))
    tasks = {cell: asyncio.create_task(_play(cell, asterisk, shared_folder, gate, starting)) for cell in wanted}
    yield Trials(tasks, clock)
    for task in (*tasks.values(), clock):
        task.cancel()
    await asyncio.gather(*tasks.values(), clock, return_exceptions=True)
    for cell in CELLS:
        if cell in tasks and not tasks[cell].cancelled():
            outcome = tasks[cell].result()
            report.add_cell(cell, outcome.pbx, outcome.tally, outcome.seconds, outcome.error)


@pytest.fixture
def other_clock() -> None:
    """A clock that can jump; in CI there must be one."""
    try:
        library()
    except ClockUnavailable as reason:
        if os.environ.get("CI", "").lower() == "true":
            raise
        pytest.skip(str(reason))


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("cell", CELLS, ids=str)
async def test_no_call_is_lost_doubled_or_left_open(request: pytest.FixtureRequest, cell: Cell, trials: Trials) -> None:
    if cell.bridge is BridgeFault.CLOCK_JUMPS:
        request.getfixturevalue("other_clock")
    outcome = await trials.cells[cell]
    print(outcome.log)  # which pytest shows with a failure
    if outcome.error:
        pytest.fail(outcome.error, pytrace=False)
    assert outcome.tally.wrong == []
    assert outcome.tally.placed == CALLS


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.usefixtures("other_clock")
async def test_what_waits_is_not_set_aside_because_the_clock_jumps(trials: Trials, report: Report) -> None:
    result = await trials.waiting_while_the_clock_jumps
    report.add_trial("the clock jumps two days ahead and two back while events wait", result)
    assert result.wrong == []
