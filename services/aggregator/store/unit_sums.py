"""Sums of units, and what a change of them does to Σ and Σ² over the units of a variant: new less old, exactly."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any

import numpy as np
import numpy.typing as npt

from services.aggregator.domain.attribution import AddedRows, Change
from services.aggregator.domain.plan import UnitSeries
from services.aggregator.domain.unit_values import UnitRows
from services.aggregator.domain.variant_totals import Totals
from services.aggregator.store.arrays import numbers, texts
from services.aggregator.store.series import SeriesIds
from services.aggregator.store.unit_states import KnownSeries
from shared.postgres import Connection

_AS_THEY_ARE = "SELECT * FROM changed"
_CLIPPED = """
    SELECT c.series_id, c.variant, c.conflicted, c.place, c.n0, c.n1, c.m0, c.m1, c.y0, c.y1,
           CASE WHEN c.n0 > 0 THEN least(greatest(c.x0, s.lower), s.upper) ELSE 0 END AS x0,
           CASE WHEN c.n1 > 0 THEN least(greatest(c.x1, s.lower), s.upper) ELSE 0 END AS x1
    FROM changed c JOIN experiment_series s ON s.id = c.series_id
"""
_MOMENTS = """
    SELECT series_id, variant, conflicted, array_agg(place),
           count(*) FILTER (WHERE n1 > 0) - count(*) FILTER (WHERE n0 > 0), sum(x1 - x0), sum(x1 * x1 - x0 * x0),
           {other}
    FROM ({rows}) AS c GROUP BY 1, 2, 3
"""
_OTHER = """
    count(*) FILTER (WHERE m1 > 0) - count(*) FILTER (WHERE m0 > 0), sum(y1 - y0), sum(y1 * y1 - y0 * y0),
    sum(x1 * y1 - x0 * y0)
"""
_NO_OTHER = "0, 0, 0, 0"
_ADDED = """
    RETURNING d.place::int AS place, v.series_id, new.variant, new.conflicted,
              old.n AS n0, old.sum AS x0, old.other_n AS m0, old.other AS y0,
              new.n AS n1, new.sum AS x1, new.other_n AS m1, new.other AS y1
"""


async def add_to_known(
    connection: Connection, rows: Sequence[UnitRows], ids: SeriesIds, known: KnownSeries, totals: Totals
) -> list[tuple[dict[str, int], npt.NDArray[np.int64]]]:
    """Adds to the rows that exist and whose unit was exposed before all of the batch's values for it.

    For each of `rows`: numbers of variants, and the number of each unit's; −1 where nothing was added.
    """
    placed = sorted(range(len(rows)), key=lambda i: ids.unit(rows[i].series))
    ordered = [rows[i] for i in placed]
    paired = any(r.other_n.any() for r in ordered)
    columns: list[list[int]] = [
        [series_id for r in ordered for series_id in [ids.unit(r.series)] * len(r.units)],
        np.concatenate([r.first for r in ordered]).tolist(),
        np.concatenate([r.n for r in ordered]).tolist(),
        [v for r in ordered for v in r.sum],
    ]
    if paired:
        columns.append(np.concatenate([r.other_n for r in ordered]).tolist())
        columns.append([v for r in ordered for v in r.other])
    found = await connection.fetch(
        f"""
        WITH changed AS (
            UPDATE unit_values v SET n = v.n + d.n, sum = v.sum + d.sum
                {", other_n = v.other_n + d.other_n, other = v.other + d.other" if paired else ""}
            FROM ROWS FROM (
                json_array_elements_text($1::text::json), unnest($2::text::int[]), unnest($3::text::bigint[]),
                unnest($4::text::bigint[]), unnest($5::text::numeric[])
                {", unnest($6::text::bigint[]), unnest($7::text::numeric[])" if paired else ""}
            ) WITH ORDINALITY AS d (unit, series_id, first, n, sum, {"other_n, other, " if paired else ""}place)
            WHERE v.series_id = d.series_id AND v.unit = d.unit AND v.counts_from <= d.first
            {_ADDED}
        ) {_moments({r.series for r in ordered})}
        """,
        texts([unit for r in ordered for unit in r.units]),
        *map(numbers, columns),
    )
    variants: dict[str, int] = {}
    codes = np.full(len(columns[0]), -1, dtype=np.int64)
    for row in found:
        codes[np.array(row[3]) - 1] = variants.setdefault(row[1], len(variants))
        _note(row, known, totals)
    edges = np.cumsum([len(r.units) for r in ordered])[:-1]
    by_place = dict(zip(placed, np.split(codes, edges), strict=True))
    return [(dict(variants), by_place[i]) for i in range(len(rows))]


async def add_to_rows(
    connection: Connection, added: Sequence[AddedRows], ids: SeriesIds, known: KnownSeries, totals: Totals
) -> None:
    """Adds to rows of units that are locked, and creates those that are missing. No row may be named twice."""
    by_id = sorted(((ids.unit(rows.series), rows) for rows in added if rows.units), key=lambda pair: pair[0])
    if not by_id:
        return
    found = await connection.fetch(
        f"""
        WITH changed AS (
            INSERT INTO unit_values AS v
                (series_id, unit, variant, counts_from, conflicted, n, other_n, sum, other)
            SELECT * FROM ROWS FROM (
                unnest($1::text::int[]), json_array_elements_text($2::text::json),
                json_array_elements_text($3::text::json), unnest($4::text::bigint[]), unnest($5::text::boolean[]),
                unnest($6::text::bigint[]), unnest($7::text::bigint[]),
                unnest($8::text::numeric[]), unnest($9::text::numeric[])) AS d
            ON CONFLICT (series_id, unit) DO UPDATE SET
                n = v.n + excluded.n, sum = v.sum + excluded.sum,
                other_n = v.other_n + excluded.other_n, other = v.other + excluded.other
            RETURNING 0 AS place, new.series_id, new.variant, new.conflicted,
                      coalesce(old.n, 0) AS n0, coalesce(old.sum, 0) AS x0,
                      coalesce(old.other_n, 0) AS m0, coalesce(old.other, 0) AS y0,
                      new.n AS n1, new.sum AS x1, new.other_n AS m1, new.other AS y1
        ) {_moments({rows.series for _, rows in by_id})}
        """,
        numbers([series_id for series_id, rows in by_id for _ in rows.units]),
        texts([unit for _, rows in by_id for unit in rows.units]),
        texts([variant for _, rows in by_id for variant in rows.variants]),
        numbers([state.counts_from for _, rows in by_id for state in rows.states]),
        numbers([state.conflicted for _, rows in by_id for state in rows.states]),
        numbers([n for _, rows in by_id for n in rows.n]),
        numbers([n for _, rows in by_id for n in rows.other_n]),
        numbers([value for _, rows in by_id for value in rows.sum]),
        numbers([value for _, rows in by_id for value in rows.other]),
    )
    for row in found:
        _note(row, known, totals)


async def restate(
    connection: Connection, changes: Collection[Change], ids: SeriesIds, known: KnownSeries, totals: Totals
) -> None:
    """Writes what exposures changed into the units' rows, and takes back what newly conflicted units gave."""
    again = [c for c in changes if c.before.variant is not None]
    if not again:
        return
    rows = await connection.fetch(
        f"""
        WITH restated AS (
            UPDATE unit_values v SET variant = k.variant, counts_from = k.counts_from, conflicted = k.conflicted
            FROM (
                SELECT s.id, k.unit, k.variant, k.counts_from, k.conflicted
                FROM unnest($1::int[], $2::text[], $3::text[], $4::bigint[], $5::boolean[])
                    AS k (exposure_id, unit, variant, counts_from, conflicted)
                JOIN experiment_series e ON e.id = k.exposure_id
                JOIN experiment_series s ON s.organisation = e.organisation AND s.experiment = e.experiment
                ORDER BY s.id, k.unit
            ) AS k
            WHERE v.series_id = k.id AND v.unit = k.unit
            RETURNING v.series_id, old.variant, old.n, old.sum, old.other_n, old.other,
                      new.conflicted AND NOT old.conflicted AS lost
        ), changed AS (
            SELECT series_id, variant, false AS conflicted, 0 AS place, n AS n0, sum AS x0, other_n AS m0,
                   other AS y0, 0 AS n1, 0 AS x1, 0 AS m1, 0 AS y1
            FROM restated WHERE lost
        ) {_MOMENTS.format(rows=_CLIPPED, other=_OTHER)}
        """,
        [ids.unit(c.key[0]) for c in again],
        [c.key[1] for c in again],
        [c.after.variant for c in again],
        [c.after.counts_from for c in again],
        [c.after.conflicted for c in again],
    )
    await known.learn({row[0] for row in rows})
    for row in rows:
        _note(row, known, totals)


def count_exposed(changes: Iterable[Change], totals: Totals) -> None:
    """Exposed units by variant; a conflicted one counts as such, under the variant of its earliest exposure."""
    for _, of_series in groupby(changes, key=lambda change: id(change.key[0])):
        found = list(of_series)
        counts: Counter[tuple[str | None, bool]] = Counter((c.after.variant, c.after.conflicted) for c in found)
        counts.subtract((c.before.variant, c.before.conflicted) for c in found)
        for (variant, conflicted), n in counts.items():
            if variant is None:
                continue
            delta = totals.of(found[0].key[0], variant)
            if conflicted:
                delta.conflicted += n
            else:
                delta.units += n


def _note(row: Any, known: KnownSeries, totals: Totals) -> None:
    """Adds a row of `_MOMENTS`; conflicted units give nothing."""
    series_id, variant, conflicted, _, units, x, xx, other_units, y, yy, xy = row
    if conflicted:
        return
    series = known[series_id]
    delta = totals.of(series, variant)
    delta.units += units
    delta.unit_sum += int(x)
    delta.unit_sum_squares += int(xx)
    delta.other_sum += int(y)
    delta.other_sum_squares += int(yy)
    delta.cross_sum += int(xy)
    if series.component == "numerator" and (other_units or y or yy):
        other = totals.of(replace(series, component="denominator"), variant)
        other.units += other_units
        other.unit_sum += int(y)
        other.unit_sum_squares += int(yy)


def _moments(series: Collection[UnitSeries]) -> str:
    """The cheapest statement that is right for rows of all of them."""
    limited = any(s.by_unit.lower is not None or s.by_unit.upper is not None for s in series)
    paired = any(s.component == "numerator" or s.by_unit.covariate_days for s in series)
    return _MOMENTS.format(rows=_CLIPPED if limited else _AS_THEY_ARE, other=_OTHER if paired else _NO_OTHER)
