"""When an event itself is the cause of its failures."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given, strategies as st

from ami2zammad.zammad._doubt import BY_CHANCE, FEWEST_FAILURES, SHORTEST, Doubt, Tally


def suspect(tally: Tally, failures: int, *, others: int = 10, waited: float = SHORTEST) -> Doubt:
    """Let an event fail so often, with `others` going through before each failure but the first."""
    doubt = Doubt(tally)
    doubt.waited = waited
    doubt.failed()
    for _ in range(failures - 1):
        tally.accepted += others
        tally.accepted_at_once += others
        doubt.failed()
    return doubt


def test_failures_while_all_others_go_through_for_minutes_are_the_events_own() -> None:
    assert suspect(Tally(), FEWEST_FAILURES + 1).is_certain


def test_fewer_failures_prove_nothing() -> None:
    assert not suspect(Tally(), FEWEST_FAILURES, others=10_000).is_certain


def test_failures_within_less_time_prove_nothing() -> None:
    assert not suspect(Tally(), 1_000, waited=SHORTEST - 1).is_certain


@given(st.integers(1, 1_000))
def test_failures_while_nothing_goes_through_prove_nothing(failures: int) -> None:
    assert not suspect(Tally(), failures, others=0).is_certain


def test_what_happened_before_the_first_failure_does_not_count() -> None:
    broken = Tally(accepted=1, accepted_at_once=1, doubted=100_000)
    assert suspect(broken, FEWEST_FAILURES + 1).is_certain
    well = Tally(accepted=100_000, accepted_at_once=100_000)
    doubt = suspect(well, FEWEST_FAILURES + 1, others=1)
    assert doubt.is_certain
    well.doubted += FEWEST_FAILURES
    assert not doubt.is_certain


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_the_more_others_fail_the_more_it_takes(share: float) -> None:
    rng = random.Random(1)  # noqa: S311 - no secret
    tally = Tally()
    doubt = Doubt(tally)
    doubt.waited = SHORTEST
    while not doubt.is_certain:
        doubt.failed()
        for _ in range(100):
            # All get there in the end, those that failed at first too.
            tally.accepted += 1
            if rng.random() < share:
                tally.doubted += 1
            else:
                tally.accepted_at_once += 1
    expected = max(math.log(BY_CHANCE) / math.log(share), FEWEST_FAILURES)
    assert expected * 0.9 <= doubt.failures <= expected * 1.1 + 2


@pytest.mark.parametrize("bad", [0.05, 0.3, 1.0])
def test_many_bad_events_at_a_time_do_not_speak_each_other_free(bad: float) -> None:
    """A Zammad that fails on one kind of event: each is given up all the same, and their number stays bounded."""
    rng = random.Random(1)  # noqa: S311 - no secret
    tally = Tally()
    alive: list[tuple[float, Doubt]] = []
    ages: list[float] = []
    # A call every 6 s for 2 h; of its three events, the last may be a bad one. Bad ones are tried every 15 s.
    for step in range(1_200):
        now = step * 6.0
        tally.accepted += 2
        tally.accepted_at_once += 2
        if rng.random() < bad:
            alive.append((now, Doubt(tally)))
        else:
            tally.accepted += 1
            tally.accepted_at_once += 1
        for began, doubt in list(alive):
            if (now - began) % 15 < 6:
                doubt.failed()
                doubt.waited += 15
                if doubt.is_certain:
                    alive.remove((began, doubt))
                    ages.append(now - began)
    assert ages
    assert max(ages) < 2 * SHORTEST
    assert len(alive) < 2 * SHORTEST / 6
