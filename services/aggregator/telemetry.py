"""The worker's metrics. Counted per batch, never per event; labels are shards and fixed words only."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


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
        self.updates = Counter("tidegate_aggregator_updates_total", "Metric updates published", registry=registry)
        self.invalid_experiment_events = Counter(
            "tidegate_aggregator_invalid_experiment_events_total",
            "Exposures and results that fit no experiment",
            registry=registry,
        )
