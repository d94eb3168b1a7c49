"""Start: from the command to the login at Asterisk, and to the end of `--help`.

The peer is what any program pays that uses the same libraries.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from ami2zammad.sandbox.pbx import PbxSandbox
from ami2zammad.sandbox.zammad import ZammadSandbox
from bench import processes
from bench.processes import NotMeasured
from bench.report import Report, Row

STEP = "start"
RUNS, RUNS_QUICK = 11, 1
TARGET_LOGIN = 0.5
TARGET_HELP = 0.2
_LIBRARIES = "import aiohttp, pydantic_settings"


async def measure(report: Report, *, quick: bool) -> None:
    """Add the rows."""
    login: list[float] = []
    helped: list[float] = []
    peers: list[float] = []
    # Once for the compiled modules.
    for _ in range((RUNS_QUICK if quick else RUNS) + 1):
        peers.append(await _ended(sys.executable, "-c", _LIBRARIES))
        login.append(await _logged_in())
        helped.append(await _ended(sys.executable, "-m", "ami2zammad", "--help"))
    for what, ours, target in (
        ("to the login at Asterisk", login, TARGET_LOGIN),
        ("ami2zammad --help", helped, TARGET_HELP),
    ):
        row = Row(STEP, what, "s", ours[1:], f"python -c '{_LIBRARIES}'", peers[1:], f"≤ {target:g} s")
        row.met = row.value <= target
        report.rows.append(row)


async def _ended(*command: str) -> float:
    """Return the seconds that a command takes."""
    began = time.perf_counter()
    async with processes.running(command) as program:
        if await program.wait():
            raise NotMeasured(f"{' '.join(command)} failed")
        return time.perf_counter() - began


async def _logged_in() -> float:
    """Return the seconds from the start of a bridge to its login."""
    with tempfile.TemporaryDirectory(prefix="ami2zammad-bench-") as folder:
        async with PbxSandbox() as pbx, ZammadSandbox() as zammad:
            began = time.perf_counter()
            async with processes.bridge(pbx.port, zammad.url, outbox=Path(folder) / "outbox.db"):
                await pbx.wait_for(lambda: pbx.clients == 1)
                return time.perf_counter() - began
