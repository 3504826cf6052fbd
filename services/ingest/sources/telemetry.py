"""What Prometheus sees of the sources that this process runs. Labels are names that admins gave."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from services.ingest.domain.sources.health import State
from services.ingest.sources.run import Run
from shared.clock import SECOND


class SourceMetrics(Collector):
    """Reads the runs whenever it is asked."""

    def __init__(self, runs: Callable[[], Iterable[Run]]) -> None:
        self._runs = runs

    def collect(self) -> Iterable[Metric]:
        up = GaugeMetricFamily(
            "tidegate_ingest_source_up",
            "1 while the source is read, 0 while it retries",
            None,
            ["organisation", "source"],
        )
        lag = GaugeMetricFamily(
            "tidegate_ingest_source_lag", "Messages that wait at the far end", None, ["organisation", "source"]
        )
        last = GaugeMetricFamily(
            "tidegate_ingest_source_last_event_seconds",
            "Unix time of the last event",
            None,
            ["organisation", "source"],
        )
        events = CounterMetricFamily(
            "tidegate_ingest_source_events",
            "Events accepted since the source was made",
            None,
            ["organisation", "source"],
        )
        invalid = CounterMetricFamily(
            "tidegate_ingest_source_invalid", "Messages dead-lettered", None, ["organisation", "source"]
        )
        restarts = CounterMetricFamily(
            "tidegate_ingest_source_restarts", "New starts after an error", None, ["organisation", "source"]
        )
        for run in list(self._runs()):
            labels = (run.definition.organisation, run.definition.key)
            health = run.health
            up.add_metric(labels, float(health.state is State.RUNNING))
            events.add_metric(labels, health.events)
            invalid.add_metric(labels, health.invalid)
            restarts.add_metric(labels, health.restarts)
            if health.lag is not None:
                lag.add_metric(labels, health.lag)
            if health.last_event_at is not None:
                last.add_metric(labels, health.last_event_at / SECOND)
        return (up, lag, last, events, invalid, restarts)
