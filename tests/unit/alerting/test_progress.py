"""How far each shard of a subject has come, and how it shows on /metrics."""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from services.alerting.domain.progress import Noted, Progress, Reached
from services.alerting.domain.revisions import Bounds, LatestUpdates
from services.alerting.metrics import SeriesMetrics
from shared.clock import MINUTE, SECOND
from shared.messages import MetricUpdate
from tests.unit.alerting.test_revisions import NOW, update


def at(revision: int, watermark: int, **fields: object) -> MetricUpdate:
    made = update(revision, **fields)  # type: ignore[arg-type]
    return MetricUpdate(**{**{name: getattr(made, name) for name in made.__struct_fields__}, "watermark": watermark})


def test_the_highest_revision_of_any_window_and_its_watermark_are_known() -> None:
    progress = Progress(10)

    assert progress.note(at(5, NOW, window=NOW - MINUTE)) is Noted.ADVANCED
    assert progress.note(at(9, NOW + 1, window=NOW)) is Noted.ADVANCED
    assert progress.note(at(7, NOW + 2, window=NOW - MINUTE)) is Noted.UNCHANGED
    assert [reached for _, reached in progress] == [Reached(9, NOW + 1)]


def test_shards_series_and_subjects_are_apart() -> None:
    progress = Progress(10)
    for other in (
        at(1, NOW),
        at(1, NOW, shard=1),
        at(1, NOW, series="b"),
        at(1, NOW, subject="exports"),
        at(1, NOW, organisation="else"),
    ):
        assert progress.note(other) is Noted.ADVANCED

    assert len(progress) == 5


def test_no_more_than_the_limit_are_tracked() -> None:
    progress = Progress(1)
    progress.note(at(1, NOW))

    assert progress.note(at(1, NOW, shard=1)) is Noted.NOT_TRACKED
    assert progress.note(at(2, NOW)) is Noted.ADVANCED
    assert len(progress) == 1


def test_the_lag_grows_while_nothing_comes() -> None:
    present = NOW
    progress = Progress(10)
    latest = LatestUpdates(Bounds())
    registry = CollectorRegistry()
    registry.register(SeriesMetrics(latest, progress, lambda: present))
    one = at(42, NOW - 2 * SECOND, shard=3)
    latest.apply(one, now=NOW)
    progress.note(one)
    labels = {"organisation": "acme", "kind": "metric", "subject": "imports", "series": one.series, "shard": "3"}

    assert registry.get_sample_value("tidegate_alerting_revision", labels) == 42
    assert registry.get_sample_value("tidegate_alerting_lag_seconds", labels) == 2
    assert registry.get_sample_value("tidegate_alerting_series") == 1
    present += 60 * SECOND
    assert registry.get_sample_value("tidegate_alerting_lag_seconds", labels) == 62
