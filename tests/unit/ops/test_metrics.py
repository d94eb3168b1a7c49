"""The metrics: their numbers, and that no call makes a label of its own."""

from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families

from ami2zammad.ops.activity import Activity
from ami2zammad.ops.metrics import Metrics
from ami2zammad.ops.state import BridgeState
from tests.unit.ops.samples import HOSTILE, ILL, WALL, WELL, Bridge, busy_activity


def samples_of(state: BridgeState, activity: Activity | None = None) -> dict[tuple[str, ...], float]:
    """Return every sample by its name and its labels' values, as Prometheus' own parser reads them."""
    bridge = Bridge(state)
    metrics = Metrics(bridge.look, activity or busy_activity(bridge), wall=bridge.wall)
    body, content_type = metrics.exposition("")
    assert content_type.startswith("text/plain")
    return {
        (sample.name.removeprefix("ami2zammad_"), *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(body.decode())
        for sample in family.samples
    }


def test_a_bridge_that_works() -> None:
    samples = samples_of(WELL)
    expected = {
        ("ready",): 1,
        ("ami_connected",): 1,
        ("ami_reconnects_total",): 3,
        ("ami_signals_total",): 1_234_567,
        ("intake_waiting",): 2,
        ("intake_full_total",): 1,
        ("calls_live",): 3,
        ("calls_total", "in", "normalClearing"): 1,
        ("calls_total", "out", "busy"): 0,
        ("control_total", "reject"): 1,
        ("zammad_up",): 1,
        ("deliveries_total", "newCall", "delivered"): 1,
        ("deliveries_total", "answer", "refused"): 1,
        ("delivery_attempts_failed_total", "newCall"): 2,
        ("delivery_seconds_bucket", "answer", "1.0"): 0,
        ("delivery_seconds_bucket", "answer", "2.5"): 1,
        ("delivery_seconds_count", "hangup"): 1,
        ("delivery_seconds_sum", "hangup"): 75,
        ("last_delivery_timestamp_seconds",): WALL - 12,
        ("outbox_up",): 1,
        ("outbox_durable",): 1,
        ("outbox_waiting",): 0,
        ("outbox_oldest_seconds",): 0,
        ("outbox_dead_letters",): 0,
    }
    assert {key: samples.get(key) for key in expected} == expected
    assert any(name == "build_info" for name, *_ in samples)
    assert samples["process_open_fds",] > 0


def test_a_bridge_in_trouble() -> None:
    samples = samples_of(ILL)
    for key, value in {
        "ready": 0, "ami_connected": 0, "zammad_up": 0, "outbox_up": 0, "outbox_durable": 0, "outbox_waiting": 1284,
        "outbox_oldest_seconds": 754.2, "outbox_dead_letters": 3,
    }.items():  # fmt: skip
        assert samples[key,] == pytest.approx(value), key


def test_before_the_first_delivery_its_time_is_not_there() -> None:
    assert not [name for name, *_ in samples_of(WELL, Activity(lambda: 0)) if name.startswith("last_delivery")]


def test_no_call_makes_a_series_of_its_own() -> None:
    bridge = Bridge(HOSTILE)
    activity = busy_activity(bridge)
    before = set(samples_of(WELL, activity))
    for number in range(1000):
        activity.delivered(f"1.{number}", "newCall", number)
        activity.attempt_failed(f"1.{number}", "hangup", f"reason {number}", refused=bool(number % 2))
        activity.call_ended("in", "busy")
    samples = samples_of(HOSTILE, activity)
    assert set(samples) == before
    text = repr(samples)
    for personal in ("4917699999999", "Emma", "1795294371", "pbx1", "reason"):
        assert personal not in text


def test_two_bridges_do_not_share_anything() -> None:
    first, second = Bridge(WELL), Bridge(ILL)
    one = Metrics(first.look, Activity(first.clock), wall=first.wall)
    other = Metrics(second.look, Activity(second.clock), wall=second.wall)
    assert b"ami2zammad_ready 1.0" in one.exposition("")[0]
    assert b"ami2zammad_ready 0.0" in other.exposition("")[0]


def test_openmetrics_where_it_is_asked_for() -> None:
    bridge = Bridge(WELL)
    metrics = Metrics(bridge.look, busy_activity(bridge), wall=bridge.wall)
    body, content_type = metrics.exposition("application/openmetrics-text; version=1.0.0")
    assert content_type.startswith("application/openmetrics-text")
    assert body.endswith(b"# EOF\n")
