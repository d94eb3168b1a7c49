"""From an event on the wire to Zammad: how long each newCall, answer and hangup takes, while many calls are up.

The bridge is a process of its own. The peer is one too: it posts a line from a socket with aiohttp and does nothing
else, or commits it to SQLite first, as the least that loses nothing. All are told by the same loop, and post to the
same stand-in for Zammad, in turns.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
import random
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from ami2zammad.sandbox.live_calls import InboundCall, LiveCalls, Phone
from bench import processes
from bench.report import Report, Row, percentile
from bench.stand_ins import TimedPbx, TimedZammad

STEP = "latency"
LIVE, LIVE_QUICK = 500, 20
ROUNDS, ROUNDS_QUICK = 3, 1
RATES = {1: 7.0, 20: 4.0, 100: 4.0}
"""Calls a second, and the seconds that each round of it lasts."""
RATES_QUICK = {20: 0.5}
TARGET_MS = 10.0
TARGET_RATIO = 2.0
_SETTINGS = """
[calls]
settle = 0
[[agents]]
extension = "100"
name = "Emma Taylor"
"""
# Of one call, in seconds: how long it rings, and how long they talk. At random, as on the telephone: what is a multiple
# of the time between two calls would make all that happens happen at the same moments.
_RINGS, _TALKS = (0.1, 0.3), (0.2, 0.6)
_PHONES = tuple(Phone(str(100 + number), f"Agent {number}") for number in range(50))


class Subject(Protocol):
    """Something that tells Zammad of calls when it is told of them."""

    zammad: TimedZammad

    async def step(self, key: int, event: str) -> tuple[str, float]:
        """Let a call begin (`newCall`), be answered or end; return its callId and when that went out."""
        ...


@dataclass(slots=True)
class Bridged:
    """The bridge between a PBX and a Zammad."""

    pbx: TimedPbx
    zammad: TimedZammad
    live: LiveCalls
    calls: dict[int, InboundCall] = field(default_factory=dict)

    async def step(self, key: int, event: str) -> tuple[str, float]:
        """See Subject."""
        if event == "newCall":
            phone = _PHONES[key % len(_PHONES)]
            self.calls[key] = await self.live.inbound(f"49176{key:08}", "4930600100", phone)
            return self.calls[key].call_id, self.pbx.sent_at
        call = self.calls[key] if event == "answer" else self.calls.pop(key)
        await (call.answer() if event == "answer" else call.hang_up())
        return call.call_id, self.pbx.sent_at


@dataclass(slots=True)
class Plain:
    """A program that posts what it reads."""

    writer: asyncio.StreamWriter
    zammad: TimedZammad

    async def step(self, key: int, event: str) -> tuple[str, float]:
        """See Subject."""
        call_id = f"plain-{id(self)}-{key}"
        at = time.perf_counter()
        self.writer.write(f"{event} {call_id}\n".encode())
        return call_id, at


async def measure(report: Report, *, quick: bool) -> None:
    """Add the rows."""
    rounds, rates = (ROUNDS_QUICK, RATES_QUICK) if quick else (ROUNDS, RATES)
    keys = itertools.count()
    taken: dict[tuple[str, int], list[list[float]]] = {}
    async with contextlib.AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ami2zammad-bench-")))
        zammad = await stack.enter_async_context(TimedZammad())
        subjects: dict[str, Subject] = {
            "plain": await stack.enter_async_context(plain(zammad)),
            "committed": await stack.enter_async_context(plain(zammad, folder / "plain.db")),
            "disk": await stack.enter_async_context(bridged(zammad, folder / "outbox.db", quick=quick)),
            "memory": await stack.enter_async_context(bridged(zammad, None, quick=quick)),
        }
        for _ in range(rounds):
            for rate, seconds in rates.items():
                for name, subject in subjects.items():
                    count = max(int(rate * seconds), 1)
                    taken.setdefault((name, rate), []).append(await latencies(subject, rate, count, keys))
    for rate in rates:
        for name, what in {"disk": "", "memory": ", outbox in memory"}.items():
            _add_rows(report, f"{rate} calls/s{what}", taken[name, rate], taken["plain", rate])
        _add_rows(report, f"{rate} calls/s", taken["disk", rate], taken["committed", rate], committed=True)


def _add_rows(
    report: Report, what: str, ours: list[list[float]], plain: list[list[float]], *, committed: bool = False
) -> None:
    for percent in (50.0, 99.0):
        row = Row(
            STEP,
            f"{what}: {percent:g} %",
            "ms",
            [percentile(one, percent) * 1000 for one in ours],
            "a commit to SQLite, then a POST" if committed else "aiohttp POST from a loop",
            [percentile(one, percent) * 1000 for one in plain],
            "" if committed else f"≤ {TARGET_RATIO:g} × a POST" + (f", ≤ {TARGET_MS:g} ms" if percent > 50 else ""),  # noqa: PLR2004
        )
        if not committed:
            row.met = row.ratio is not None and row.ratio <= TARGET_RATIO and (percent <= 50 or row.value <= TARGET_MS)  # noqa: PLR2004
        report.rows.append(row)


async def latencies(subject: Subject, rate: float, count: int, keys: itertools.count[int]) -> list[float]:
    """Let `count` calls begin, `rate` a second, go on and end; return the seconds until Zammad knew of each step."""
    sent: dict[tuple[str, str], float] = {}
    rng = random.Random(count)  # noqa: S311 -- no secret
    began = asyncio.get_running_loop().time()
    steps = [(began + number / rate, next(keys), "newCall") for number in range(count)]
    while steps:
        due, key, event = heapq.heappop(steps)
        await _until(due)
        call_id, at = await subject.step(key, event)
        sent[event, call_id] = at
        if event == "newCall":
            answered = due + rng.uniform(*_RINGS)
            heapq.heappush(steps, (answered, key, "answer"))
            heapq.heappush(steps, (answered + rng.uniform(*_TALKS), key, "hangup"))
    await subject.zammad.has(*sent)
    return [subject.zammad.arrived[key] - at for key, at in sent.items()]


async def _until(due: float) -> None:
    await asyncio.sleep(max(due - asyncio.get_running_loop().time(), 0))


def _bridge(
    pbx: TimedPbx, zammad: TimedZammad, outbox: Path | None
) -> contextlib.AbstractAsyncContextManager[processes.Program]:
    return processes.bridge(pbx.port, zammad.url, outbox=outbox, in_memory=outbox is None, settings=_SETTINGS)


@contextlib.asynccontextmanager
async def bridged(zammad: TimedZammad, outbox: Path | None, *, quick: bool) -> AsyncIterator[Bridged]:
    """Run a bridge, with many calls up that nothing happens to."""
    count = LIVE_QUICK if quick else LIVE
    async with TimedPbx() as pbx, _bridge(pbx, zammad, outbox):
        await pbx.asked("Status")
        live = LiveCalls(pbx)
        for number in range(count):
            call = await live.inbound(f"49177{number:08}", "4930600100", _PHONES[number % len(_PHONES)])
            await call.answer()
        await zammad.has(*(("answer", call_id) for call_id in live.live))
        yield Bridged(pbx, zammad, live)


@contextlib.asynccontextmanager
async def plain(zammad: TimedZammad, database: Path | None = None) -> AsyncIterator[Plain]:
    """Run the peer; with `database` it writes that first."""
    connected: asyncio.Future[asyncio.StreamWriter] = asyncio.get_running_loop().create_future()

    def accept(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connected.set_result(writer)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with processes.running(
        processes.client("plain_post.py", port, zammad.url, *([database] if database else []))
    ) as program:
        await program.ready()
        writer = await connected
        yield Plain(writer, zammad)
        writer.close()
    server.close()
    await server.wait_closed()
