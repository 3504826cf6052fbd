"""Folds a batch of judged events into deltas: what to add to which row."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import polars as pl

from services.aggregator.domain.batch import Batch, Verdicts
from services.aggregator.domain.deltas import Deltas, OrganisationCounters, SeriesCounters, UnitValues, WindowDelta
from services.aggregator.domain.experiment_events import collect_exposures, collect_results, unit_of
from services.aggregator.domain.grouping import Column, group_columns, storable
from services.aggregator.domain.plan import EXPOSURE, RESULT, MeasurePlan, Plan
from services.aggregator.domain.selection import ByKind, rows_of
from services.aggregator.domain.sequences import fold_journey, fold_streak
from services.aggregator.domain.values import scale_many
from shared.clock import MINUTE
from shared.statistics import sketch


def fold(batch: Batch, verdicts: Verdicts, plan: Plan) -> Deltas:
    """Raises nothing for what events hold."""
    deltas = Deltas()
    by_kind: dict[tuple[str, str], list[int]] = defaultdict(list)
    for i, event in enumerate(batch.events):
        by_kind[event.organisation, event.event_type].append(i)
    indices = {kind: np.array(rows, dtype=np.int64) for kind, rows in by_kind.items()}
    _count_organisations(deltas, indices, verdicts)
    for measure in plan.measures:
        _fold_measure(deltas, batch, verdicts, measure, indices)
    for streak in plan.streaks:
        fold_streak(deltas, batch, verdicts, streak, indices)
    for journey in plan.journeys:
        fold_journey(deltas, batch, verdicts, journey, indices)
    for (organisation, event_type), rows in indices.items():
        if event_type == EXPOSURE:
            collect_exposures(deltas, batch, rows[verdicts.counted[rows]].tolist(), organisation, plan)
        elif event_type == RESULT:
            collect_results(deltas, batch, rows[verdicts.counted[rows]].tolist(), organisation, plan)
    return deltas


def _count_organisations(deltas: Deltas, indices: ByKind, verdicts: Verdicts) -> None:
    for (organisation, _), rows in indices.items():
        counters = deltas.organisations.setdefault(organisation, OrganisationCounters())
        counters.events += len(rows)
        counters.counted += int(verdicts.counted[rows].sum())
        counters.late += int(verdicts.late[rows].sum())
        counters.duplicates += int(verdicts.duplicate[rows].sum())


def _fold_measure(
    deltas: Deltas,
    batch: Batch,
    verdicts: Verdicts,
    plan: MeasurePlan,
    indices: ByKind,
) -> None:
    measure = plan.measure
    matching = rows_of(batch.events, plan.definition.organisation, measure.events, measure.where, indices)
    if not len(matching):
        return
    counters = deltas.counters.setdefault(plan.series, SeriesCounters())
    counters.late += int(verdicts.late[matching].sum())
    counters.duplicates += int(verdicts.duplicate[matching].sum())
    rows = matching[verdicts.counted[matching]]
    if not len(rows):
        return
    events = [batch.events[i] for i in rows.tolist()]
    values: npt.NDArray[np.int64] | None = None
    if measure.value is not None:
        scaled, usable, invalid = scale_many(measure.value.read(events), plan.series.scale)
        counters.invalid += int(invalid.sum())
        if not usable.all():
            rows, scaled = rows[usable], scaled[usable]
            events = [e for e, keep in zip(events, usable.tolist(), strict=True) if keep]
        values = scaled
    groups = group_columns(events, plan.definition.group_by)
    kept_rows = storable(groups, len(events))
    if kept_rows is not None:
        counters.invalid += int((~kept_rows).sum())
        rows = rows[kept_rows]
        values = None if values is None else values[kept_rows]
        events = [e for e, keep in zip(events, kept_rows.tolist(), strict=True) if keep]
        groups = [[g for g, keep in zip(column, kept_rows.tolist(), strict=True) if keep] for column in groups]
    if not len(rows):
        return
    counters.counted += len(rows)
    times = batch.times[rows]
    deltas.windows.extend(_window_deltas(plan, times, values, groups))
    for unit_plan in plan.units:
        until = unit_plan.until
        units = [unit_of(e, unit_plan.unit_kind) for e in events]
        kept = [
            i
            for i, (unit, time) in enumerate(zip(units, times.tolist(), strict=True))
            if unit is not None and (until is None or time <= until)
        ]
        if kept:
            one = 10**plan.series.scale
            deltas.unit_values.append(
                UnitValues(
                    series=unit_plan.series,
                    exposure=unit_plan.exposure,
                    units=[units[i] for i in kept],  # type: ignore[misc]  # kept holds none without unit
                    times=times[kept].tolist(),
                    values=[one] * len(kept) if values is None else values[kept].tolist(),
                )
            )


def _window_deltas(
    plan: MeasurePlan,
    times: npt.NDArray[np.int64],
    values: npt.NDArray[np.int64] | None,
    groups: list[Column],
) -> list[WindowDelta]:
    names = [f"g{i}" for i in range(len(groups))]
    columns: dict[str, Any] = {"minute": times // MINUTE}
    columns.update({n: pl.Series(g, dtype=pl.String) for n, g in zip(names, groups, strict=True)})
    aggregates = [pl.len().alias("n")]
    if values is not None:
        columns["v"] = values
        wide = pl.col("v").cast(pl.Int128)
        aggregates += [
            wide.sum().alias("sum"),
            (wide * wide).sum().alias("squares"),
            pl.col("v").min().alias("min"),
            pl.col("v").max().alias("max"),
        ]
    frame = pl.DataFrame(columns)
    keys = ["minute", *names]
    sketches: dict[tuple[Any, ...], sketch.Counts] = defaultdict(dict)
    if values is not None and plan.definition.sketched:
        bucketed = frame.with_columns(pl.Series("bucket", sketch.buckets_of(values)))
        for *place, bucket, count in bucketed.group_by([*keys, "bucket"]).agg(pl.len()).rows():
            sketches[tuple(place)][bucket] = count
    deltas = []
    for row in frame.group_by(keys).agg(aggregates).rows():
        key = tuple(row[: len(keys)])
        n, total, squares, low, high = row[len(keys) :] if values is not None else (row[-1], 0, 0, None, None)
        deltas.append(
            WindowDelta(
                series=plan.series,
                minute=key[0] * MINUTE,
                group=msgspec.json.encode(list(key[1:])).decode(),
                n=n,
                sum=int(total),
                sum_squares=int(squares),
                min=low,
                max=high,
                sketch=sketches.get(key, {}),
            )
        )
    return deltas
