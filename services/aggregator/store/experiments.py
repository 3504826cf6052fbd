"""Units, their sums and the totals of variants, moved under the lock of each unit's row.

Writers of several shards meet here, so every statement takes its rows in key order, and tables come in one order:
units, waiting, sums, totals. Only totals are a shard's own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from services.aggregator.domain.attribution import (
    Attribution,
    Totals,
    TotalsDelta,
    UnitKey,
    UnitState,
    Waiting,
    attribute,
    counts_from,
    earliest,
)
from services.aggregator.domain.deltas import Deltas
from services.aggregator.domain.plan import UnitSeries
from services.aggregator.store.series import SeriesIds
from shared.postgres import Connection


@dataclass(frozen=True, slots=True)
class TotalsState:
    """A variant's totals of one series in this shard after a batch."""

    series: UnitSeries
    variant: str
    observations: int
    min: int | None
    max: int | None
    units: int
    unit_sum: int
    unit_sum_squares: int


@dataclass(frozen=True, slots=True)
class _Change:
    """What the batch's exposures did to one unit."""

    key: UnitKey
    before: UnitState
    after: UnitState


def unit_series(deltas: Deltas) -> set[UnitSeries]:
    """Every series that applying the deltas needs an id for."""
    wanted = {e.series for e in deltas.exposures} | {r.series for r in deltas.unitless}
    for values in deltas.unit_values:
        wanted |= {values.series, values.exposure}
    return wanted


async def apply_units(
    connection: Connection, shard: int, revision: int, deltas: Deltas, ids: SeriesIds
) -> list[TotalsState]:
    """Applies exposures and values and returns the totals that changed, as they then are."""
    if not (deltas.exposures or deltas.unit_values or deltas.unitless):
        return []
    exposed = earliest(deltas.exposures)
    touched = {(v.exposure, unit) for v in deltas.unit_values for unit in v.units} | exposed.keys()
    series_of = {ids.unit(s): s for s in unit_series(deltas)}
    changes = await _lock_units(connection, touched, exposed, ids, series_of)
    states = await _read_units(connection, touched, ids, series_of)
    taken_over = await _take_over(connection, changes, ids, series_of)
    attribution = attribute(deltas.unit_values, taken_over, deltas.unitless, states)
    totals = attribution.totals
    await _keep_waiting(connection, attribution.waiting, ids)
    await _take_back(connection, [c for c in changes if c.after.conflicted and not c.before.conflicted], totals, ids)
    _count_exposed(changes, totals)
    await _add_to_units(connection, attribution, ids, series_of)
    return await _add_to_totals(connection, shard, revision, totals, ids)


async def _lock_units(
    connection: Connection,
    touched: Iterable[UnitKey],
    exposed: Mapping[UnitKey, UnitState],
    ids: SeriesIds,
    series_of: Mapping[int, UnitSeries],
) -> list[_Change]:
    """Creates and locks every unit's row. A row that no exposure changes is locked without being rewritten."""
    keys = sorted((ids.unit(series), unit) for series, unit in touched)
    states = [exposed.get((series_of[s], unit)) for s, unit in keys]
    rows = await connection.fetch(
        """
        INSERT INTO experiment_units AS u (series_id, unit, variant, first_exposure, conflicted)
        SELECT * FROM unnest($1::int[], $2::text[], $3::text[], $4::bigint[], $5::boolean[])
        ON CONFLICT (series_id, unit) DO UPDATE SET
            variant = CASE WHEN u.variant IS NULL
                             OR (excluded.first_exposure, excluded.variant COLLATE "C")
                              < (u.first_exposure, u.variant COLLATE "C")
                           THEN excluded.variant ELSE u.variant END,
            first_exposure = least(u.first_exposure, excluded.first_exposure),
            conflicted = u.conflicted OR excluded.conflicted OR coalesce(u.variant <> excluded.variant, false)
        WHERE excluded.variant IS NOT NULL
        RETURNING new.series_id, new.unit, old.variant, old.first_exposure, coalesce(old.conflicted, false),
                  new.variant, new.first_exposure, new.conflicted
        """,
        [k[0] for k in keys],
        [k[1] for k in keys],
        [s and s.variant for s in states],
        [s and s.first_exposure for s in states],
        [s is not None and s.conflicted for s in states],
    )
    return [
        _Change((series_of[row[0]], row[1]), UnitState(*row[2:5]), UnitState(*row[5:8]))
        for row in rows
        if tuple(row[2:5]) != tuple(row[5:8])
    ]


async def _read_units(
    connection: Connection, touched: Iterable[UnitKey], ids: SeriesIds, series_of: Mapping[int, UnitSeries]
) -> dict[UnitKey, UnitState]:
    """A statement of its own: only a snapshot taken after the locks shows what their former holders committed."""
    keys = [(ids.unit(series), unit) for series, unit in touched]
    rows = await connection.fetch(
        "SELECT u.series_id, u.unit, u.variant, u.first_exposure, u.conflicted FROM experiment_units u "
        "JOIN unnest($1::int[], $2::text[]) AS k (series_id, unit) USING (series_id, unit)",
        [k[0] for k in keys],
        [k[1] for k in keys],
    )
    return {(series_of[s], unit): UnitState(v, first, conflicted) for s, unit, v, first, conflicted in rows}


async def _take_over(
    connection: Connection, changes: Sequence[_Change], ids: SeriesIds, series_of: dict[int, UnitSeries]
) -> list[Waiting]:
    """What waited and now counts, because a unit was exposed, or earlier than we knew."""
    moved = [c for c in changes if c.before.first_exposure != c.after.first_exposure]
    if not moved:
        return []
    rows = await connection.fetch(
        "DELETE FROM unit_waiting w USING unnest($1::int[], $2::text[], $3::bigint[]) AS k (series_id, unit, start) "
        "WHERE w.exposure_series_id = k.series_id AND w.unit = k.unit AND w.time >= k.start "
        "RETURNING w.exposure_series_id, w.unit, w.series_id, w.time, w.value",
        [ids.unit(c.key[0]) for c in moved],
        [c.key[1] for c in moved],
        [counts_from(c.after) for c in moved],
    )
    await _learn_series(connection, {row[2] for row in rows} - series_of.keys(), series_of, ids)
    return [Waiting(series_of[e], unit, series_of[s], time, value) for e, unit, s, time, value in rows]


async def _learn_series(
    connection: Connection, unknown: Iterable[int], series_of: dict[int, UnitSeries], ids: SeriesIds
) -> None:
    """Series that values waited under, but that this batch does not name."""
    missing = sorted(unknown)
    if not missing:
        return
    rows = await connection.fetch(
        "SELECT id, organisation, experiment, metric, version, component, scale FROM experiment_series "
        "WHERE id = ANY($1::int[])",
        missing,
    )
    found = {row[0]: UnitSeries(*row[1:]) for row in rows}
    await ids.register_units(connection, found.values())
    series_of.update(found)


async def _keep_waiting(connection: Connection, waiting: Sequence[Waiting], ids: SeriesIds) -> None:
    if waiting:
        await connection.copy_records_to_table(
            "unit_waiting",
            schema_name="aggregator",
            columns=("exposure_series_id", "unit", "series_id", "time", "value"),
            records=[(ids.unit(w.exposure), w.unit, ids.unit(w.series), w.time, w.value) for w in waiting],
        )


async def _take_back(connection: Connection, changes: Sequence[_Change], totals: Totals, ids: SeriesIds) -> None:
    """Subtracts what newly conflicted units gave to their variant's unit sums."""
    if not changes:
        return
    rows = await connection.fetch(
        """
        SELECT s.organisation, s.experiment, s.metric, s.version, s.component, s.scale, k.variant,
               count(*), sum(v.sum), sum(v.sum * v.sum)
        FROM unnest($1::int[], $2::text[], $3::text[]) AS k (exposure_id, unit, variant)
        JOIN experiment_series e ON e.id = k.exposure_id
        JOIN experiment_series s ON s.organisation = e.organisation AND s.experiment = e.experiment
        JOIN unit_values v ON v.series_id = s.id AND v.unit = k.unit
        GROUP BY 1, 2, 3, 4, 5, 6, 7
        """,
        [ids.unit(c.key[0]) for c in changes if c.before.variant],
        [c.key[1] for c in changes if c.before.variant],
        [c.before.variant for c in changes if c.before.variant],
    )
    await ids.register_units(connection, [UnitSeries(*row[:6]) for row in rows])
    for *names, variant, units, total, squares in rows:
        delta = totals.setdefault((UnitSeries(*names), variant), TotalsDelta())
        delta.units -= units
        delta.unit_sum -= int(total)
        delta.unit_sum_squares -= int(squares)


def _count_exposed(changes: Iterable[_Change], totals: Totals) -> None:
    """Exposed units by variant; a conflicted one counts as such instead."""
    for change in changes:
        series = change.key[0]
        before, after = change.before, change.after
        assert after.variant is not None
        if before.variant is not None and not before.conflicted and after.conflicted:
            totals.setdefault((series, before.variant), TotalsDelta()).units -= 1
        if after.conflicted and not before.conflicted:
            totals.setdefault((series, after.variant), TotalsDelta()).conflicted += 1
        elif before.variant is None and not after.conflicted:
            totals.setdefault((series, after.variant), TotalsDelta()).units += 1


async def _add_to_units(
    connection: Connection, attribution: Attribution, ids: SeriesIds, series_of: Mapping[int, UnitSeries]
) -> None:
    """Adds to units' sums; what that does to Σx and Σx² over units goes to the totals."""
    if not attribution.sums:
        return
    keyed = sorted((ids.unit(series), unit, series) for series, unit in attribution.sums)
    rows = await connection.fetch(
        """
        WITH incoming AS (
            SELECT * FROM unnest($1::int[], $2::text[], $3::bigint[], $4::numeric[], $5::text[], $6::boolean[])
                AS d (series_id, unit, n, sum, variant, conflicted)
        ), added AS (
            INSERT INTO unit_values AS v (series_id, unit, n, sum)
            SELECT series_id, unit, n, sum FROM incoming ORDER BY series_id, unit
            ON CONFLICT (series_id, unit) DO UPDATE SET n = v.n + excluded.n, sum = v.sum + excluded.sum
            RETURNING new.series_id, new.unit, old.n IS NULL AS first,
                      coalesce(old.sum, 0) AS before, new.sum AS after
        )
        SELECT series_id, variant, count(*) FILTER (WHERE first), sum(after - before),
               sum(after * after - before * before)
        FROM added JOIN incoming USING (series_id, unit)
        WHERE NOT conflicted
        GROUP BY series_id, variant
        """,
        [k[0] for k in keyed],
        [k[1] for k in keyed],
        [attribution.sums[k[2], k[1]].n for k in keyed],
        [attribution.sums[k[2], k[1]].sum for k in keyed],
        [attribution.variants[k[2], k[1]] for k in keyed],
        [(k[2], k[1]) in attribution.conflicted for k in keyed],
    )
    by_id = {k[0]: k[2] for k in keyed}
    for series_id, variant, units, total, squares in rows:
        delta = attribution.totals.setdefault((by_id[series_id], variant), TotalsDelta())
        delta.units += units
        delta.unit_sum += int(total)
        delta.unit_sum_squares += int(squares)


async def _add_to_totals(
    connection: Connection, shard: int, revision: int, totals: Totals, ids: SeriesIds
) -> list[TotalsState]:
    keys = sorted(totals, key=lambda k: (ids.unit(k[0]), k[1]))
    deltas = [totals[k] for k in keys]
    rows = await connection.fetch(
        """
        INSERT INTO experiment_totals AS t
            (series_id, variant, shard, observations, sum, min, max, units, unit_sum, unit_sum_squares,
             conflicted, revision)
        SELECT series_id, variant, $1, observations, sum, min, max, units, unit_sum, unit_sum_squares, conflicted, $2
        FROM unnest($3::int[], $4::text[], $5::bigint[], $6::numeric[], $7::bigint[], $8::bigint[], $9::bigint[],
                    $10::numeric[], $11::numeric[], $12::bigint[])
            AS d (series_id, variant, observations, sum, min, max, units, unit_sum, unit_sum_squares, conflicted)
        ON CONFLICT (series_id, variant, shard) DO UPDATE SET
            observations = t.observations + excluded.observations, sum = t.sum + excluded.sum,
            min = least(t.min, excluded.min), max = greatest(t.max, excluded.max),
            units = t.units + excluded.units, unit_sum = t.unit_sum + excluded.unit_sum,
            unit_sum_squares = t.unit_sum_squares + excluded.unit_sum_squares,
            conflicted = t.conflicted + excluded.conflicted, revision = excluded.revision, updated_at = now()
        RETURNING variant, observations, min, max, units, unit_sum, unit_sum_squares, series_id
        """,
        shard,
        revision,
        [ids.unit(k[0]) for k in keys],
        [k[1] for k in keys],
        [d.observations for d in deltas],
        [d.sum for d in deltas],
        [d.min for d in deltas],
        [d.max for d in deltas],
        [d.units for d in deltas],
        [d.unit_sum for d in deltas],
        [d.unit_sum_squares for d in deltas],
        [d.conflicted for d in deltas],
    )
    series_of = {ids.unit(k[0]): k[0] for k in keys}
    return [
        TotalsState(series_of[s], variant, n, low, high, units, int(total), int(squares))
        for variant, n, low, high, units, total, squares, s in rows
    ]
