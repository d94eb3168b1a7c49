"""A thread for what may block.

Python's executor does the same at several times the cost, and holds up the end of the process while a disk hangs.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable
from typing import TypeVar

ResultT = TypeVar("ResultT")


class Thread:
    """Does one piece of work after the other, in the order in which they were handed over."""

    def __init__(self, name: str) -> None:
        self._work: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        # A daemon: whoever ends the bridge does not wait for a disk that does not answer.
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def do(self, work: Callable[..., ResultT], *arguments: object) -> asyncio.Future[ResultT]:
        """Have `work(*arguments)` done; give what it returns or raises. Who cancels only waits no longer."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[ResultT] = loop.create_future()

        def settle(result: ResultT | None, error: BaseException | None) -> None:
            if future.done():
                return
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(result)  # type: ignore[arg-type]  # None is a result too

        def run() -> None:
            result, error = None, None
            try:
                result = work(*arguments)
            except BaseException as raised:  # noqa: BLE001 - it is the caller's
                error = raised
            # The loop may be closed by now: then nobody waits.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(settle, result, error)

        if self._thread.ident is None:
            self._thread.start()
        self._work.put(run)
        return future

    def end(self) -> None:
        """Let the thread end when it has done what it was given."""
        self._work.put(None)

    def _run(self) -> None:
        while (run := self._work.get()) is not None:
            run()
