"""What is counted, and that nothing from outside makes it grow."""

from __future__ import annotations

import pytest

from ami2zammad.calls.events import Cause, Direction
from ami2zammad.ops.activity import DIRECTIONS, KINDS, LATENCIES, LATEST, OUTCOMES, Activity, Latencies, Tally


@pytest.fixture
def activity() -> Activity:
    return Activity(lambda: 100.0)


def test_every_count_begins_at_nothing() -> None:
    tally = Tally(("a", "b"), ("x", "y"))
    assert tally.counts == {("a", "x"): 0, ("a", "y"): 0, ("b", "x"): 0, ("b", "y"): 0}
    tally.add("b", "x")
    assert (tally.counts["b", "x"], tally.total) == (1, 1)


def test_what_is_not_known_shares_one_label() -> None:
    tally = Tally(("a", "b"))
    for number in range(1000):
        tally.add(f"+4917699{number}")
    assert tally.counts == {("a",): 0, ("b",): 0, ("other",): 1000}


def test_labels_are_those_of_the_calls() -> None:
    """The lists repeat what calls/ says, because this room does not know it."""
    assert set(OUTCOMES) == {cause.value for cause in Cause}
    assert set(DIRECTIONS) == {direction.value for direction in Direction}


def test_latencies_are_counted_up_to_each_bound() -> None:
    latencies = Latencies()
    for seconds in (0.0, 0.01, 0.011, 4000.0):
        latencies.add(seconds)
    counts = dict(latencies.cumulative())
    assert (counts[0.01], counts[0.025], counts[3600.0], counts[float("inf")]) == (2, 3, 3, 4)
    assert latencies.sum == pytest.approx(4000.021)
    assert list(counts)[:-1] == list(LATENCIES)


def test_a_time_of_another_clock_is_no_latency(activity: Activity) -> None:
    activity.delivered("1.1", "hangup", -5.0)
    assert activity.latencies["hangup"].cumulative()[-1][1] == 0
    assert activity.deliveries.counts["hangup", "delivered"] == 1
    assert activity.latest_deliveries[0].seconds == 0


def test_the_latest_are_remembered_and_no_more(activity: Activity) -> None:
    assert activity.last_delivery_at is None
    for number in range(10 * LATEST):
        activity.delivered(str(number), KINDS[number % 3], 0.1)
        activity.attempt_failed(str(number), "newCall", f"reason {number}")
    assert [delivery.call_id for delivery in activity.latest_deliveries][-1] == str(10 * LATEST - 1)
    assert (len(activity.latest_deliveries), len(activity.latest_failures)) == (LATEST, LATEST)
    assert activity.last_delivery_at == 100.0


def test_an_outage_fills_one_line(activity: Activity) -> None:
    activity.attempt_failed("1.1", "newCall", "connection refused")
    for number in range(500):
        activity.attempt_failed(f"2.{number}", "hangup", "no route")
    activity.attempt_failed("2.1", "hangup", "no route", refused=True)
    told = [(failure.reason, failure.refused, failure.times) for failure in activity.latest_failures]
    assert told == [("connection refused", False, 1), ("no route", False, 500), ("no route", True, 1)]
    assert activity.latest_failures[1].call_id == "2.499"
    assert activity.failed_attempts.counts["hangup",] == 501
    assert activity.deliveries.counts["hangup", "refused"] == 1
