"""Reads what the aggregator's worker has folded, from its own tables."""

from __future__ import annotations

from collections import defaultdict

import asyncpg

from bench.aggregator.truth import Place, Result, Total
from bench.aggregator.workload import AMOUNTS, COUNTS, DURATIONS, ORGANISATION
from shared.statistics import sketch

_METRICS = [COUNTS, AMOUNTS, DURATIONS]


async def cursors(connection: asyncpg.Connection) -> dict[int, int]:
    """Shard → offset below which everything is folded and committed."""
    return dict(await connection.fetch("SELECT shard, next_offset FROM aggregator.shards"))


async def result(connection: asyncpg.Connection) -> Result:
    """The shards added up."""
    totals = await connection.fetch(
        "SELECT s.metric, (extract(epoch FROM m.minute) * 1000000)::bigint AS minute, m.group_key, "
        "sum(m.n)::bigint, sum(m.sum), min(m.min), max(m.max) "
        "FROM aggregator.window_minutes m JOIN aggregator.window_series s ON s.id = m.series_id "
        "WHERE s.organisation = $1 AND s.metric = ANY($2::text[]) GROUP BY 1, 2, 3",
        ORGANISATION,
        _METRICS,
    )
    counters = await connection.fetch(
        "SELECT s.metric, sum(c.counted)::bigint AS counted, sum(c.late)::bigint AS late, "
        "sum(c.duplicates)::bigint AS duplicates, sum(c.invalid)::bigint AS invalid "
        "FROM aggregator.series_counters c JOIN aggregator.window_series s ON s.id = c.series_id "
        "WHERE s.organisation = $1 AND s.metric = ANY($2::text[]) GROUP BY 1",
        ORGANISATION,
        _METRICS,
    )
    found: dict[Place, Total] = {
        (metric, minute, group): Total(n, int(added), low, high)
        for metric, minute, group, n, added, low, high in totals
    }
    return Result(
        totals=found,
        counted={row["metric"]: row["counted"] for row in counters},
        late=sum(row["late"] for row in counters),
        duplicates=sum(row["duplicates"] for row in counters),
        invalid=sum(row["invalid"] for row in counters),
        percentile_95=await _percentiles(connection),
    )


async def _percentiles(connection: asyncpg.Connection) -> dict[str, float]:
    merged: defaultdict[str, sketch.Counts] = defaultdict(dict)
    for group, raw in await connection.fetch(
        "SELECT m.group_key, m.sketch "
        "FROM aggregator.window_minutes m JOIN aggregator.window_series s ON s.id = m.series_id "
        "WHERE s.organisation = $1 AND s.metric = $2",
        ORGANISATION,
        DURATIONS,
    ):
        sketch.merge(merged[group], sketch.decode(raw))
    estimates = {group: sketch.quantile(counts, 0.95) for group, counts in merged.items()}
    return {group: estimate for group, estimate in estimates.items() if estimate is not None}
