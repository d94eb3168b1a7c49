"""Start: from the command to the login at Asterisk, to the first call in Zammad, and to the end of `--help`.

The peer is what any program pays that uses the same libraries.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from ami2zammad.sandbox.live_calls import LiveCalls, Phone
from bench import processes
from bench.processes import NotMeasured
from bench.report import Report, Row
from bench.stand_ins import TimedPbx, TimedZammad

STEP = "start"
RUNS, RUNS_QUICK = 11, 1
TARGET_LOGIN = 0.5
TARGET_HELP = 0.2
_SETTINGS = "[calls]\nsettle = 0\n"
_LIBRARIES = "import aiohttp, pydantic_settings"


async def measure(report: Report, *, quick: bool) -> None:
    """Add the rows."""
    login: list[float] = []
    first: list[float] = []
    helped: list[float] = []
    peers: list[float] = []
    # Once for the compiled modules.
    for _ in range((RUNS_QUICK if quick else RUNS) + 1):
        peers.append(await _ended(sys.executable, "-c", _LIBRARIES))
        login_after, first_after = await _started()
        login.append(login_after)
        first.append(first_after)
        helped.append(await _ended(sys.executable, "-m", "ami2zammad", "--help"))
    for what, ours, target in (
        ("to the login at Asterisk", login, TARGET_LOGIN),
        ("to the first call in Zammad, which begins at the login", first, None),
        ("ami2zammad --help", helped, TARGET_HELP),
    ):
        row = Row(STEP, what, "s", ours[1:], f"python -c '{_LIBRARIES}'", peers[1:])
        if target is not None:
            row.target, row.met = f"≤ {target:g} s", row.value <= target
        report.rows.append(row)


async def _ended(*command: str) -> float:
    """Return the seconds that a command takes."""
    began = time.perf_counter()
    async with processes.running(command) as program:
        if await program.wait():
            raise NotMeasured(f"{' '.join(command)} failed")
        return time.perf_counter() - began


async def _started() -> tuple[float, float]:
    """Return the seconds from the start of a bridge to its login, and until Zammad has a call that begins then."""
    with tempfile.TemporaryDirectory(prefix="ami2zammad-bench-") as folder:
        async with TimedPbx() as pbx, TimedZammad() as zammad:
            began = time.perf_counter()
            async with processes.bridge(pbx.port, zammad.url, outbox=Path(folder) / "outbox.db", settings=_SETTINGS):
                await pbx.wait_for(lambda: pbx.clients == 1)
                login = time.perf_counter() - began
                call = await LiveCalls(pbx).inbound("4917612345678", "4930600100", Phone("100", "Emma Taylor"))
                await zammad.has(("newCall", call.call_id))
                return login, time.perf_counter() - began
