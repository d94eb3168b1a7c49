"""Waiting with a limit, on an injected sleep: tests run every time-out without waiting."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

Clock = Callable[[], float]
"""Gives seconds on a clock that never goes back, such as `time.monotonic`."""
Sleep = Callable[[float], Awaitable[None]]
"""Waits for that many seconds, such as `asyncio.sleep`."""


async def _slept(seconds: float, sleep: Sleep) -> None:
    await sleep(seconds)


async def done_within(future: asyncio.Future[Any], seconds: float, sleep: Sleep) -> bool:
    """Wait until `future` is done, for at most `seconds`; say whether it is. It is left alone in any case."""
    if future.done():
        return True
    timer = asyncio.ensure_future(_slept(seconds, sleep))
    try:
        await asyncio.wait({future, timer}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        timer.cancel()
    return future.done()
