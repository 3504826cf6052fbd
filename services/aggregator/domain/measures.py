"""Folds one measure: its events' values, summed up by minute and group, and by unit for experiments."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import polars as pl

from services.aggregator.domain.counting import take_counted
from services.aggregator.domain.deltas import Deltas, WindowDelta
from services.aggregator.domain.frame import Frame
from services.aggregator.domain.grouping import Column, group_columns, storable
from services.aggregator.domain.plan import MeasurePlan
from services.aggregator.domain.states import Histogram
from services.aggregator.domain.unit_values import collect_unit_values
from services.aggregator.domain.values import scale_many
from shared.clock import MINUTE
from shared.statistics import sketch


def fold_measure(deltas: Deltas, frame: Frame, plan: MeasurePlan) -> None:
    measure = plan.measure
    matching = frame.rows(plan.definition.organisation, measure.select)
    rows = take_counted(deltas, frame, plan.series, matching)
    if not len(rows):
        return
    counters = deltas.counters[plan.series]
    values: npt.NDArray[np.int64] | None = None
    if measure.value is not None:
        values, usable, invalid = scale_many(frame.values(measure.value, rows.tolist()), plan.series.scale)
        counters.invalid += int(invalid.sum())
        rows, values = rows[usable], values[usable]
    groups = group_columns([frame.events[i] for i in rows.tolist()], plan.definition.group_by)
    kept = storable(groups, len(rows))
    if kept is not None:
        counters.invalid += int((~kept).sum())
        rows = rows[kept]
        values = None if values is None else values[kept]
        groups = [[g for g, keep in zip(column, kept.tolist(), strict=True) if keep] for column in groups]
    if not len(rows):
        return
    counters.counted += len(rows)
    deltas.windows.extend(_window_deltas(plan, frame.times[rows], values, groups))
    for unit_plan in plan.units:
        collect_unit_values(deltas, frame, unit_plan, rows, values)


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
    histograms: defaultdict[tuple[Any, ...], Histogram] = defaultdict(Histogram)
    if values is not None and plan.measure.sketched:
        bucketed = frame.with_columns(pl.Series("bucket", sketch.buckets_of(values)))
        for *place, bucket, count in bucketed.group_by([*keys, "bucket"]).agg(pl.len()).rows():
            histograms[tuple(place)].counts[bucket] = count
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
                state=histograms.get(key),
            )
        )
    return deltas
