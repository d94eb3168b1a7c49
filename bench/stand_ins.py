"""The stand-ins for both sides, with clocks: when something was sent, when it arrived (`time.perf_counter`)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from aiohttp import web

from ami2zammad.sandbox.pbx import PbxSandbox
from ami2zammad.sandbox.zammad import Received, ZammadSandbox
from bench.processes import PATIENCE, NotMeasured


class TimedPbx(PbxSandbox):
    """Notes when it sent something last."""

    sent_at = 0.0

    async def send(self, raw: bytes) -> None:
        """See PbxSandbox."""
        self.sent_at = time.perf_counter()
        await super().send(raw)

    def count(self, action: str) -> int:
        """Return how often an action was asked for; clients differ in how they spell it."""
        return sum(one.get("Action", "").lower() == action.lower() for one in self.actions)

    async def asked(self, action: str, times: int = 1) -> None:
        """Wait until an action was asked for so many times. Raises `NotMeasured` if that takes for ever."""
        try:
            async with asyncio.timeout(PATIENCE):
                await self.wait_for(lambda: self.count(action) >= times)
        except TimeoutError:
            raise NotMeasured(f"nobody asked for {action} within {PATIENCE:.0f} s") from None


class TimedZammad(ZammadSandbox):
    """Notes when each event arrived, and keeps the reply back for `delay` seconds."""

    def __init__(self, *, delay: float = 0.0) -> None:
        super().__init__(clock=time.perf_counter)
        self.delay = delay
        self.arrived: dict[tuple[str, str], float] = {}
        """By event and callId."""
        self._missing: set[tuple[str, str]] = set()

    async def has(self, *events: tuple[str, str]) -> None:
        """Wait until these events have arrived."""
        self._missing = {event for event in events if event not in self.arrived}
        await self.until(lambda: not self._missing)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until something is so; it is asked after each request."""
        await self.wait_for(lambda _: condition(), PATIENCE)

    def _answer(self, received: Received, token: str) -> web.Response:
        key = received.event, received.call_id
        self.arrived[key] = received.at
        self._missing.discard(key)
        return super()._answer(received, token)

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        response = await super()._handle(request)
        if self.delay:
            await asyncio.sleep(self.delay)
        return response
