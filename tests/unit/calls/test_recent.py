"""The memory of what happened lately: by time, by number, and what a snapshot makes of it."""

from __future__ import annotations

import sys

from ami2zammad.calls.recent import Recent


def test_a_key_is_forgotten_when_its_time_is_over() -> None:
    recent: Recent[int] = Recent(30.0, 10)
    recent.add("a", 1, at=100.0)
    recent.add("b", 2, at=110.0)
    recent.forget(129.9)
    assert (recent.get("a", 0), recent.get("b", 0), len(recent)) == (1, 2, 2)
    recent.forget(130.0)
    assert "a" not in recent
    assert "b" in recent
    recent.forget(140.0)
    assert (recent.get("b", 0), len(recent)) == (0, 0)


def test_the_oldest_go_when_there_are_too_many() -> None:
    recent: Recent[None] = Recent(30.0, 2)
    for number, key in enumerate("abc"):
        recent.add(key, None, at=float(number))
    assert [key for key in "abc" if key in recent] == ["b", "c"]


def test_the_same_key_again_takes_no_further_place() -> None:
    recent: Recent[int] = Recent(30.0, 2)
    recent.add("a", 1, at=0.0)
    recent.add("b", 2, at=0.0)
    recent.add("b", 3, at=1.0)
    assert (recent.get("a", 0), recent.get("b", 0)) == (1, 3)


def test_what_was_before_a_moment_can_be_forgotten_at_once() -> None:
    recent: Recent[None] = Recent(30.0, 10)
    recent.add("a", None, at=1.0)
    recent.add("b", None, at=2.0)
    recent.add("c", None, at=3.0)
    assert recent.since(2.0) == ["b", "c"]
    assert "a" not in recent
    recent.forget(32.0)
    assert [key for key in "abc" if key in recent] == ["c"]


def test_room_for_many_is_let_go_of_without_forgetting_the_rest() -> None:
    recent: Recent[int] = Recent(30.0, 10_000)
    for number in range(5_000):
        recent.add(str(number), number, at=float(number))
    took = sys.getsizeof(recent._items)
    recent.compact(5_028.0)
    assert sys.getsizeof(recent._items) < took / 100
    assert (len(recent), recent.get("4999", 0)) == (1, 4999)
    recent.forget(5_029.0)
    assert len(recent) == 0
