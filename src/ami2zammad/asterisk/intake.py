"""The queue between the session, which must not wait, and the consumer, which may be slow."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from ami2zammad.asterisk.waiting import Clock
    from ami2zammad.calls.signalling import Signal

LIMIT: Final = 50_000
"""Signals that wait at most; some 25 MB. One restart of a large PBX gives a few thousand."""


class Flow(Protocol):
    """What can be told to read no more, and to read on: an AmiSession."""

    def pause_reading(self) -> None:
        """Take nothing from the socket."""

    def resume_reading(self) -> None:
        """Read on."""


class EventIntake:
    """Batches of signals, in order, and never lost.

    From `limit` signals on the attached session reads no more (TCP makes Asterisk keep the events), until no more than
    half of that is left. What was in the session's hands already is still taken: the limit can be exceeded by
    the events of one segment (256 KiB). One task may consume.

    `waiting` signals are in the queue, `full_count` times it was full, `total` signals went in.
    """

    def __init__(self, log: FilteringBoundLogger, *, limit: int = LIMIT, clock: Clock = time.monotonic) -> None:
        self._log = log
        self._limit = limit
        self._clock = clock
        self._batches: asyncio.Queue[list[Signal]] = asyncio.Queue()
        self._flow: Flow | None = None
        self._full_since: float | None = None
        self.waiting = 0
        self.full_count = 0
        self.total = 0

    def put(self, signals: list[Signal]) -> None:
        """Add signals (the session's sink)."""
        if not signals:
            return
        self._batches.put_nowait(signals)
        self.waiting += len(signals)
        self.total += len(signals)
        if self.waiting >= self._limit and self._full_since is None:
            self._full_since = self._clock()
            self.full_count += 1
            self._log.warning("ami.intake_full", waiting=self.waiting, limit=self._limit)
            if self._flow is not None:
                self._flow.pause_reading()

    def attach(self, flow: Flow) -> None:
        """Let this session be paused from now on; at once if the queue is full of an earlier one's events."""
        self._flow = flow
        if self._full_since is not None:
            flow.pause_reading()

    def detach(self) -> None:
        """Forget the session; what it brought stays."""
        self._flow = None

    async def get_batch(self) -> list[Signal]:
        """Wait for the next signals; give them in the order in which they came. Never empty."""
        batch = await self._batches.get()
        self.waiting -= len(batch)
        if self._full_since is not None and self.waiting <= self._limit // 2:
            seconds = round(self._clock() - self._full_since, 3)
            self._full_since = None
            self._log.info("ami.intake_drained", waiting=self.waiting, limit=self._limit, seconds=seconds)
            if self._flow is not None:
                self._flow.resume_reading()
        return batch

    def __aiter__(self) -> EventIntake:
        return self

    async def __anext__(self) -> list[Signal]:
        return await self.get_batch()
