"""Rows to publish again: those that a new owner of a shard starts with, and those that new listeners are told."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from services.aggregator.domain.plan import UnitSeries, WindowSeries
from services.aggregator.domain.runs import Run
from services.aggregator.store.experiments import TotalsState, totals_state
from services.aggregator.store.shards import ShardRow
from services.aggregator.store.streaks import StreakState
from services.aggregator.store.transaction import Applied
from services.aggregator.store.windows import WindowState
from shared.clock import to_datetime
from shared.postgres import Connection

_WINDOWS = """
    SELECT s.organisation, s.metric, s.version, s.component, s.scale,
           (extract(epoch FROM w.minute) * 1000000)::bigint, w.group_key, w.n, w.sum, w.sum_squares,
           w.min, w.max, w.sketch
    FROM window_minutes w JOIN window_series s ON s.id = w.series_id
    WHERE w.shard = $1 AND s.backfill_id IS NULL
"""
_STREAKS = """
    SELECT s.organisation, s.metric, s.version, s.component, s.scale, t.group_key, t.latest_success, t.failures, t.n
    FROM streaks t JOIN window_series s ON s.id = t.series_id
    WHERE t.shard = $1 AND s.backfill_id IS NULL
"""
_TOTALS = """
    SELECT s.organisation, s.experiment, s.metric, s.version, s.component, s.scale, s.part,
           t.variant, t.observations, t.min, t.max, t.units, t.unit_sum, t.unit_sum_squares, t.conflicted,
           t.sum, t.sum_squares, t.other_sum, t.other_sum_squares, t.cross_sum, t.state
    FROM experiment_totals t JOIN experiment_series s ON s.id = t.series_id
    WHERE t.shard = $1
"""
_OF_METRICS = """
    AND s.id = ANY(ARRAY(
        SELECT v.id FROM window_series v JOIN unnest($2::text[], $3::text[]) AS k (organisation, metric)
        USING (organisation, metric)
        WHERE v.version = (SELECT max(n.version) FROM window_series n
                           WHERE n.organisation = v.organisation AND n.metric = v.metric)))
"""


async def load_unpublished(connection: Connection, row: ShardRow, since: int) -> Applied:
    """What changed after the last revision known to be published: windows from `since` (µs) on, streaks, totals.

    No index is on revisions, which change with every batch: the days before are not searched, as no rule reads them.
    """
    after = row.published_revision
    windows = await connection.fetch(
        f"{_WINDOWS} AND w.revision > $2 AND w.minute >= $3", row.shard, after, to_datetime(since)
    )
    return Applied(
        row,
        windows=[_window(w) for w in windows],
        totals=[_totals(t) for t in await connection.fetch(f"{_TOTALS} AND t.revision > $2", row.shard, after)],
        streaks=[_streak(s) for s in await connection.fetch(f"{_STREAKS} AND t.revision > $2", row.shard, after)],
    )


async def load_present(
    connection: Connection, row: ShardRow, metrics: Collection[tuple[str, str]], since: int
) -> Applied:
    """All that stands for the latest version of these metrics (organisation, key).

    That is windows from `since` (µs) on, and streaks.
    """
    names = [organisation for organisation, _ in metrics], [key for _, key in metrics]
    windows = await connection.fetch(
        f"{_WINDOWS} {_OF_METRICS} AND w.minute >= $4", row.shard, *names, to_datetime(since)
    )
    streaks = await connection.fetch(f"{_STREAKS} {_OF_METRICS}", row.shard, *names)
    return Applied(row, windows=[_window(w) for w in windows], streaks=[_streak(s) for s in streaks])


def _window(row: Any) -> WindowState:
    *names, minute, group, n, total, squares, low, high, sketch = row
    return WindowState(WindowSeries(*names), minute, group, n, int(total), int(squares), low, high, sketch)


def _streak(row: Any) -> StreakState:
    *names, group, success, failures, n = row
    return StreakState(WindowSeries(*names), group, Run(success, tuple(failures), n))


def _totals(row: Any) -> TotalsState:
    return totals_state(UnitSeries(*row[:7]), row[7:])
