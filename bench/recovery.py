"""After trouble: what waited goes out in order, new calls go first, and all channels are looked at again."""

from __future__ import annotations

import asyncio
import itertools
import tempfile
import time
from pathlib import Path

from ami2zammad.calls.events import Answer, CallEvent, Cause, Direction, Hangup, NewCall
from ami2zammad.outbox import records
from ami2zammad.outbox.store import Row as StoredRow, Store, Transaction
from ami2zammad.sandbox.live_calls import LiveCalls, Phone
from bench import latency, processes
from bench.report import Report, Row, percentile
from bench.stand_ins import TimedPbx, TimedZammad

STEP = "recovery"
WAITING, WAITING_QUICK = 10_000, 60
CHANNELS, CHANNELS_QUICK = 1_000, 20
RUNS, RUNS_QUICK = 5, 1
REPLY = 0.005
"""Seconds that this Zammad takes for each event."""
CONNECTIONS = 4
"""As many calls that are over are caught up with at a time (LATE_AT_ONCE of the outbox)."""
_WAITED = "waited-"
_SETTINGS = "[calls]\nsettle = 0\n"


async def measure(report: Report, *, quick: bool) -> None:
    """Add the rows."""
    await _drain(report, WAITING_QUICK if quick else WAITING)
    await _snapshot(report, CHANNELS_QUICK if quick else CHANNELS, RUNS_QUICK if quick else RUNS)


async def _drain(report: Report, waiting: int) -> None:
    with tempfile.TemporaryDirectory(prefix="ami2zammad-bench-") as folder:
        outbox = Path(folder) / "outbox.db"
        events = fill(outbox, waiting)
        plain = await _plain(outbox)
        async with TimedZammad(delay=REPLY) as zammad, TimedPbx() as pbx:
            async with processes.bridge(pbx.port, zammad.url, outbox=outbox, settings=_SETTINGS):
                await pbx.asked("Status")
                live = latency.Bridged(pbx, zammad, LiveCalls(pbx))
                keys = itertools.count()
                taken = await _meanwhile(live, events // 3, keys)
                await zammad.until(lambda: all(row.end_at for row in zammad.log))
                alone = await latency.latencies(live, 10, max(waiting // 100, 5), keys)
            waited = [row for row in zammad.log if row.call_id.startswith(_WAITED)]
            seconds = max(row.end_at or 0.0 for row in waited) - min(row.initialized_at for row in waited)
            disorder = [row for row in zammad.log if row.changes != ["newCall", "answer", "hangup"]]
    if disorder:
        raise AssertionError(f"{len(disorder)} calls out of order: {disorder[0].call_id} {disorder[0].changes}")
    report.rows.append(
        Row(
            STEP, f"{events:,} waiting events into a Zammad that takes {REPLY * 1000:g} ms each", "events/s",
            [events / seconds], f"aiohttp, {CONNECTIONS} connections", [events / plain],
        )
    )  # fmt: skip
    report.rows += [
        Row(
            STEP, f"live calls meanwhile: {percent:g} %", "ms", [percentile(taken, percent) * 1000],
            "the same when nothing waits", [percentile(alone, percent) * 1000],
        )
        for percent in (50.0, 99.0)
    ]  # fmt: skip


async def _plain(outbox: Path) -> float:
    async with TimedZammad(delay=REPLY) as zammad:
        command = processes.client("plain_drain.py", outbox, zammad.url, CONNECTIONS)
        async with processes.running(command) as program:
            return float((await program.result())["seconds"])


async def _meanwhile(live: latency.Bridged, calls: int, keys: itertools.count[int]) -> list[float]:
    """Let calls come and go until all that waited is over in Zammad; return how long theirs took, in seconds."""
    taken: list[float] = []
    async with asyncio.timeout(processes.PATIENCE):
        while sum(call_id.startswith(_WAITED) for event, call_id in live.zammad.arrived if event == "hangup") < calls:
            taken += await latency.latencies(live, 10, 5, keys)
    return taken


def fill(path: Path, count: int) -> int:
    """Write an outbox in which the events of calls wait that were over an hour ago; return how many there are."""
    store = Store(path)
    store.claim()
    store.open()
    at = time.time() - 3600
    numbers = itertools.count(1)
    for first in range(0, count, 3_000):
        transaction = Transaction()
        for number in range(first // 3, min(first + 3_000, count) // 3):
            for event in call_events(f"{_WAITED}{number}"):
                call_id = event.call_id
                transaction.put(StoredRow(next(numbers), call_id, call_id, event.kind, at, records.to_text(event)))
        store.commit(transaction)
    store.close()
    store.release()
    return next(numbers) - 1


def call_events(call_id: str) -> list[CallEvent]:
    """Return what is told of an answered call."""
    call = NewCall(0.0, call_id, Direction.IN, "4917699999999", "4930600100", ("Emma Taylor",), "", call_id)
    return [call, Answer(0.0, call, "Emma Taylor", "100"), Hangup(0.0, call, Cause.NORMAL_CLEARING, "100")]


async def _snapshot(report: Report, channels: int, runs: int) -> None:
    """Let the connection break while many channels are up."""
    ours: list[float] = []
    peers: list[float] = []
    emma = Phone("100", "Emma Taylor")
    async with TimedZammad() as zammad, TimedPbx() as pbx, processes.bridge(pbx.port, zammad.url, settings=_SETTINGS):
        await pbx.asked("Status")
        live = LiveCalls(pbx)
        for number in range(channels // 2):
            call = await live.inbound(f"49176{number:08}", "4930600100", emma)
            await call.answer()
        await zammad.has(*(("answer", call_id) for call_id in live.live))
        for number in range(runs):
            async with processes.running(processes.client("list_channels.py", pbx.port)) as program:
                peers.append(float((await program.result())["seconds"]))
            logins, lists = pbx.count("Login") + 1, pbx.count("Status") + 1
            pbx.cut()
            # The bridge waits a moment at first, at random: what counts is from its login on.
            await pbx.asked("Login", logins)
            began = time.perf_counter()
            # Behind the list in the stream: when this call is told, the list has been taken in.
            await pbx.asked("Status", lists)
            call = await live.inbound(f"49178{number:08}", "4930600100", emma)
            await zammad.has(("newCall", call.call_id))
            ours.append(time.perf_counter() - began)
            await call.hang_up()
    report.rows.append(
        Row(
            STEP, f"from a new login to the next call in Zammad, {channels:,} channels up", "ms",
            [one * 1000 for one in ours], "panoramisk asks for all channels", [one * 1000 for one in peers],
        )
    )  # fmt: skip
