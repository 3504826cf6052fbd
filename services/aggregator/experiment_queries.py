"""What the API reads from Postgres of experiments: a metric's totals by variant, and cut by segments of units."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

from services.aggregator.domain.kinds.kind import Cell
from services.aggregator.domain.states import decode, merged
from shared.postgres import Pool

MAX_SEGMENTS = 1_000
"""Of each variant, those with the most units."""


@dataclass(frozen=True, slots=True)
class UnitMoments:
    """Over units of one variant, conflicted ones left out. Sums are scaled, those of squares and products twice."""

    units: int
    sum: int
    sum_squares: int
    other_sum: int
    other_sum_squares: int
    cross_sum: int


@dataclass(frozen=True, slots=True)
class VariantTotals:
    """`events` is over events and includes conflicted units; in a segment it leaves them out, as it is made of units.

    `exposed` and `conflicted` count the variant's units, with or without a value.
    """

    variant: str
    component: str
    part: str
    scale: int
    segment: str | None
    events: Cell
    squares_known: bool
    moments: UnitMoments
    exposed: int
    conflicted: int


_NEWEST = """
    SELECT s.* FROM experiment_series s
    WHERE s.organisation = $1 AND s.experiment = $2 AND s.metric = $3 AND s.version = (
        SELECT max(version) FROM experiment_series WHERE organisation = $1 AND experiment = $2 AND metric = $3)
"""
_TOTALS = f"""
    WITH exposed AS (
        SELECT t.variant, sum(t.units)::bigint AS units, sum(t.conflicted)::bigint AS conflicted
        FROM experiment_totals t JOIN experiment_series s ON s.id = t.series_id
        WHERE s.organisation = $1 AND s.experiment = $2 AND s.metric = '' GROUP BY 1
    ), totals AS (
        SELECT t.variant, s.component, s.part, s.scale, sum(t.observations)::bigint AS n, sum(t.sum) AS sum,
               CASE WHEN bool_and(t.sum_squares IS NOT NULL) THEN sum(t.sum_squares) END AS sum_squares,
               min(t.min) AS min, max(t.max) AS max, array_agg(t.state) AS states,
               sum(t.units)::bigint AS units, sum(t.unit_sum) AS unit_sum, sum(t.unit_sum_squares) AS unit_squares,
               sum(t.other_sum) AS other, sum(t.other_sum_squares) AS other_squares, sum(t.cross_sum) AS products
        FROM experiment_totals t JOIN ({_NEWEST}) s ON s.id = t.series_id GROUP BY 1, 2, 3, 4
    )
    SELECT t.*, coalesce(e.units, 0) AS exposed, coalesce(e.conflicted, 0) AS conflicted
    FROM totals t LEFT JOIN exposed e USING (variant) ORDER BY t.variant, t.component, t.part
"""
_EXPOSURES = "SELECT id, unit_kind FROM experiment_series WHERE organisation = $1 AND experiment = $2 AND metric = ''"
_MEMORY = "SET LOCAL work_mem = '64MB'"
"""Holds a million units."""
# Contexts are few compared with units: rows are added up by them first, and each is taken apart once.
_EXPOSED = """
    SELECT variant, context::json ->> $2 AS segment, sum(units) FILTER (WHERE NOT conflicted)::bigint AS units,
           sum(units) FILTER (WHERE conflicted)::bigint AS conflicted
    FROM (SELECT variant, context, conflicted, count(*) AS units FROM experiment_units
          WHERE series_id = $1 AND variant IS NOT NULL GROUP BY 1, 2, 3) AS u
    GROUP BY 1, 2
"""
_SEGMENTS = """
    SELECT variant, context::json ->> $3 AS segment, sum(n)::bigint AS n, sum(total) AS total, sum(m)::bigint AS m,
           sum(units)::bigint AS units, sum(other_units)::bigint AS other_units,
           sum(x) AS x, sum(xx) AS xx, sum(y) AS y, sum(yy) AS yy, sum(xy) AS xy
    FROM (
        SELECT v.variant, u.context, sum(v.n) AS n, sum(v.sum) AS total, sum(v.other_n) AS m,
               count(*) FILTER (WHERE v.n > 0) AS units, count(*) FILTER (WHERE v.other_n > 0) AS other_units,
               sum(c.x) AS x, sum(c.x * c.x) AS xx, sum(v.other) AS y, sum(v.other * v.other) AS yy,
               sum(c.x * v.other) AS xy
        FROM unit_values v JOIN experiment_units u ON u.unit = v.unit
        CROSS JOIN LATERAL (
            SELECT CASE WHEN v.n > 0 THEN least(greatest(v.sum, $4::bigint), $5::bigint) ELSE 0 END AS x) AS c
        WHERE u.series_id = $1 AND v.series_id = $2 AND NOT v.conflicted
        GROUP BY 1, 2) AS of_context
    GROUP BY 1, 2
"""


# Journeys and funnels are cut by whom their earliest start belonged to, from its exposure on.
_STATES = """
    SELECT u.variant, u.segment, f.state, count(*) FILTER (WHERE NOT u.conflicted) AS n,
           count(*) FILTER (WHERE u.conflicted) AS conflicted,
           count(f.duration) FILTER (WHERE NOT u.conflicted) AS timed,
           sum(f.duration) FILTER (WHERE NOT u.conflicted) AS duration,
           sum(f.duration::numeric * f.duration) FILTER (WHERE NOT u.conflicted) AS squares
    FROM unit_facts f JOIN window_series s ON s.id = f.series_id
    JOIN LATERAL (
        SELECT u.variant, u.conflicted, u.context::json ->> $5 AS segment FROM experiment_units u
        WHERE u.series_id = $4 AND u.variant IS NOT NULL AND f.started >= u.first_exposure - 5000000
          AND u.unit = CASE $6 WHEN 'user' THEN f.user_id WHEN 'session' THEN f.session_id ELSE f.job_id END
    ) AS u ON true
    WHERE s.organisation = $1 AND s.metric = $2 AND s.version = $3 AND s.visible
      AND f.track = '' AND f.started IS NOT NULL
    GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
"""


@dataclass(frozen=True, slots=True)
class StateTotals:
    """Units of journeys or funnels in one state. Durations are scaled milliseconds, of the `timed` ones."""

    variant: str
    segment: str | None
    state: str
    n: int
    conflicted: int
    timed: int
    duration: int
    duration_squares: int


class ExperimentQueries:
    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def totals(self, organisation: str, experiment: str, metric: str) -> list[VariantTotals]:
        """Of the metric's latest version, all shards together, by variant, component and part."""
        rows = await self._pool.fetch(_TOTALS, organisation, experiment, metric)
        return [_totals(row) for row in rows]

    async def states(
        self, organisation: str, experiment: str, metric: str, version: int, path: str | None
    ) -> list[StateTotals]:
        """How many of a journey's or funnel's units that started after their exposure are in which state."""
        exposures = await self._pool.fetchrow(_EXPOSURES, organisation, experiment)
        if exposures is None:
            return []
        rows = await self._pool.fetch(
            _STATES, organisation, metric, version, exposures["id"], path or "", exposures["unit_kind"]
        )
        return [
            StateTotals(
                variant=r["variant"],
                segment=r["segment"],
                state=r["state"],
                n=r["n"],
                conflicted=r["conflicted"],
                timed=r["timed"],
                duration=int(r["duration"] or 0),
                duration_squares=int(r["squares"] or 0),
            )
            for r in rows
        ]

    async def segments(self, organisation: str, experiment: str, metric: str, path: str) -> list[VariantTotals]:
        """The same, cut by what units' earliest exposures said at `path`; read from every unit's rows."""
        async with self._pool.acquire() as connection, connection.transaction(isolation="repeatable_read"):
            series = await connection.fetch(_NEWEST, organisation, experiment, metric)
            exposures = await connection.fetchval(_EXPOSURES, organisation, experiment)
            if not series or exposures is None:
                return []
            await connection.execute(_MEMORY)
            exposed = await connection.fetch(_EXPOSED, exposures, path)
            rows = {
                (s["component"], s["part"]): await connection.fetch(
                    _SEGMENTS, exposures, s["id"], path, s["lower"], s["upper"]
                )
                for s in series
                if s["component"] != "denominator"
            }
        sides = {names: {(r["variant"], r["segment"]): r for r in of_side} for names, of_side in rows.items()}
        return [
            _segment(s, e, sides.get((s["component"].replace("denominator", "numerator"), s["part"]), {}))
            for e in _largest(exposed)
            for s in sorted(series, key=itemgetter("component", "part"))
        ]


def _largest(exposed: Iterable[Any]) -> list[Any]:
    ranked = sorted(exposed, key=lambda e: (-(e["units"] or 0) - (e["conflicted"] or 0), e["segment"] or ""))
    kept: list[Any] = []
    for variant in sorted({e["variant"] for e in ranked}):
        kept += [e for e in ranked if e["variant"] == variant][:MAX_SEGMENTS]
    return sorted(kept, key=lambda e: (e["variant"], e["segment"] is not None, e["segment"] or ""))


def _totals(row: Any) -> VariantTotals:
    known = row["sum_squares"] is not None
    cell = Cell(row["n"], int(row["sum"]), int(row["sum_squares"]) if known else 0, row["min"], row["max"])
    for raw in row["states"]:
        cell.state = merged(cell.state, decode(raw))
    moments = _moments(row["units"], [row[name] for name in _MOMENTS])
    return VariantTotals(
        row["variant"],
        row["component"],
        row["part"],
        row["scale"],
        None,
        cell,
        known,
        moments,
        row["exposed"],
        row["conflicted"],
    )


_MOMENTS = ("unit_sum", "unit_squares", "other", "other_squares", "products")


def _segment(series: Any, exposed: Any, sides: Mapping[tuple[str, str | None], Any]) -> VariantTotals:
    row = sides.get((exposed["variant"], exposed["segment"]), _NOTHING)
    other = series["component"] == "denominator"
    cell = Cell(row["m"] if other else row["n"], int(row["y"] if other else row["total"]))
    sums = [row["y"], row["yy"], 0, 0, 0] if other else [row[name] for name in ("x", "xx", "y", "yy", "xy")]
    return VariantTotals(
        exposed["variant"],
        series["component"],
        series["part"],
        series["scale"],
        exposed["segment"],
        cell,
        False,
        _moments(row["other_units"] if other else row["units"], sums),
        exposed["units"] or 0,
        exposed["conflicted"] or 0,
    )


_NOTHING = dict.fromkeys(("n", "total", "m", "units", "other_units", "x", "xx", "y", "yy", "xy"), 0)


def _moments(units: int, sums: Iterable[Any]) -> UnitMoments:
    return UnitMoments(units, *map(int, sums))
