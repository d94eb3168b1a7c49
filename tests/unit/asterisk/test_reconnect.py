"""How long to wait before the next attempt."""

from __future__ import annotations

from hypothesis import given, strategies as st

from ami2zammad.asterisk.reconnect import FIRST_DELAY, LONGEST_DELAY, Backoff


def test_without_jitter_it_doubles_up_to_the_longest() -> None:
    backoff = Backoff(lambda: 0.0)
    assert [backoff.delay() for _ in range(9)] == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]
    backoff.reset()
    assert backoff.delay() == FIRST_DELAY
    backoff.slowest()
    assert [backoff.delay(), backoff.delay()] == [LONGEST_DELAY, LONGEST_DELAY]


@given(st.lists(st.floats(0, 1, exclude_max=True), min_size=20, max_size=20))
def test_jitter_takes_at_most_half(numbers: list[float]) -> None:
    plain, jittered = Backoff(lambda: 0.0), Backoff(iter(numbers).__next__)
    for _ in numbers:
        longest = plain.delay()
        assert longest / 2 <= jittered.delay() <= longest
