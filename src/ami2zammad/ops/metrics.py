"""The metrics, in Prometheus' format; each is explained in docs/operations.md.

Nothing is counted here: the numbers are read off the bridge when somebody asks for them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, InfoMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from ami2zammad import __version__

from .activity import Activity, Tally
from .state import BridgeState, faults

_PREFIX: Final = "ami2zammad_"


class Metrics:
    """The metrics of one bridge, in a registry of its own. `wall` gives seconds since the epoch."""

    def __init__(
        self, state: Callable[[], BridgeState], activity: Activity, *, wall: Callable[[], float] = time.time
    ) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(_BridgeCollector(state, activity, wall))
        # What the process needs: memory, CPU, open files.
        ProcessCollector(registry=self.registry)

    def exposition(self, accept: str) -> tuple[bytes, str]:
        """Return all metrics and their content type, in the format that the header `Accept` wishes."""
        encode, content_type = choose_encoder(accept)
        return encode(self.registry), content_type


class _BridgeCollector(Collector):
    def __init__(self, state: Callable[[], BridgeState], activity: Activity, wall: Callable[[], float]) -> None:
        self._state = state
        self._activity = activity
        self._wall = wall

    def collect(self) -> Iterable[Metric]:
        state = self._state()
        yield InfoMetricFamily(f"{_PREFIX}build", "The version that runs.", {"version": __version__})
        yield _gauge("ready", "Whether the bridge does its work: 1 as /readyz says 200.", not faults(state))
        yield from self._of_asterisk(state)
        yield from self._of_calls(state)
        yield from self._of_zammad(state)
        yield from self._of_outbox(state)

    @staticmethod
    def _of_asterisk(state: BridgeState) -> Iterator[Metric]:
        asterisk = state.asterisk
        yield _gauge("ami_connected", "Whether Asterisk is connected.", asterisk.connected_since is not None)
        yield _counter("ami_reconnects", "Connections to Asterisk after the first.", asterisk.reconnects)
        yield _counter("ami_signals", "Events of Asterisk that were taken in.", asterisk.signals)
        yield _gauge("intake_waiting", "Events of Asterisk that were read and not yet looked at.", asterisk.waiting)
        yield _counter(
            "intake_full", "How often so many waited that nothing was read from Asterisk.", asterisk.full_count
        )

    def _of_calls(self, state: BridgeState) -> Iterator[Metric]:
        yield _gauge("calls_live", "Log entries that are open.", len(state.calls))
        ended = "Log entries that ended, by the cause that Zammad was told."
        yield _tally("calls", ended, self._activity.calls, "direction", "outcome")
        yield _tally("control", "What became of asking Zammad about a call.", self._activity.decisions, "outcome")

    def _of_zammad(self, state: BridgeState) -> Iterator[Metric]:
        activity = self._activity
        yield _gauge("zammad_up", "Whether nothing is known against Zammad.", state.zammad.problem is None)
        yield _tally("deliveries", "Events that came to an end.", activity.deliveries, "kind", "result")
        yield _tally(
            "delivery_attempts_failed",
            "Attempts to deliver that failed; all but the refused are made again.",
            activity.failed_attempts,
            "kind",
        )
        seconds = HistogramMetricFamily(
            f"{_PREFIX}delivery_seconds",
            "Seconds from Asterisk's event until Zammad had it.",
            labels=("kind",),
        )
        for kind, latencies in activity.latencies.items():
            buckets = [(_bound(bound), count) for bound, count in latencies.cumulative()]
            seconds.add_metric((kind,), buckets=buckets, sum_value=latencies.sum)
        yield seconds
        if activity.last_delivery_at is not None:
            yield _gauge(
                "last_delivery_timestamp_seconds",
                "When Zammad last took an event.",
                self._wall() - (state.now - activity.last_delivery_at),
            )

    @staticmethod
    def _of_outbox(state: BridgeState) -> Iterator[Metric]:
        outbox = state.outbox
        yield _gauge("outbox_up", "Whether nothing is wrong with the outbox.", outbox.problem is None)
        yield _gauge("outbox_durable", "Whether what waits outlives the bridge.", outbox.durable)
        yield _gauge("outbox_waiting", "Events that Zammad does not have yet.", outbox.waiting)
        yield _gauge("outbox_oldest_seconds", "How long the oldest of them has waited.", outbox.oldest_age or 0.0)
        yield _gauge("outbox_dead_letters", "Events that were set aside.", outbox.dead_letters)


def _gauge(name: str, explained: str, value: float) -> Metric:
    return GaugeMetricFamily(_PREFIX + name, explained, value=float(value))


def _counter(name: str, explained: str, value: float) -> Metric:
    return CounterMetricFamily(_PREFIX + name, explained, value=float(value))


def _tally(name: str, explained: str, tally: Tally, *labels: str) -> Metric:
    family = CounterMetricFamily(_PREFIX + name, explained, labels=labels)
    for values, count in tally.counts.items():
        family.add_metric(values, count)
    return family


def _bound(bound: float) -> str:
    return "+Inf" if bound == float("inf") else str(bound)
