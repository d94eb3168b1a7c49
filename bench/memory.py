"""Memory: what the bridge occupies idle, with many calls up and after them, and whether it grows for ever.

The peer keeps, in panoramisk, the last Newchannel of each channel that is up: the least that an AMI program keeps which
wants to know whose channel is whose.
"""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

from ami2zammad.memory import QUIET_FOR
from ami2zammad.sandbox.live_calls import LiveCall, LiveCalls, Phone
from bench import processes
from bench.processes import Program
from bench.report import Report, Row
from bench.stand_ins import TimedPbx, TimedZammad
from bench.traffic import calls, shifted

STEP = "memory"
FEW, FEW_QUICK = 1_000, 50
MANY, MANY_QUICK = 10_000, 100
SOAK, SOAK_QUICK = 200_000, 2_000
"""Calls that come and go, after as many: until then pieces of memory find their places, and more is occupied."""
TARGET_IDLE = 60.0
TARGET_CALL = 4.0
TARGET_AFTER = 10.0
_PEER = "panoramisk, keeping Newchannel"
_PIECE = 64 * 1024
_MB, _KB = 1024.0 * 1024.0, 1024.0
_PHONES = tuple(Phone(str(100 + number), f"Agent {number}") for number in range(50))
_MEMORY = 31.0
"""Seconds that the bridge remembers what has ended (calls/tracker.py), and one."""
_GIVEN_BACK = QUIET_FOR + 20.0
"""Seconds within which it gives back what a peak took: it looks every 15."""
_AHEAD = 50
"""How many calls happen until Zammad is waited for."""
# Of the soak: how many calls are up at a time, and how often memory is looked at; half of the looks are the warm-up.
_AT_A_TIME = 500
_SAMPLES = 20


async def measure(report: Report, *, quick: bool) -> None:
    """Add the rows."""
    await _live(report, FEW_QUICK if quick else FEW, MANY_QUICK if quick else MANY)
    await _soak(report, SOAK_QUICK if quick else SOAK)


async def _live(report: Report, few: int, many: int) -> None:
    async with contextlib.AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ami2zammad-bench-")))
        zammad = await stack.enter_async_context(TimedZammad())
        pbx = await stack.enter_async_context(TimedPbx())
        outbox = folder / "outbox.db"
        bridge = await stack.enter_async_context(processes.bridge(pbx.port, zammad.url, outbox=outbox))
        peer = await stack.enter_async_context(
            processes.running(processes.client("bare_panoramisk.py", pbx.port, "keep"))
        )
        await peer.ready()
        await pbx.asked("Status")
        live = LiveCalls(pbx)
        # Some calls, so that all that is loaded on demand is loaded.
        await _up_and_over(live, zammad, _AHEAD)
        ours, peers = [bridge.rss()], [peer.rss()]
        up: list[LiveCall] = []
        for count in (few, many):
            up += await _begin(live, zammad, count - len(up))
            ours.append(bridge.rss())
            peers.append(peer.rss())
        await _end(up, zammad)
        # The bridge remembers for half a minute what has ended; the next call shows that the time is over.
        await asyncio.sleep(0 if few == FEW_QUICK else _MEMORY)
        await _up_and_over(live, zammad, _AHEAD)
        await asyncio.sleep(0 if few == FEW_QUICK else _GIVEN_BACK)
        ours.append(bridge.rss())
        peers.append(peer.rss())
    labels = (
        ("idle", "MB", TARGET_IDLE),
        (f"each of {few:,} live calls", "KB", TARGET_CALL),
        (f"each of {many:,} live calls", "KB", TARGET_CALL),
        (f"two minutes after {many:,} calls, more than before", "%", TARGET_AFTER),
    )
    for (what, unit, limit), our, peer_s in zip(
        labels, _figures(ours, few, many), _figures(peers, few, many), strict=True
    ):
        row = Row(STEP, what, unit, [our], _PEER, [peer_s], f"≤ {limit:g} {unit}")
        row.met = our <= limit
        report.rows.append(row)


def _figures(rss: list[float], few: int, many: int) -> list[float]:
    """Return what a program occupies idle (MB) and for each call (KB), and how much more afterwards (%)."""
    idle, with_few, with_many, after = rss
    return [idle / _MB, (with_few - idle) / few / _KB, (with_many - idle) / many / _KB, (after / idle - 1) * 100]


async def _begin(live: LiveCalls, zammad: TimedZammad, count: int) -> list[LiveCall]:
    """Let `count` calls begin and be answered."""
    begun: list[LiveCall] = []
    for number in range(count):
        phone = _PHONES[number % len(_PHONES)]
        call = await live.inbound(f"49176{number:08}", "4930600100", phone)
        await call.answer()
        begun.append(call)
        await _keep_up(zammad, begun, "answer")
    return begun


async def _end(up: list[LiveCall], zammad: TimedZammad) -> None:
    for number, call in enumerate(up, 1):
        await call.hang_up()
        await _keep_up(zammad, up[:number], "hangup")


async def _keep_up(zammad: TimedZammad, calls: list[LiveCall], event: str) -> None:
    """Wait now and then until Zammad knows of what happened: events that wait for it are another matter."""
    if len(calls) % _AHEAD:
        return
    await zammad.has(*((event, call.call_id) for call in calls[-_AHEAD:]))


async def _up_and_over(live: LiveCalls, zammad: TimedZammad, count: int) -> None:
    await _end(await _begin(live, zammad, count), zammad)


async def _soak(report: Report, count: int) -> None:
    """Let very many calls come and go; compare what is occupied in two spans of time after a warm-up."""
    one = calls(_AT_A_TIME)
    rounds = max(2 * count // _AT_A_TIME // _SAMPLES, 1)
    rss: list[float] = []
    async with _sunk() as (pbx, bridge):
        for sample in range(_SAMPLES):
            for number in range(rounds):
                await _pour(pbx, shifted(one, (sample * rounds + number) * 10))
            await _idle(bridge)
            rss.append(bridge.rss() / _MB)
    before, after = rss[_SAMPLES // 2 : 3 * _SAMPLES // 4], rss[3 * _SAMPLES // 4 :]
    row = Row(
        STEP, f"late in {rounds * _SAMPLES // 2 * _AT_A_TIME:,} calls, after as many", "MB", after,
        "the same early in them", before, f"≤ {TARGET_AFTER:g} % more",
    )  # fmt: skip
    row.met = row.ratio is not None and row.ratio <= 1 + TARGET_AFTER / 100
    report.rows.append(row)


@contextlib.asynccontextmanager
async def _sunk() -> AsyncIterator[tuple[TimedPbx, Program]]:
    """Run a bridge whose deliveries go nowhere: what Zammad costs would take most of the time."""
    env = processes.environment(processes.unit_environment())
    async with (
        TimedPbx() as pbx,
        processes.running(processes.client("bridge.py", pbx.port, ""), env=env, quiet=True) as bridge,
    ):
        await pbx.asked("Status")
        yield pbx, bridge


async def _pour(pbx: TimedPbx, stream: bytes) -> None:
    """Send much, in pieces: answers to pings shall not wait behind all of it."""
    for start in range(0, len(stream), _PIECE):
        await pbx.send(stream[start : start + _PIECE])


async def _idle(program: Program) -> None:
    """Wait until it has nothing more to do."""
    while True:
        before = program.cpu()
        await asyncio.sleep(0.5)
        if program.cpu() - before < 0.05:  # noqa: PLR2004 -- a tenth of a core: pings, at most
            return
