"""Gives memory back to the system when a peak is over: calls that were up, events that waited for Zammad.

Python's own allocator gives back whole megabytes only, and one small object that lasts keeps each of them. The C
library (PYTHONMALLOC=malloc, as the units and the container set it) gives back single pages, but only when it is asked.
"""

from __future__ import annotations

import gc
from typing import Final

AT_LEAST: Final = 1_000
"""Calls and events together; what fewer took is not worth the pause."""
QUIET_FOR: Final = 45.0
"""Seconds from the end of a peak until memory is given back: the tracker remembers for 30 what has ended."""


class Peak:
    """Watches how many things there are."""

    def __init__(self) -> None:
        self._most = 0
        self._left = 0
        self._over_since: float | None = None

    def is_over(self, count: int, now: float) -> bool:
        """Say, once for each peak, that `count` has been at half of it or less for `QUIET_FOR` seconds.

        While it goes on falling by half, these seconds begin anew: what ended last is remembered longest. To be asked
        now and then; `now` is of a clock that never goes back.
        """
        self._most = max(self._most, count)
        if self._most < AT_LEAST or count > self._most // 2:
            self._over_since = None
            return False
        if self._over_since is None or (self._left >= AT_LEAST and count <= self._left // 2):
            self._over_since, self._left = now, count
        if now - self._over_since < QUIET_FOR:
            return False
        self._most, self._over_since = count, None
        return True


def give_back() -> None:
    """Give back what is free. Blocks for some 40 ms: all objects are looked at once."""
    # Also empties the lists of spare objects that Python keeps for later.
    gc.collect()
    try:
        # Not at the start, which it would delay.
        import ctypes  # noqa: PLC0415

        ctypes.CDLL(None).malloc_trim(ctypes.c_size_t(0))
    except (ImportError, OSError, AttributeError, MemoryError):
        # Not the GNU C library (musl keeps what it has), or a system that lets nobody load libraries.
        return
