"""Reads what the aggregator's worker has folded, from its own tables."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import asyncpg
import msgspec

from bench.aggregator.accounts import Moments, Place, Total
from bench.aggregator.differences import Counted, Result
from bench.aggregator.metrics import FUNNEL, PERCENTILES, QUANTILES, STAGES, USERS_SEEN
from bench.aggregator.truth import Truth
from bench.aggregator.workload import EXPERIMENT, ORGANISATION
from shared.statistics import sketch
from shared.statistics.distinct import Distinct


async def cursors(connection: asyncpg.Connection) -> dict[int, int]:
    """Shard → offset below which everything is folded and committed."""
    return dict(await connection.fetch("SELECT shard, next_offset FROM aggregator.shards"))


async def result(connection: asyncpg.Connection, truth: Truth) -> Result:
    """The shards added up, for what the truth knows about."""
    metrics = sorted({metric for metric, _ in truth.windows})
    by_minute = {} if truth.uniques is None else await _users_seen(connection)
    return Result(
        totals=await _totals(connection, metrics),
        counters=await _counters(connection, metrics),
        percentiles={} if truth.percentiles is None else await _percentiles(connection),
        unique_minutes={place: users.estimate() for place, users in by_minute.items()},
        uniques={group: users.estimate() for group, users in _over_all(by_minute).items()},
        reached={} if truth.funnel is None else await _reached(connection),
        units={metric: await _moments(connection, metric) for metric in truth.units},
    )


async def _totals(connection: asyncpg.Connection, metrics: Iterable[str]) -> dict[Place, Total]:
    rows = await connection.fetch(
        "SELECT s.metric, s.component, (extract(epoch FROM m.minute) * 1000000)::bigint AS minute, m.group_key, "
        "sum(m.n)::bigint, sum(m.sum), min(m.min), max(m.max) "
        "FROM aggregator.window_minutes m JOIN aggregator.window_series s ON s.id = m.series_id "
        "WHERE s.organisation = $1 AND s.metric = ANY($2::text[]) GROUP BY 1, 2, 3, 4",
        ORGANISATION,
        list(metrics),
    )
    return {
        (metric, component, minute, group): Total(n, int(added), low, high)
        for metric, component, minute, group, n, added, low, high in rows
    }


async def _counters(connection: asyncpg.Connection, metrics: Iterable[str]) -> dict[tuple[str, str], Counted]:
    rows = await connection.fetch(
        "SELECT s.metric, s.component, sum(c.counted)::bigint, sum(c.late)::bigint, sum(c.duplicates)::bigint, "
        "sum(c.invalid)::bigint "
        "FROM aggregator.series_counters c JOIN aggregator.window_series s ON s.id = c.series_id "
        "WHERE s.organisation = $1 AND s.metric = ANY($2::text[]) GROUP BY 1, 2",
        ORGANISATION,
        list(metrics),
    )
    return {(metric, component): Counted(*counters) for metric, component, *counters in rows}


async def _percentiles(connection: asyncpg.Connection) -> dict[tuple[str, str], float]:
    merged: defaultdict[str, sketch.Counts] = defaultdict(dict)
    for group, raw in await connection.fetch(
        "SELECT m.group_key, m.sketch "
        "FROM aggregator.window_minutes m JOIN aggregator.window_series s ON s.id = m.series_id "
        "WHERE s.organisation = $1 AND s.metric = $2",
        ORGANISATION,
        QUANTILES.key,
    ):
        sketch.merge(merged[group], sketch.decode(raw))
    estimates = {
        (group, name): sketch.quantile(counts, int(name[1:]) / 100)
        for group, counts in merged.items()
        for name in PERCENTILES
    }
    return {asked: estimate for asked, estimate in estimates.items() if estimate is not None}


async def _users_seen(connection: asyncpg.Connection) -> dict[tuple[int, str], Distinct]:
    """Start of the minute and group → who was seen in it."""
    seen: dict[tuple[int, str], Distinct] = {}
    for minute, group, raw in await connection.fetch(
        "SELECT (extract(epoch FROM m.minute) * 1000000)::bigint, m.group_key, m.sketch "
        "FROM aggregator.window_minutes m JOIN aggregator.window_series s ON s.id = m.series_id "
        "WHERE s.organisation = $1 AND s.metric = $2",
        ORGANISATION,
        USERS_SEEN.key,
    ):
        users, known = Distinct.decode(raw), seen.get((minute, group))
        seen[minute, group] = users if known is None else known.union(users)
    return seen


def _over_all(by_minute: dict[tuple[int, str], Distinct]) -> dict[str, Distinct]:
    seen: dict[str, Distinct] = {}
    for (_, group), users in by_minute.items():
        known = seen.get(group)
        seen[group] = users if known is None else known.union(users)
    return seen


async def _reached(connection: asyncpg.Connection) -> dict[str, int]:
    """Stage → how many users reached it; a stage nobody reached has no rows."""
    rows = await connection.fetch(
        "SELECT m.group_key, sum(m.n)::bigint "
        "FROM aggregator.window_minutes m JOIN aggregator.window_series s ON s.id = m.series_id "
        "WHERE s.organisation = $1 AND s.metric = $2 AND s.component = 'stage' GROUP BY 1",
        ORGANISATION,
        FUNNEL.key,
    )
    return dict.fromkeys(STAGES, 0) | {msgspec.json.decode(group)[0]: n for group, n in rows}


async def _moments(connection: asyncpg.Connection, metric: str) -> dict[str, Moments]:
    rows = await connection.fetch(
        "SELECT variant, sum(observations)::bigint, sum(sum), sum(units)::bigint, sum(unit_sum), "
        "sum(unit_sum_squares) FROM aggregator.v1_experiment_totals "
        "WHERE organisation = $1 AND experiment = $2 AND metric = $3 GROUP BY 1",
        ORGANISATION,
        EXPERIMENT,
        metric,
    )
    return {
        variant: Moments(observations, int(added), units, int(unit_sum), int(squares))
        for variant, observations, added, units, unit_sum, squares in rows
    }
