"""A disk that is really full: a small tmpfs. In the matrix the bridge is only forbidden to let files grow."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from ami2zammad.sandbox.zammad import ZammadSandbox
from tests.faults.bridges import PATIENCE, Bridge, write_settings
from tests.faults.ledger import Placed, tally
from tests.faults.pbxes import SimulatedPbx, rang
from tests.faults.report import Report
from tests.ports import lasting_port

SIZE = "1m"
CALLERS = tuple(f"49176999999{n:02d}" for n in range(100))


class Disk:
    """A small file system."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._filler = folder / "filler"

    def fill(self) -> None:
        """Leave not one byte free."""
        with contextlib.suppress(OSError), self._filler.open("ab", buffering=0) as file:
            for size in (4096, 1):
                with contextlib.suppress(OSError):
                    while True:
                        file.write(bytes(size))
        free = os.statvfs(self.folder).f_bavail
        assert free == 0, f"{free} blocks are still free"

    def free(self) -> None:
        """Make room."""
        self._filler.unlink()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    folder = tmp_path / "disk"
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={SIZE},mode=0700", "tmpfs", str(folder)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        if os.environ.get("CI", "").lower() == "true":
            pytest.fail(f"no small disk, which CI must not do without: {done.stderr}", pytrace=False)
        pytest.skip(f"a small disk cannot be had here: {done.stderr.strip()}")
    try:
        yield Disk(folder)
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextlib.asynccontextmanager
async def rig(folder: Path) -> AsyncIterator[tuple[SimulatedPbx, ZammadSandbox, Bridge]]:
    async with SimulatedPbx.start() as pbx, ZammadSandbox(port=lasting_port()) as zammad:
        write_settings(folder / "ami2zammad.toml", pbx, zammad, settle=0.05)
        async with Bridge.of(folder / "ami2zammad.toml") as bridge:
            yield pbx, zammad, bridge


async def over(zammad: ZammadSandbox, count: int) -> None:
    await zammad.wait_for(lambda z: len(z.log) == count and all(row.state == "hangup" for row in z.log), PATIENCE)


async def test_calls_go_on_while_the_disk_is_full_and_are_safe_again_when_it_is_not(disk: Disk, report: Report) -> None:
    placed: list[Placed] = []
    async with rig(disk.folder) as (pbx, zammad, bridge):
        await bridge.start()
        await bridge.logged("ami.snapshot")

        async def call() -> None:
            caller = CALLERS[len(placed)]
            talk = await pbx.ring(caller, "100")
            placed.append(rang(talk, f"call {len(placed)}", caller, "100"))
            await talk.answer()
            await talk.hang_up()

        await call()
        await over(zammad, 1)
        disk.fill()
        # SQLite may have some room left in its own file.
        while not any(line["event"] == "outbox.not_durable" for line in bridge.lines()):
            await call()
            await over(zammad, len(placed))
        trouble = await bridge.logged("outbox.not_durable")
        assert trouble["problem"] == "the disk is full"
        assert str(disk.folder) in trouble["remedy"]

        # What now waits is in memory only, until there is room.
        await zammad.down()
        for _ in range(5):
            await call()
        await bridge.logged("zammad.unreachable")
        disk.free()
        await bridge.logged("outbox.durable")
        await bridge.now.kill()
        await bridge.start()
        await zammad.up()
        await over(zammad, len(placed))
        await bridge.now.stop()
        assert not [line for line in bridge.lines() if line["event"] in {"outbox.damaged", "outbox.unreadable"}]
        result = tally(placed, zammad.log, zammad.requests)
        report.add_trial("a disk that is really full (tmpfs)", result)
        assert result.wrong == []


async def test_a_bridge_that_starts_on_a_full_disk_goes_on_and_finds_its_calls_later(disk: Disk) -> None:
    async with rig(disk.folder) as (pbx, zammad, bridge):
        await bridge.start()
        await bridge.logged("ami.snapshot")
        goes_on = await pbx.ring(CALLERS[0], "100")
        await goes_on.answer()
        ends = await pbx.ring(CALLERS[1], "101")
        await ends.answer()
        await zammad.wait_for(lambda z: [row.state for row in z.log] == ["answer", "answer"], PATIENCE)
        await bridge.now.kill()
        disk.fill()
        await ends.hang_up()
        await bridge.start()
        await bridge.logged("outbox.not_durable")
        await bridge.logged("ami.snapshot")
        new = await pbx.ring(CALLERS[2], "102")
        await new.answer()
        await new.hang_up()
        await goes_on.hang_up()
        await bridge.logged("call.ended", matches=lambda line: line["call_id"] == goes_on.call_id)
        disk.free()
        await bridge.logged("outbox.durable")
        await over(zammad, 3)
        await bridge.now.stop()
        placed = [
            rang(goes_on, "goes on", CALLERS[0], "100"),
            rang(ends, "ends unseen", CALLERS[1], "101"),
            rang(new, "new", CALLERS[2], "102"),
        ]
        assert tally(placed, zammad.log, zammad.requests).wrong == []
