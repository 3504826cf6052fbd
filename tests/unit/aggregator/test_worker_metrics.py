"""The worker's figures stay few, and speak of present shards only."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, generate_latest

from services.aggregator.telemetry import WorkerMetrics


def _lines(registry: CollectorRegistry, name: str) -> dict[str, float]:
    """Labels → value of one series' lines."""
    lines = [line for line in generate_latest(registry).decode().splitlines() if line.startswith(name + "{")]
    return {labels: float(value) for labels, value in (line[len(name) :].rsplit(" ", 1) for line in lines)}


def test_metrics_beyond_the_bound_share_one_series() -> None:
    registry = CollectorRegistry()
    metrics = WorkerMetrics(registry)
    for i in range(2_000):
        metrics.count_invalid("acme", f"m{i}", 2)
    metrics.count_invalid("acme", "m0", 1)
    metrics.count_invalid("acme", "m1999", 1)
    found = _lines(registry, "tidegate_aggregator_invalid_total")
    assert len(found) == 501
    assert found['{metric="m0",organisation="acme"}'] == 3
    assert found['{metric="other",organisation="other"}'] == 3_001
    assert sum(found.values()) == 4_002


def test_shards_that_went_to_another_worker_are_not_shown_any_more() -> None:
    registry = CollectorRegistry()
    metrics = WorkerMetrics(registry)
    for shard in ("0", "1"):
        metrics.lag.labels(shard).set(7)
        metrics.clock.labels(shard).set(1)
    metrics.show_stalled({0: 3.0, 1: 0.0})
    metrics.forget([0, 5])
    metrics.show_stalled({1: 4.0})
    for name in ("lag_records", "clock_seconds", "stalled_seconds"):
        assert set(_lines(registry, f"tidegate_aggregator_{name}")) == {'{shard="1"}'}, name
