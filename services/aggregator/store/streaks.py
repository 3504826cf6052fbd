"""Streak rows: one a shard and group, read, joined and written under the shard's lock."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from services.aggregator.domain.plan import StreakPlan, WindowSeries
from services.aggregator.domain.runs import Run, joined
from services.aggregator.store.series import SeriesIds
from shared.postgres import Connection


@dataclass(frozen=True, slots=True)
class StreakState:
    """A shard's run of one group after a batch."""

    series: WindowSeries
    group: str
    run: Run


async def apply_streaks(
    connection: Connection,
    shard: int,
    revision: int,
    deltas: Sequence[tuple[StreakPlan, Mapping[str, Run]]],
    ids: SeriesIds,
) -> list[StreakState]:
    """Joins the batch's runs to what is stored and returns the rows as they then are."""
    if not deltas:
        return []
    stored = await _read(connection, shard, [(ids.window(p.series), g) for p, runs in deltas for g in runs])
    states = [
        StreakState(
            plan.series, group, joined([run, stored.get((ids.window(plan.series), group), Run())], plan.streak.length)
        )
        for plan, runs in deltas
        for group, run in runs.items()
    ]
    # A statement a row: failures are arrays of different lengths, which unnest would flatten.
    await connection.executemany(
        "INSERT INTO streaks AS s (series_id, shard, group_key, latest_success, failures, n, revision) "
        "VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (series_id, shard, group_key) DO UPDATE SET "
        "latest_success = excluded.latest_success, failures = excluded.failures, n = excluded.n, "
        "revision = excluded.revision",
        [
            (ids.window(s.series), shard, s.group, s.run.latest_success, list(s.run.failures), s.run.n, revision)
            for s in states
        ],
    )
    return states


async def _read(connection: Connection, shard: int, keys: Sequence[tuple[int, str]]) -> dict[tuple[int, str], Run]:
    rows = await connection.fetch(
        "SELECT s.series_id, s.group_key, s.latest_success, s.failures, s.n FROM streaks s "
        "JOIN unnest($2::int[], $3::text[]) AS k (series_id, group_key) USING (series_id, group_key) "
        "WHERE s.shard = $1",
        shard,
        [k[0] for k in keys],
        [k[1] for k in keys],
    )
    return {(series, group): Run(success, tuple(failures), n) for series, group, success, failures, n in rows}
