"""Events a second: a recorded stream of a real Asterisk, over a socket, into each of several AMI clients in turn.

The bridge does with it all that it does in earnest, up to the request to Zammad: it parses and tracks, writes its log
and its outbox. The peers parse and call an empty function for each event. Bare panoramisk takes turns with the bridge;
the others, some of them slow, are measured after it, with a part of the stream.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

from bench import peers, processes
from bench.processes import NotMeasured, Program
from bench.report import Report, Row
from bench.stand_ins import TimedPbx
from bench.traffic import full_account, stream_of

STEP = "intake"
EVENTS, EVENTS_QUICK = 200_000, 5_000
EVENTS_OF_OTHERS = 30_000
RUNS, RUNS_QUICK = 5, 1
TARGET = 3.0
_PIECE = 256 * 1024
_BARE = "bare panoramisk"
_DISK, _MEMORY = "to the disk", "in memory"


async def measure(report: Report, *, quick: bool) -> None:
    """Add the rows."""
    stream, events = stream_of(full_account(), EVENTS_QUICK if quick else EVENTS)
    rates: dict[str, list[float]] = {_BARE: [], _DISK: [], _MEMORY: []}
    told: set[int] = set()
    for _ in range(RUNS_QUICK if quick else RUNS):
        with tempfile.TemporaryDirectory(prefix="ami2zammad-bench-") as folder:
            commands = {
                _BARE: processes.client("bare_panoramisk.py", "PORT"),
                _DISK: processes.client("bridge.py", "PORT", Path(folder) / "outbox.db"),
                _MEMORY: processes.client("bridge.py", "PORT", ""),
            }
            for name, command in commands.items():
                first = "Login" if name == _BARE else "Status"
                env = None if name == _BARE else processes.unit_environment()
                seconds, result = await pour(command, stream, env, ready_after=first)
                rates[name].append(events / seconds)
                if name != _BARE:
                    told.add(result["told"])
    if len(told) != 1:
        raise AssertionError(f"the same stream gave different numbers of call events: {told}")
    for name, what in {
        _DISK: f"events into call events, log and outbox ({events:,} events)",
        _MEMORY: "the same without a file for the outbox",
    }.items():
        row = Row(STEP, what, "events/s", rates[name], _BARE, rates[_BARE])
        # The peers write nothing to the disk.
        if name == _MEMORY:
            row.target, row.met = f"≥ {TARGET:g} × panoramisk", row.ratio is not None and row.ratio >= TARGET
        report.rows.append(row)
    await _others(report, rates[_DISK], quick=quick)


async def _others(report: Report, ours: list[float], *, quick: bool) -> None:
    """Add rows for AMI clients that are not ours; they are slow, and a part of the stream tells enough of them."""
    stream, events = stream_of(full_account(), EVENTS_OF_OTHERS)
    async with peers.installed(report, quick=quick) as others:
        for peer in others:
            try:
                rates = [events / (await pour(list(peer.command), stream, peer.env))[0] for _ in range(2)]
            except NotMeasured as problem:
                report.missing.append(f"{peer.name} {peer.version}: {problem}")
                continue
            report.rows.append(Row(STEP, "the first of these", "events/s", ours, f"{peer.name} {peer.version}", rates))


async def pour(
    command: list[str], stream: bytes, env: dict[str, str] | None = None, *, ready_after: str = "Login"
) -> tuple[float, dict[str, Any]]:
    """Return the seconds that a client takes for `stream`, from its first byte to its word that it is done, and that.

    `ready_after` is the action that it sends last before it only listens. Raises `NotMeasured` if it does not get so
    far.
    """
    async with TimedPbx() as pbx:
        command = [str(pbx.port) if word == "PORT" else word for word in command]
        async with processes.running(command, env=processes.environment(env)) as program:
            await program.ready()
            await pbx.asked(ready_after)
            return await _poured(pbx, program, stream)


async def _poured(pbx: TimedPbx, program: Program, stream: bytes) -> tuple[float, dict[str, Any]]:
    began = time.perf_counter()
    for start in range(0, len(stream), _PIECE):
        await pbx.send(stream[start : start + _PIECE])
    result = await program.result()
    return time.perf_counter() - began, result
