"""A clock that stands still until a test moves it."""

from __future__ import annotations

import asyncio
import heapq
import itertools


class FakeTime:
    """Hands out `clock` and `sleep`; whoever sleeps goes on when `advance` passes the moment."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []
        self._sleepers: list[tuple[float, int, float, asyncio.Future[None]]] = []
        self._order = itertools.count()

    def clock(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self.now + seconds, next(self._order), seconds, future))
        await future

    def sleeping(self) -> list[float]:
        """Give for how long each sleeps who does so at the moment."""
        return [seconds for _, _, seconds, future in self._sleepers if not future.done()]

    async def advance(self, seconds: float) -> None:
        """Let that much time pass; everyone due is woken in order and may run (as far as it gets without I/O)."""
        end = self.now + seconds
        await settle()
        while self._sleepers and self._sleepers[0][0] <= end:
            when, _, _, future = heapq.heappop(self._sleepers)
            if not future.done():
                self.now = max(self.now, when)
                future.set_result(None)
                await settle()
        self.now = end


async def settle() -> None:
    """Let everything run that can run without I/O."""
    for _ in range(20):
        await asyncio.sleep(0)
