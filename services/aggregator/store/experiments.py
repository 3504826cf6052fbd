"""Applies a batch's exposures and values to units, and to the totals of variants.

exposures → what they change in units' rows → values of units known to be exposed: one statement for all of them
          → the rest, under their units' locks: they wait, or get rows → totals, which are a shard's own
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from services.aggregator.domain.attribution import AddedRows, UnitKey, UnitState, Waiting, earliest, give
from services.aggregator.domain.deltas import Deltas
from services.aggregator.domain.plan import UnitSeries, row_series
from services.aggregator.domain.states import decode, merged
from services.aggregator.domain.unit_values import UnitRows, unit_rows, units_at
from services.aggregator.domain.variant_totals import Totals, TotalsDelta
from services.aggregator.store import unit_states, unit_sums
from services.aggregator.store.series import SeriesIds
from services.aggregator.store.unit_states import KnownSeries
from shared.postgres import Connection

KEY_ORDER = "SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off; SET LOCAL enable_seqscan = off"
"""Joins keep the order of the keys they are given, in which all writers lock rows, and look each key up.

Also because plans are kept: one made while a table was small would read all of it for each key once it has grown.
"""


@dataclass(frozen=True, slots=True)
class TotalsState:
    """A variant's totals of one series in this shard after a batch. `sum_squares` None: not known of older counts."""

    series: UnitSeries
    variant: str
    observations: int
    min: int | None
    max: int | None
    units: int
    unit_sum: int
    unit_sum_squares: int
    conflicted: int = 0
    sum: int = 0
    sum_squares: int | None = 0
    other_sum: int = 0
    other_sum_squares: int = 0
    cross_sum: int = 0
    sketch: bytes = b""


def unit_series(deltas: Deltas) -> set[UnitSeries]:
    """Every series that applying the deltas needs an id for."""
    wanted = set({id(e.series): e.series for e in deltas.exposures}.values()) | {r.series for r in deltas.unitless}
    for values in deltas.unit_values:
        wanted |= {values.series, values.exposure, row_series(values.series)}
        if values.series.component == "numerator":
            wanted.add(replace(values.series, component="denominator"))
    return wanted


async def apply_units(
    connection: Connection, shard: int, revision: int, deltas: Deltas, ids: SeriesIds
) -> tuple[list[TotalsState], bool]:
    """Applies exposures and values and returns the totals that changed, as they then are.

    And whether exposures changed what is known of a unit: another shard might do it, so it must be durable once told.
    """
    if not (deltas.exposures or deltas.unit_values or deltas.unitless):
        return [], False
    await connection.execute(KEY_ORDER)
    known, totals = KnownSeries(connection, ids, unit_series(deltas)), Totals()
    changes = await unit_states.expose(connection, earliest(deltas.exposures), ids, known)
    await unit_sums.restate(connection, changes, ids, known, totals)
    unit_sums.count_exposed(changes, totals)
    taken_over = await unit_states.take_over(connection, changes, ids, known)
    left, states = await _add_values(connection, unit_rows(deltas.unit_values), ids, known, totals)
    given = give(left, taken_over, states, changes)
    await unit_states.keep_waiting(connection, given.waiting, ids)
    await unit_sums.add_to_rows(connection, given.added_rows(), ids, known, totals)
    for (series, variant), values in given.observed.items():
        totals.observe(series, [variant], np.zeros(len(values), dtype=np.int64), np.array(values, dtype=np.int64))
    totals.observe_unitless(deltas.unitless)
    return await _add_to_totals(connection, shard, revision, totals, ids), bool(changes)


async def _add_values(
    connection: Connection, rows: list[UnitRows], ids: SeriesIds, known: KnownSeries, totals: Totals
) -> tuple[list[Waiting], dict[UnitKey, UnitState]]:
    """Adds what counts of units many at a time: to rows that exist, then to those of units whose every value counts.

    Returns the values of the other units, one by one, and the states of these, which are locked.
    """
    if not rows:
        return [], {}
    placed = await unit_sums.add_to_known(connection, rows, ids, known, totals)
    missing = [np.flatnonzero(codes < 0) for _, codes in placed]
    states = await unit_states.lock(connection, units_at(rows, missing), ids, known)
    added: list[AddedRows] = []
    left: list[Waiting] = []
    for of_series, (variants, codes), places in zip(rows, placed, missing, strict=True):
        if len(places):
            chosen, new = of_series.counting(places, states[of_series.exposure])
            codes[chosen] = [variants.setdefault(variant, len(variants)) for variant in new.variants]
            added.append(new)
        for part, (values, at) in enumerate(of_series.events):
            found = codes[at]
            counts = found >= 0
            if counts.all():
                totals.observe(values.series, list(variants), found, values.values)
            else:
                totals.observe(values.series, list(variants), found[counts], values.values[counts])
                left.extend(of_series.waiting(part, ~counts))
    await unit_sums.add_to_rows(connection, added, ids, known, totals)
    return left, {(value.exposure, value.unit): states[value.exposure][value.unit] for value in left}


async def _add_to_totals(
    connection: Connection, shard: int, revision: int, totals: Totals, ids: SeriesIds
) -> list[TotalsState]:
    await ids.register_units(connection, {series for series, _ in totals.deltas})
    keys = sorted(totals.deltas, key=lambda k: (ids.unit(k[0]), k[1]))
    deltas = [totals.deltas[k] for k in keys]
    names = [ids.unit(k[0]) for k in keys], [k[1] for k in keys]
    await _merge_stored_states(connection, shard, dict(zip(zip(*names, strict=True), deltas, strict=True)))
    rows = await connection.fetch(
        """
        INSERT INTO experiment_totals AS t
            (series_id, variant, shard, observations, sum, sum_squares, min, max, state, units, unit_sum,
             unit_sum_squares, other_sum, other_sum_squares, cross_sum, conflicted, revision)
        SELECT series_id, variant, $1, observations, sum, sum_squares, min, max, state, units, unit_sum,
               unit_sum_squares, other_sum, other_sum_squares, cross_sum, conflicted, $2
        FROM unnest($3::int[], $4::text[], $5::bigint[], $6::numeric[], $7::numeric[], $8::bigint[], $9::bigint[],
                    $10::bytea[], $11::bigint[], $12::numeric[], $13::numeric[], $14::numeric[], $15::numeric[],
                    $16::numeric[], $17::bigint[])
            AS d (series_id, variant, observations, sum, sum_squares, min, max, state, units, unit_sum,
                  unit_sum_squares, other_sum, other_sum_squares, cross_sum, conflicted)
        ON CONFLICT (series_id, variant, shard) DO UPDATE SET
            observations = t.observations + excluded.observations, sum = t.sum + excluded.sum,
            sum_squares = t.sum_squares + excluded.sum_squares,
            min = least(t.min, excluded.min), max = greatest(t.max, excluded.max),
            state = CASE WHEN excluded.state = '' THEN t.state ELSE excluded.state END,
            units = t.units + excluded.units, unit_sum = t.unit_sum + excluded.unit_sum,
            unit_sum_squares = t.unit_sum_squares + excluded.unit_sum_squares,
            other_sum = t.other_sum + excluded.other_sum,
            other_sum_squares = t.other_sum_squares + excluded.other_sum_squares,
            cross_sum = t.cross_sum + excluded.cross_sum,
            conflicted = t.conflicted + excluded.conflicted, revision = excluded.revision, updated_at = now()
        RETURNING series_id, variant, observations, min, max, units, unit_sum, unit_sum_squares, conflicted,
                  sum, sum_squares, other_sum, other_sum_squares, cross_sum, state
        """,
        shard,
        revision,
        *names,
        [d.observations for d in deltas],
        [d.sum for d in deltas],
        [d.sum_squares for d in deltas],
        [d.min for d in deltas],
        [d.max for d in deltas],
        [d.state.encode() if d.state else b"" for d in deltas],
        [d.units for d in deltas],
        [d.unit_sum for d in deltas],
        [d.unit_sum_squares for d in deltas],
        [d.other_sum for d in deltas],
        [d.other_sum_squares for d in deltas],
        [d.cross_sum for d in deltas],
        [d.conflicted for d in deltas],
    )
    series_of = {ids.unit(k[0]): k[0] for k in keys}
    return [totals_state(series_of[row[0]], row[1:]) for row in rows]


def totals_state(series: UnitSeries, columns: Iterable[Any]) -> TotalsState:
    """From the columns in `TotalsState`'s order, numeric ones as decimals."""
    variant, n, low, high, units, x, xx, conflicted, total, squares, y, yy, xy, state = columns
    return TotalsState(
        series,
        variant,
        n,
        low,
        high,
        units,
        int(x),
        int(xx),
        conflicted,
        int(total),
        None if squares is None else int(squares),
        int(y),
        int(yy),
        int(xy),
        state,
    )


async def _merge_stored_states(
    connection: Connection, shard: int, deltas: dict[tuple[int, str], TotalsDelta]
) -> None:
    """Adds to each delta's histogram what its row already holds: rows have one writer, who holds the shard's lock."""
    keys = [key for key, delta in deltas.items() if delta.state is not None]
    if not keys:
        return
    rows = await connection.fetch(
        "SELECT t.series_id, t.variant, t.state FROM experiment_totals t "
        "JOIN unnest($2::int[], $3::text[]) AS k (series_id, variant) USING (series_id, variant) WHERE t.shard = $1",
        shard,
        [k[0] for k in keys],
        [k[1] for k in keys],
    )
    for series_id, variant, raw in rows:
        delta = deltas[series_id, variant]
        delta.state = merged(delta.state, decode(raw))
