"""What the API reads from Postgres of experiments: a metric's totals by variant, and cut by segments of units."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

from services.aggregator.cuts import EXPOSURES, MEMORY, Cut, largest
from services.aggregator.domain.kinds.kind import Cell
from services.aggregator.domain.states import decode, merged
from services.aggregator.unit_queries import UnitQueries
from shared.postgres import Pool


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
    version: int
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
        SELECT t.variant, s.version, s.component, s.part, s.scale,
               sum(t.observations)::bigint AS n, sum(t.sum) AS sum,
               CASE WHEN bool_and(t.sum_squares IS NOT NULL) THEN sum(t.sum_squares) END AS sum_squares,
               min(t.min) AS min, max(t.max) AS max, array_agg(t.state) AS states,
               sum(t.units)::bigint AS units, sum(t.unit_sum) AS unit_sum, sum(t.unit_sum_squares) AS unit_squares,
               sum(t.other_sum) AS other, sum(t.other_sum_squares) AS other_squares, sum(t.cross_sum) AS products
        FROM experiment_totals t JOIN ({_NEWEST}) s ON s.id = t.series_id GROUP BY 1, 2, 3, 4, 5
    )
    SELECT t.*, coalesce(e.units, 0) AS exposed, coalesce(e.conflicted, 0) AS conflicted
    FROM totals t LEFT JOIN exposed e USING (variant) ORDER BY t.variant, t.component, t.part
"""
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


class ExperimentQueries:
    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self.units = UnitQueries(pool)

    async def totals(self, organisation: str, experiment: str, metric: str) -> list[VariantTotals]:
        """Of the metric's latest version, all shards together, by variant, component and part."""
        rows = await self._pool.fetch(_TOTALS, organisation, experiment, metric)
        return [_totals(row) for row in rows]

    async def segments(self, organisation: str, experiment: str, metric: str, path: str) -> list[VariantTotals]:
        """The same, cut by what units' earliest exposures said at `path`; read from every unit's rows."""
        async with self._pool.acquire() as connection, connection.transaction(isolation="repeatable_read"):
            series = await connection.fetch(_NEWEST, organisation, experiment, metric)
            exposures = await connection.fetchval(EXPOSURES, organisation, experiment)
            if not series or exposures is None:
                return []
            await connection.execute(MEMORY)
            exposed = {_cut(row): row for row in await connection.fetch(_EXPOSED, exposures, path)}
            rows = {
                (s["component"], s["part"]): await connection.fetch(
                    _SEGMENTS, exposures, s["id"], path, s["lower"], s["upper"]
                )
                for s in series
                if s["component"] != "denominator"
            }
        sides = {names: {_cut(row): row for row in of_side} for names, of_side in rows.items()}
        sizes = {cut: (row["units"] or 0) + (row["conflicted"] or 0) for cut, row in exposed.items()}
        return [
            _segment(
                s, cut, exposed[cut], sides.get((s["component"].replace("denominator", "numerator"), s["part"]), {})
            )
            for cut in largest(sizes)
            for s in sorted(series, key=itemgetter("component", "part"))
        ]


def _cut(row: Any) -> Cut:
    return Cut(row["variant"], row["segment"])


def _totals(row: Any) -> VariantTotals:
    known = row["sum_squares"] is not None
    cell = Cell(row["n"], int(row["sum"]), int(row["sum_squares"]) if known else 0, row["min"], row["max"])
    for raw in row["states"]:
        cell.state = merged(cell.state, decode(raw))
    moments = _moments(row["units"], [row[name] for name in _MOMENTS])
    return VariantTotals(
        row["variant"],
        row["version"],
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


def _segment(series: Any, cut: Cut, exposed: Any, sides: Mapping[Cut, Any]) -> VariantTotals:
    row = sides.get(cut, _NOTHING)
    other = series["component"] == "denominator"
    cell = Cell(row["m"] if other else row["n"], int(row["y"] if other else row["total"]))
    sums = [row["y"], row["yy"], 0, 0, 0] if other else [row[name] for name in ("x", "xx", "y", "yy", "xy")]
    return VariantTotals(
        cut.variant,
        series["version"],
        series["component"],
        series["part"],
        series["scale"],
        cut.segment,
        cell,
        False,
        _moments(row["other_units"] if other else row["units"], sums),
        exposed["units"] or 0,
        exposed["conflicted"] or 0,
    )


_NOTHING = dict.fromkeys(("n", "total", "m", "units", "other_units", "x", "xx", "y", "yy", "xy"), 0)


def _moments(units: int, sums: Iterable[Any]) -> UnitMoments:
    return UnitMoments(units, *map(int, sums))
