"""Units of experiments, what waits for them, and the locks under which values move.

Writers of several shards meet here. A unit's row in `experiment_units` is the lock for all that depends on its state;
its rows in `unit_values` carry that state, so that a value of a unit that is exposed long since needs no other row.
Rows are taken in key order; those that a batch finds out about late may still deadlock, which is tried again.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from operator import itemgetter

from services.aggregator.domain.attribution import Change, UnitState, Waiting
from services.aggregator.domain.kinds.by_unit import ByUnit
from services.aggregator.domain.plan import UnitSeries, row_series
from services.aggregator.store.arrays import numbers, texts
from services.aggregator.store.series import SeriesIds
from shared.clock import DAY
from shared.postgres import Connection

_first = itemgetter(0)


class KnownSeries:
    """The series of one transaction, by id."""

    def __init__(self, connection: Connection, ids: SeriesIds, series: Collection[UnitSeries]) -> None:
        self._connection = connection
        self._ids = ids
        self._series = {ids.unit(s): s for s in series}

    def __getitem__(self, series_id: int) -> UnitSeries:
        return self._series[series_id]

    async def learn(self, wanted: Collection[int]) -> None:
        """Those that rows are stored under, but that the batch does not name."""
        missing = sorted(set(wanted) - self._series.keys())
        if not missing:
            return
        rows = await self._connection.fetch(
            "SELECT id, organisation, experiment, metric, version, component, scale, part, "
            "lower, upper, covariate_days, sketched, exact_up_to, run_length FROM experiment_series "
            "WHERE id = ANY($1::int[])",
            missing,
        )
        found = {replace(UnitSeries(*row[1:8]), by_unit=ByUnit(*row[8:])) for row in rows}
        found |= {row_series(series) for series in found}
        await self._ids.register_units(self._connection, found)
        self._series.update({self._ids.unit(series): series for series in found})


async def expose(
    connection: Connection, exposed: Mapping[UnitSeries, Mapping[str, UnitState]], ids: SeriesIds, known: KnownSeries
) -> list[Change]:
    """Creates and locks the rows of exposed units. Returns what changed: most exposures repeat what is known."""
    if not exposed:
        return []
    keyed = [
        (series_id, unit, states[unit])
        for series_id, states in sorted(
            ((ids.unit(series), states) for series, states in exposed.items()), key=_first
        )
        for unit in sorted(states)
    ]
    rows = await connection.fetch(
        """
        INSERT INTO experiment_units AS u (series_id, unit, variant, first_exposure, conflicted, context)
        SELECT * FROM ROWS FROM (
            unnest($1::text::int[]), json_array_elements_text($2::text::json),
            json_array_elements_text($3::text::json), unnest($4::text::bigint[]),
            unnest($5::text::boolean[]), json_array_elements_text($6::text::json)) AS d
        ON CONFLICT (series_id, unit) DO UPDATE SET
            (variant, first_exposure, context) = (
                SELECT * FROM (VALUES (excluded.variant, excluded.first_exposure, excluded.context),
                                      (u.variant, u.first_exposure, u.context)) AS c (variant, time, context)
                WHERE variant IS NOT NULL ORDER BY time, variant COLLATE "C", context LIMIT 1),
            conflicted = u.conflicted OR excluded.conflicted OR coalesce(u.variant <> excluded.variant, false)
        WHERE u.variant IS NULL OR excluded.conflicted > u.conflicted
           OR (u.variant <> excluded.variant AND NOT u.conflicted)
           OR (excluded.first_exposure, excluded.variant COLLATE "C", excluded.context)
            < (u.first_exposure, u.variant COLLATE "C", u.context)
        RETURNING new.series_id, new.unit,
                  old.variant, old.first_exposure, coalesce(old.conflicted, false), coalesce(old.context, '{}'),
                  new.variant, new.first_exposure, new.conflicted, new.context
        """,
        numbers([k[0] for k in keyed]),
        texts([k[1] for k in keyed]),
        texts([k[2].variant for k in keyed]),
        numbers([k[2].first_exposure for k in keyed]),
        numbers([k[2].conflicted for k in keyed]),
        texts([k[2].context for k in keyed]),
    )
    return [
        Change((known[series_id], unit), UnitState(v0, t0, lost0, said0), UnitState(v1, t1, lost1, said1))
        for series_id, unit, v0, t0, lost0, said0, v1, t1, lost1, said1 in rows
    ]


async def lock(
    connection: Connection, units: Mapping[UnitSeries, Sequence[str]], ids: SeriesIds, known: KnownSeries
) -> dict[UnitSeries, dict[str, UnitState]]:
    """Creates and locks the rows of the units, ascending by series, and returns their states.

    In two statements: only a snapshot taken after the locks shows what their former holders committed.
    """
    if not units:
        return {}
    by_id = sorted(((ids.unit(series), of_series) for series, of_series in units.items()), key=_first)
    columns = (
        numbers([series_id for series_id, of_series in by_id for _ in of_series]),
        texts([unit for _, of_series in by_id for unit in of_series]),
    )
    given = "ROWS FROM (unnest($1::text::int[]), json_array_elements_text($2::text::json)) AS k (series_id, unit)"
    await connection.execute(
        f"INSERT INTO experiment_units AS u (series_id, unit) SELECT * FROM {given} "
        "ON CONFLICT (series_id, unit) DO UPDATE SET variant = u.variant WHERE false",
        *columns,
    )
    rows = await connection.fetch(
        "SELECT u.series_id, u.unit, u.variant, u.first_exposure, u.conflicted, u.context "
        f"FROM {given} JOIN experiment_units u USING (series_id, unit)",
        *columns,
    )
    states: dict[int, dict[str, UnitState]] = {series_id: {} for series_id, _ in by_id}
    for series_id, unit, variant, first_exposure, conflicted, context in rows:
        states[series_id][unit] = UnitState(variant, first_exposure, conflicted, context)
    return {known[series_id]: found for series_id, found in states.items()}


async def take_over(
    connection: Connection, changes: Collection[Change], ids: SeriesIds, known: KnownSeries
) -> list[Waiting]:
    """What waited and now counts, or makes up another covariate, as units were exposed, or earlier than we knew."""
    moved = [c for c in changes if c.counts_more]
    if not moved:
        return []
    series, units = numbers([ids.unit(c.key[0]) for c in moved]), texts([c.key[1] for c in moved])
    given = (
        "ROWS FROM (unnest($1::text::int[]), json_array_elements_text($2::text::json), unnest($3::text::bigint[])) "
        "AS k (series_id, unit, time) "
    )
    rows = await connection.fetch(
        f"DELETE FROM unit_waiting w USING {given}"
        "WHERE w.exposure_series_id = k.series_id AND w.unit = k.unit AND w.time >= k.time "
        "RETURNING w.exposure_series_id, w.unit, w.series_id, w.time, w.value",
        series,
        units,
        numbers([c.after.counts_from for c in moved]),
    )
    rows += await connection.fetch(
        "SELECT w.exposure_series_id, w.unit, w.series_id, w.time, w.value "
        f"FROM {given}"
        "JOIN unit_waiting w ON w.exposure_series_id = k.series_id AND w.unit = k.unit "
        "JOIN experiment_series s ON s.id = w.series_id "
        "WHERE s.covariate_days > 0 AND w.time >= k.time - s.covariate_days * $4::bigint",
        series,
        units,
        numbers([c.after.first_exposure for c in moved]),
        DAY,
    )
    await known.learn({row[2] for row in rows})
    return [Waiting(known[e], unit, known[s], time, value) for e, unit, s, time, value in rows]


async def keep_waiting(connection: Connection, waiting: Sequence[Waiting], ids: SeriesIds) -> None:
    if waiting:
        await connection.copy_records_to_table(
            "unit_waiting",
            schema_name="aggregator",
            columns=("exposure_series_id", "unit", "series_id", "time", "value"),
            records=[(ids.unit(w.exposure), w.unit, ids.unit(w.series), w.time, w.value) for w in waiting],
        )


async def forget_waiting(connection: Connection, before: int) -> None:
    """Deletes what no exposure that still counts can claim: what lies before `before` (µs), covariates aside.

    And units that were never exposed, once nothing waits for them.
    """
    await connection.execute(
        "DELETE FROM unit_waiting w WHERE w.time < $1 AND w.time < $1 - $2::bigint * coalesce("
        "(SELECT s.covariate_days FROM experiment_series s WHERE s.id = w.series_id), 0)",
        before,
        DAY,
    )
    await connection.execute(
        "DELETE FROM experiment_units u WHERE u.variant IS NULL AND NOT EXISTS "
        "(SELECT FROM unit_waiting w WHERE w.exposure_series_id = u.series_id AND w.unit = u.unit)"
    )
