"""Rows that changed after the last revision known to be published: a new owner starts with them."""

from __future__ import annotations

from typing import Any

from services.aggregator.domain.plan import UnitSeries, WindowSeries
from services.aggregator.store.experiments import TotalsState
from services.aggregator.store.shards import ShardRow
from services.aggregator.store.windows import WindowState
from shared.postgres import Connection


async def load_unpublished(connection: Connection, row: ShardRow) -> tuple[list[WindowState], list[TotalsState]]:
    windows = await connection.fetch(
        "SELECT s.organisation, s.metric, s.version, s.component, s.scale, "
        "(extract(epoch FROM w.minute) * 1000000)::bigint, w.group_key, w.n, w.sum, w.sum_squares, "
        "w.min, w.max, w.sketch "
        "FROM window_minutes w JOIN window_series s ON s.id = w.series_id WHERE w.shard = $1 AND w.revision > $2",
        row.shard,
        row.published_revision,
    )
    totals = await connection.fetch(
        "SELECT s.organisation, s.experiment, s.metric, s.version, s.component, s.scale, "
        "t.variant, t.observations, t.min, t.max, t.units, t.unit_sum, t.unit_sum_squares "
        "FROM experiment_totals t JOIN experiment_series s ON s.id = t.series_id "
        "WHERE t.shard = $1 AND t.revision > $2",
        row.shard,
        row.published_revision,
    )
    return ([_window(w) for w in windows], [_totals(t) for t in totals])


def _window(row: Any) -> WindowState:
    *names, minute, group, n, total, squares, low, high, sketch = row
    return WindowState(WindowSeries(*names), minute, group, n, int(total), int(squares), low, high, sketch)


def _totals(row: Any) -> TotalsState:
    *names, variant, n, low, high, units, total, squares = row
    return TotalsState(UnitSeries(*names), variant, n, low, high, units, int(total), int(squares))
