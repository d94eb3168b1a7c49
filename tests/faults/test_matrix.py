"""Every fault of Zammad with every fault of Asterisk and every fault of the bridge, calls in every stage: none is lost.

Each cell has a bridge process, a Zammad and a PBX of its own. Cells mostly wait, so many are played at the same time;
each is a test of its own, which waits for its result.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest
import pytest_asyncio

from tests.faults.cells import CELLS, BridgeFault, Cell, ZammadFault
from tests.faults.clock import ClockUnavailable, library
from tests.faults.report import Report
from tests.faults.scene import Outcome, play

AT_ONCE = 28
"""Cells that are played at the same time."""


async def _play(cell: Cell, asterisk: str | None, gate: asyncio.Semaphore, starting: asyncio.Semaphore) -> Outcome:
    version = asterisk if cell.asterisk.takes_a_real_one else None
    async with gate:
        with tempfile.TemporaryDirectory(prefix="ami2zammad-fault-") as folder:
            return await play(cell, version, Path(folder), starting)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def outcomes(
    request: pytest.FixtureRequest, report: Report, asterisk: str | None, starting: asyncio.Semaphore
) -> AsyncIterator[Mapping[Cell, asyncio.Task[Outcome]]]:
    """Play all cells that were asked for; give what becomes of them."""
    asked_for = {item.name for item in request.session.items if item.path == request.path}
    wanted = [cell for cell in CELLS if f"{test_no_call_is_lost_doubled_or_left_open.__name__}[{cell}]" in asked_for]
    # Those that take longest first: after a wrong token the bridge tries once a minute.
    wanted.sort(key=lambda cell: cell.zammad is not ZammadFault.WRONG_TOKEN)
    gate = asyncio.Semaphore(AT_ONCE)
    tasks = {cell: asyncio.create_task(_play(cell, asterisk, gate, starting)) for cell in wanted}
    yield tasks
    for task in tasks.values():
        task.cancel()
    await asyncio.gather(*tasks.values(), return_exceptions=True)
    for cell in CELLS:
        if cell in tasks and not tasks[cell].cancelled():
            outcome = tasks[cell].result()
            report.add_cell(cell, outcome.pbx, outcome.tally, outcome.seconds, outcome.error)


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("cell", CELLS, ids=str)
async def test_no_call_is_lost_doubled_or_left_open(cell: Cell, outcomes: Mapping[Cell, asyncio.Task[Outcome]]) -> None:
    if cell.bridge is BridgeFault.CLOCK_JUMPS:
        try:
            library()
        except ClockUnavailable as reason:
            if os.environ.get("CI", "").lower() == "true":
                raise
            pytest.skip(str(reason))
    outcome = await outcomes[cell]
    print(outcome.log)  # which pytest shows with a failure
    assert outcome.error == ""
    assert outcome.tally.wrong == []
    assert outcome.tally.placed == 11
