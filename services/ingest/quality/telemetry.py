"""What Prometheus sees of intake rules."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from services.ingest.domain.quality.privacy import Redactions


class RedactionMetrics(Collector):
    """Reads the counts whenever it is asked: counting one by one would cost as much as a rule."""

    def __init__(self, done: Redactions) -> None:
        self._done = done

    def collect(self) -> Iterable[Metric]:
        counter = CounterMetricFamily(
            "tidegate_ingest_fields_redacted", "Values changed by rules of privacy, by action", None, ["action"]
        )
        for action, count in self._done.counts.items():
            counter.add_metric([action.value], count)
        return [counter]
