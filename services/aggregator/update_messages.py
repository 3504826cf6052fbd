"""Committed rows as the messages that others see. A row's series text names its component and its group."""

from __future__ import annotations

import msgspec

from services.aggregator.domain.plan import UnitSeries, WindowSeries
from services.aggregator.domain.states import LatestRun, decode
from services.aggregator.store.experiments import TotalsState
from services.aggregator.store.shards import ShardRow
from services.aggregator.store.streaks import StreakState
from services.aggregator.store.windows import WindowState
from shared.messages import MetricUpdate


def window_update(state: WindowState, shard: ShardRow, now: int) -> MetricUpdate:
    s: WindowSeries = state.series
    return MetricUpdate(
        organisation=s.organisation,
        subject_kind="metric",
        subject=s.metric,
        version=s.version,
        series=_series_text(s.component, state.group),
        window_start=state.minute,
        shard=shard.shard,
        revision=shard.revision,
        watermark=shard.watermark,
        published_at=now,
        scale=s.scale,
        n=state.n,
        sum=str(state.sum),
        sum_squares=str(state.sum_squares),
        min=state.min,
        max=state.max,
        sketch=state.sketch,
    )


def streak_update(state: StreakState, shard: ShardRow, now: int) -> MetricUpdate:
    s: WindowSeries = state.series
    return MetricUpdate(
        organisation=s.organisation,
        subject_kind="metric",
        subject=s.metric,
        version=s.version,
        series=_series_text(s.component, state.group),
        window_start=0,
        shard=shard.shard,
        revision=shard.revision,
        watermark=shard.watermark,
        published_at=now,
        scale=s.scale,
        n=state.run.n,
        latest_success=state.run.latest_success,
        failures=state.run.failures,
    )


def totals_update(state: TotalsState, shard: ShardRow, now: int) -> MetricUpdate:
    """Of streaks the run stands where those of metrics have it."""
    s: UnitSeries = state.series
    kept = decode(state.sketch) if s.component == "streak" else None
    run = kept.run if isinstance(kept, LatestRun) else None
    return MetricUpdate(
        organisation=s.organisation,
        subject_kind="experiment",
        subject=s.experiment,
        version=s.version,
        series=_series_text(s.metric, s.component, state.variant, *([s.part] if s.part else [])),
        window_start=0,
        shard=shard.shard,
        revision=shard.revision,
        watermark=shard.watermark,
        published_at=now,
        scale=s.scale,
        n=state.observations,
        sum=str(state.unit_sum),
        sum_squares=str(state.unit_sum_squares),
        min=state.min,
        max=state.max,
        units=state.units,
        conflicted=state.conflicted,
        includes_conflicted=True,
        event_sum=str(state.sum),
        event_sum_squares="" if state.sum_squares is None else str(state.sum_squares),
        other_sum=str(state.other_sum),
        other_sum_squares=str(state.other_sum_squares),
        cross_sum=str(state.cross_sum),
        sketch=state.sketch if run is None else b"",
        latest_success=0 if run is None else run.latest_success,
        failures=() if run is None else run.failures,
    )


def _series_text(*parts: str) -> str:
    return msgspec.json.encode(parts).decode()
