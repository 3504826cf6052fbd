"""Every metric of alerting. Series bear users' names, so their number on this page is bounded."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from services.alerting.domain.progress import Progress
from services.alerting.domain.revisions import LatestUpdates, Verdict
from shared.clock import SECOND, Clock

MAX_SERIES_SHOWN = 1_000
"""Label sets (series and shard) on /metrics at most."""


class AlertingMetrics:
    """What became of the updates, and how far the reader is behind."""

    def __init__(self, registry: CollectorRegistry) -> None:
        updates = Counter(
            "tidegate_alerting_updates_total",
            "Metric updates read, by what became of them",
            ["verdict"],
            registry=registry,
        )
        self.updates = {verdict: updates.labels(verdict.value) for verdict in Verdict}
        self.undecodable = Counter(
            "tidegate_alerting_undecodable_total",
            "Records of metric-updates.v1 that are no metric update",
            registry=registry,
        )
        self.not_tracked = Counter(
            "tidegate_alerting_series_overflow_total",
            "Updates of series whose revision is not shown because too many are",
            registry=registry,
        )
        self.position_lag = Gauge(
            "tidegate_alerting_position_lag_records",
            "Records of metric-updates.v1 that have not been read, by partition",
            ["partition"],
            registry=registry,
        )


class SeriesMetrics(Collector):
    """The state at the time of asking: a lag grows while nothing comes."""

    def __init__(self, latest: LatestUpdates, progress: Progress, clock: Clock) -> None:
        self._latest = latest
        self._progress = progress
        self._clock = clock

    def collect(self) -> Iterable[Metric]:
        labels = ["organisation", "kind", "subject", "series", "shard"]
        revision = GaugeMetricFamily(
            "tidegate_alerting_revision", "Highest revision of a series in a shard", labels=labels
        )
        lag = GaugeMetricFamily(
            "tidegate_alerting_lag_seconds", "Present time minus the watermark at that revision", labels=labels
        )
        now = self._clock()
        for series, reached in self._progress:
            values = [series.organisation, series.subject_kind, series.subject, series.series, str(series.shard)]
            revision.add_metric(values, reached.revision)
            lag.add_metric(values, (now - reached.watermark) / SECOND)
        kept = GaugeMetricFamily("tidegate_alerting_series", "Series whose latest update is kept")
        kept.add_metric([], len(self._latest))
        return [revision, lag, kept]
