"""A memory of what happened lately, bounded in time and in number."""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, TypeVar

ValueT = TypeVar("ValueT")

_NEVER = float("inf")


class Recent(Generic[ValueT]):
    """Remembers each key for `seconds`, and the latest `most` keys at all. Times are of any clock that never goes back.

    Keys are forgotten in the order in which they came: `forget` costs next to nothing where it is not yet time.
    """

    __slots__ = ("_goes_at", "_items", "_most", "_seconds")

    def __init__(self, seconds: float, most: int) -> None:
        self._seconds = seconds
        self._most = most
        self._items: OrderedDict[str, tuple[float, ValueT]] = OrderedDict()
        # When the oldest is to be forgotten.
        self._goes_at = _NEVER

    def __len__(self) -> int:
        return len(self._items)

    def __contains__(self, key: object) -> bool:
        return key in self._items

    def get(self, key: str, default: ValueT) -> ValueT:
        """Return what is remembered of `key`, else `default`."""
        found = self._items.get(key)
        return default if found is None else found[1]

    def add(self, key: str, value: ValueT, at: float) -> None:
        """Remember `value` under `key` from `at` on."""
        if key not in self._items and len(self._items) >= self._most:
            self._items.popitem(last=False)
        self._items[key] = (at, value)
        self._set_alarm()

    def forget(self, now: float) -> None:
        """Forget what is older than `seconds`."""
        if now < self._goes_at:
            return
        while self._items and next(iter(self._items.values()))[0] + self._seconds <= now:
            self._items.popitem(last=False)
        self._set_alarm()

    def since(self, at: float) -> list[str]:
        """Forget what was before `at`; return the other keys, the oldest first."""
        self._items = OrderedDict((key, item) for key, item in self._items.items() if item[0] >= at)
        self._set_alarm()
        return list(self._items)

    def compact(self, now: float) -> None:
        """Forget what is older than `seconds`, and let go of the room that more keys took."""
        self.forget(now)
        self._items = OrderedDict(self._items)

    def _set_alarm(self) -> None:
        self._goes_at = next(iter(self._items.values()))[0] + self._seconds if self._items else _NEVER
