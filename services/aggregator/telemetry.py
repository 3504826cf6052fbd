"""The worker's metrics. Counted per batch, never per event; labels are shards, fixed words, and a bounded number of
metrics' names.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)

_MOST_NAMES = 500
_OTHER = "other"
"""Stands for all metrics beyond the bound."""


class WorkerMetrics:
    def __init__(self, registry: CollectorRegistry) -> None:
        self.events = Counter(
            "tidegate_aggregator_events_total",
            "Records folded, by what became of them",
            ["shard", "verdict"],
            registry=registry,
        )
        self.batch_records = Histogram(
            "tidegate_aggregator_batch_records",
            "Records in one batch",
            buckets=(1, 10, 100, 1_000, 2_500, 5_000, 10_000),
            registry=registry,
        )
        self.fold_seconds = Histogram(
            "tidegate_aggregator_fold_seconds",
            "Decoding and folding one batch",
            buckets=_SECONDS,
            registry=registry,
        )
        self.commit_seconds = Histogram(
            "tidegate_aggregator_commit_seconds",
            "One batch's transaction",
            buckets=_SECONDS,
            registry=registry,
        )
        self.retries = Counter(
            "tidegate_aggregator_retries_total", "Transactions tried again", ["shard"], registry=registry
        )
        self.next_offset = Gauge(
            "tidegate_aggregator_next_offset",
            "Offset of the first record not folded yet",
            ["shard"],
            registry=registry,
        )
        self.watermark = Gauge(
            "tidegate_aggregator_watermark_seconds",
            "Event time up to which a shard is complete, but for late events; seconds since the epoch",
            ["shard"],
            registry=registry,
        )
        self.seen_ids = Gauge(
            "tidegate_aggregator_seen_ids", "Event ids remembered to find duplicates", ["shard"], registry=registry
        )
        self.seen_bytes = Gauge(
            "tidegate_aggregator_seen_bytes", "Memory that the remembered ids take", ["shard"], registry=registry
        )
        self.seen_disk_bytes = Gauge(
            "tidegate_aggregator_seen_disk_bytes",
            "What the remembered ids take in scratch files",
            ["shard"],
            registry=registry,
        )
        self.updates = Counter("tidegate_aggregator_updates_total", "Metric updates published", registry=registry)
        self.invalid_experiment_events = Counter(
            "tidegate_aggregator_invalid_experiment_events_total",
            "Exposures and results that fit no experiment",
            registry=registry,
        )
        self.invalid = Counter(
            "tidegate_aggregator_invalid_total",
            "Events that match a metric but hold no value that it can read; the metrics beyond 500 are `other`",
            ["organisation", "metric"],
            registry=registry,
        )
        self.lag = Gauge(
            "tidegate_aggregator_lag_records", "Records in the log and not folded yet", ["shard"], registry=registry
        )
        self.batches_waiting = Gauge(
            "tidegate_aggregator_batches_waiting", "Batches fetched and not begun", ["shard"], registry=registry
        )
        self.clock = Gauge(
            "tidegate_aggregator_clock_seconds",
            "The watermark, or with nothing left to fold the present; seconds since the epoch",
            ["shard"],
            registry=registry,
        )
        self.closed_through = Gauge(
            "tidegate_aggregator_closed_through_seconds",
            "Minutes that end at or before this are closed; seconds since the epoch",
            registry=registry,
        )
        self.stalled_seconds = Gauge(
            "tidegate_aggregator_stalled_seconds",
            "How long a shard has had records and done nothing, while Kafka and Postgres answered",
            ["shard"],
            registry=registry,
        )
        self.assignments = Counter(
            "tidegate_aggregator_rebalances_total", "Assignments of partitions to this worker", registry=registry
        )
        self._of_shards = (
            self.next_offset,
            self.watermark,
            self.seen_ids,
            self.seen_bytes,
            self.seen_disk_bytes,
            self.lag,
            self.batches_waiting,
            self.clock,
        )
        self._stalled: set[int] = set()
        self._named: set[tuple[str, str]] = set()

    def count_invalid(self, organisation: str, metric: str, events: int) -> None:
        name = (organisation, metric)
        if name not in self._named:
            if len(self._named) >= _MOST_NAMES:
                name = (_OTHER, _OTHER)
            else:
                self._named.add(name)
        self.invalid.labels(*name).inc(events)

    def show_stalled(self, seconds: Mapping[int, float]) -> None:
        """Of all shards there are."""
        for shard in self._stalled - set(seconds):
            self.stalled_seconds.remove(str(shard))
        for shard, stalled in seconds.items():
            self.stalled_seconds.labels(str(shard)).set(stalled)
        self._stalled = set(seconds)

    def forget(self, shards: Iterable[int]) -> None:
        """What another worker shows from now on."""
        for shard in shards:
            for gauge in self._of_shards:
                gauge.remove(str(shard))
