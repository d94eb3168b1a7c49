"""When memory is given back, and that the system gets it."""

from __future__ import annotations

import os
import subprocess
import sys

from ami2zammad.memory import AT_LEAST, QUIET_FOR, Peak

MANY = 10 * AT_LEAST


def test_a_peak_is_over_when_most_have_been_gone_for_a_while() -> None:
    peak = Peak()
    assert not peak.is_over(MANY, 0.0)
    assert not peak.is_over(10, 1.0)
    assert not peak.is_over(10, 1.0 + QUIET_FOR - 0.1)
    assert peak.is_over(10, 1.0 + QUIET_FOR)


def test_a_peak_is_over_once() -> None:
    peak = Peak()
    peak.is_over(MANY, 0.0)
    peak.is_over(0, 1.0)
    assert peak.is_over(0, 100.0)
    assert not any(peak.is_over(0, at) for at in (101.0, 200.0, 1000.0))


def test_a_pause_within_a_peak_ends_it_not() -> None:
    peak = Peak()
    peak.is_over(MANY, 0.0)
    peak.is_over(0, 1.0)
    assert not peak.is_over(MANY, 30.0)
    assert not peak.is_over(0, 60.0)
    assert not peak.is_over(0, 60.0 + QUIET_FOR - 0.1)
    assert peak.is_over(0, 60.0 + QUIET_FOR)


def test_a_peak_that_is_still_falling_is_not_over() -> None:
    peak = Peak()
    peak.is_over(MANY, 0.0)
    peak.is_over(MANY // 2, 1.0)
    assert not peak.is_over(0, 30.0)
    assert not peak.is_over(0, 30.0 + QUIET_FOR - 0.1)
    assert peak.is_over(0, 30.0 + QUIET_FOR)


def test_the_last_few_calls_do_not_put_it_off() -> None:
    peak = Peak()
    peak.is_over(MANY, 0.0)
    peak.is_over(AT_LEAST // 2, 1.0)
    peak.is_over(1, 30.0)
    assert peak.is_over(0, 1.0 + QUIET_FOR)


def test_what_is_left_of_a_peak_may_be_one() -> None:
    peak = Peak()
    peak.is_over(MANY, 0.0)
    peak.is_over(MANY // 2, 1.0)
    assert peak.is_over(MANY // 2, 1.0 + QUIET_FOR)
    peak.is_over(0, 100.0)
    assert peak.is_over(0, 100.0 + QUIET_FOR)


def test_few_calls_are_no_peak() -> None:
    peak = Peak()
    assert not peak.is_over(AT_LEAST - 1, 0.0)
    assert not any(peak.is_over(0, at) for at in (1.0, 100.0, 1000.0))


PROGRAM = """
import gc
from ami2zammad.memory import give_back

def occupied():
    with open("/proc/self/smaps_rollup") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("Rss:"))

before = occupied()
# Every thousandth of them stays, spread over all of the memory.
objects = [[number] for number in range(400_000)]
kept = objects[::1000]
most = occupied()
del objects
give_back()
print(before, most, occupied())
"""


def test_pages_are_given_back_though_objects_between_them_last() -> None:
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={**os.environ, "PYTHONMALLOC": "malloc"},
        capture_output=True,
        text=True,
        check=True,
    )
    before, most, after = map(int, result.stdout.split())
    assert after - before < (most - before) * 0.2
