"""Every metric of alerting. Series and breakers bear users' names, so their number on this page is bounded."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from services.alerting.domain.breaker_machine import Position
from services.alerting.domain.progress import Progress
from services.alerting.domain.revisions import LatestUpdates, Verdict
from shared.clock import SECOND, Clock

MAX_SERIES_SHOWN = 1_000
"""Label sets (series and shard) on /metrics at most; breakers likewise."""

_FAST = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 30)


class AlertingMetrics:
    """What became of the updates, what was decided and how fast, and how far the reader is behind."""

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
            "Records that are no message of their topic",
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
        self.transitions = Counter(
            "tidegate_alerting_transitions_total",
            "Steps of rules, breakers and built-in alerts",
            ["kind", "to", "reason"],
            registry=registry,
        )
        self.conflicts = Counter(
            "tidegate_alerting_conflicts_total",
            "Decisions given up because the state had been moved by another process",
            registry=registry,
        )
        self.decision_seconds = Histogram(
            "tidegate_alerting_decision_seconds",
            "From the publication of an update to the decisions on it, stored",
            buckets=_FAST,
            registry=registry,
        )
        self.commit_seconds = Histogram(
            "tidegate_alerting_commit_seconds", "A transition's transaction", buckets=_FAST, registry=registry
        )
        self.switch_seconds = Histogram(
            "tidegate_alerting_switch_seconds",
            "From the publication of the update that decided to the switch's being on Kafka",
            buckets=_FAST,
            registry=registry,
        )
        self.sessions = Counter(
            "tidegate_alerting_sessions_total", "Readings of the topics from the start", registry=registry
        )
        self._breakers = Gauge(
            "tidegate_alerting_breaker_state",
            "1 for the state that a breaker is in",
            ["organisation", "breaker", "state"],
            registry=registry,
        )
        self._shown: set[tuple[str, str]] = set()

    def show_breaker(self, organisation: str, breaker: str, position: Position) -> None:
        if (organisation, breaker) not in self._shown and len(self._shown) >= MAX_SERIES_SHOWN:
            return
        self._shown.add((organisation, breaker))
        for each in Position:
            self._breakers.labels(organisation, breaker, each.value).set(each is position)


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
