"""Folds one measure: its events' values, summed up by minute and group, and by unit for experiments."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from services.aggregator.domain.caps import KnownGroups, Place, other_group, overflowing
from services.aggregator.domain.columns import numbered
from services.aggregator.domain.counting import take_counted
from services.aggregator.domain.deltas import Deltas, SeriesCounters, WindowDelta
from services.aggregator.domain.frame import Frame, Indices
from services.aggregator.domain.grouping import Cells, Grouped, as_text, cells_of, storable_rows, texts_of
from services.aggregator.domain.kinds.measured import Measure
from services.aggregator.domain.plan import MeasurePlan
from services.aggregator.domain.states import AnyState, DistinctSet, Histogram
from services.aggregator.domain.sums import squares_of, sums_of
from services.aggregator.domain.unit_values import collect_parts, collect_unit_values
from services.aggregator.domain.values import INVALID, Mask
from shared.clock import DAY, MINUTE
from shared.statistics import sketch
from shared.statistics.distinct import Distinct, Hashes, hashes_of

Values = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Taken:
    """What counts, in the log's order: rows (repeated where an event names several parts) and what each gives.

    At most one of `values` (scaled numbers) and `hashes` is there; `parts` leads each row's group.
    """

    rows: Indices
    values: Values | None = None
    hashes: Hashes | None = None
    parts: Grouped | None = None

    def kept(self, mask: Mask) -> Taken:
        if mask.all():
            return self
        return Taken(
            self.rows[mask],
            None if self.values is None else self.values[mask],
            None if self.hashes is None else self.hashes[mask],
            None if self.parts is None else self.parts.at(mask),
        )


def fold_measure(deltas: Deltas, frame: Frame, plan: MeasurePlan, known: KnownGroups) -> None:
    matching = frame.rows(plan.definition.organisation, plan.measure.select)
    rows = take_counted(deltas, frame, plan.series, matching) if plan.leads else frame.counted(matching)
    if not len(rows):
        return
    counters = deltas.counters[plan.series]
    taken = _take(frame, plan, rows, counters)
    groups = _groups(frame, plan, taken)
    mask = storable_rows(groups)
    if mask is not None:
        counters.invalid += int(np.count_nonzero(~mask))
        taken, groups = taken.kept(mask), [column.at(mask) for column in groups]
    if not len(taken.rows):
        return
    counters.counted += len(taken.rows)
    minutes = frame.minutes_at(taken.rows)
    if taken.parts is None:
        cells = frame.cells(plan.definition.organisation, plan.definition.group_by, taken.rows)
    else:
        cells = cells_of(minutes, groups)
    if plan.definition.group_by or plan.measure.elements:
        cells = _capped(deltas, known, plan, cells, minutes, groups)
    deltas.windows.extend(_window_deltas(plan, cells, taken))
    for unit_plan in plan.units:
        if plan.measure.elements is None:
            given = taken.values if taken.hashes is None else taken.hashes.view(np.int64)
            collect_unit_values(deltas, frame, unit_plan, taken.rows, given)
        else:
            collect_parts(deltas, frame, unit_plan, taken.rows, cells)


def _take(frame: Frame, plan: MeasurePlan, rows: Indices, counters: SeriesCounters) -> Taken:
    """What the measure takes from its rows. What is there but cannot be used is counted as invalid."""
    measure, organisation = plan.measure, plan.definition.organisation
    if measure.elements is not None:
        places, names, invalid = measure.elements.of_each([frame.events[i] for i in rows.tolist()])
        counters.invalid += invalid
        return Taken(rows[np.array(places, dtype=np.int64)], parts=Grouped(*numbered(names)))
    if measure.value is None:
        return Taken(rows)
    if measure.exact_up_to is not None:
        return _take_hashes(rows, *frame.distinct(organisation, measure.value, rows), counters)
    values, usable, unusable = frame.scaled(organisation, measure.value, plan.series.scale, rows)
    if measure.turn is not None:
        values, valid = measure.turn.apply(values)
        unusable = unusable | (usable & ~valid)
        usable = usable & valid
    counters.invalid += int(np.count_nonzero(unusable))
    if not usable.all():
        rows, values = rows[usable], values[usable]
    part = Grouped(np.zeros(len(rows), dtype=np.int64), [measure.part]) if measure.part else None
    return Taken(rows, values, parts=part)


def _groups(frame: Frame, plan: MeasurePlan, taken: Taken) -> list[Grouped]:
    groups = frame.groups(plan.definition.organisation, plan.definition.group_by, taken.rows)
    return groups if taken.parts is None else [taken.parts, *groups]


def _take_hashes(rows: Indices, codes: Indices, values: Sequence[Any], counters: SeriesCounters) -> Taken:
    """Values, which codes stand for, are told apart by their text, as groups are: 5 and "5" are one."""
    texts = [None if value is INVALID else as_text(value) for value in values]
    readable = np.array([text is not None for text in texts], dtype=np.bool_)
    refused = np.array([value is not None for value in values], dtype=np.bool_) & ~readable
    counters.invalid += int(np.count_nonzero(refused[codes]))
    usable = readable[codes]
    return Taken(rows[usable], hashes=hashes_of(text or "" for text in texts)[codes[usable]])


def _window_deltas(plan: MeasurePlan, cells: Cells, taken: Taken) -> list[WindowDelta]:
    nothing = [0] * len(cells.starts)
    sums, squares = nothing, nothing
    lows: Sequence[int | None] = [None] * len(cells.starts)
    highs = lows
    if taken.values is not None:
        ordered, starts = taken.values[cells.order], cells.starts
        sums, squares = sums_of(ordered, starts), squares_of(ordered, starts)
        lows, highs = np.minimum.reduceat(ordered, starts).tolist(), np.maximum.reduceat(ordered, starts).tolist()
    states = _states(plan.measure, cells, taken)
    columns = zip(cells.minutes, cells.groups, cells.sizes.tolist(), sums, squares, lows, highs, states, strict=True)
    return [WindowDelta(plan.series, *column) for column in columns]


def _states(measure: Measure, cells: Cells, taken: Taken) -> Sequence[AnyState | None]:
    """One for each cell, if the measure keeps any."""
    if taken.hashes is not None:
        assert measure.exact_up_to is not None
        parts = np.split(taken.hashes[cells.order], cells.starts[1:])
        return [DistinctSet(Distinct.of(part, measure.exact_up_to)) for part in parts]
    if taken.values is None or not measure.sketched:
        return [None] * len(cells.starts)
    # A bucket's number has 16 bits: the lower half of a key that sorts by cell, then by bucket.
    buckets = sketch.buckets_of(taken.values)[cells.order].astype(np.int64) + (1 << 15)
    keys = np.sort((np.repeat(np.arange(len(cells.starts), dtype=np.int64), cells.sizes) << 16) + buckets)
    firsts = np.flatnonzero(np.diff(keys, prepend=-1))
    found, sizes = keys[firsts], np.diff(firsts, append=len(keys))
    cuts = np.flatnonzero(np.diff(found >> 16)) + 1
    numbers = ((found & 0xFFFF) - (1 << 15)).astype(np.int16)
    return [Histogram.of(columns) for columns in zip(np.split(numbers, cuts), np.split(sizes, cuts), strict=True)]


def _capped(
    deltas: Deltas,
    known: KnownGroups,
    plan: MeasurePlan,
    cells: Cells,
    minutes: npt.NDArray[np.int64],
    groups: list[Grouped],
) -> Cells:
    """The cells with those of groups beyond the cap joined into "other"."""
    other = other_group(len(groups), plan.measure.part)
    places = [(minute // DAY, group) for minute, group in zip(cells.minutes, cells.groups, strict=True)]

    def in_order() -> Iterator[Place]:
        return zip((minutes // (DAY // MINUTE)).tolist(), texts_of(groups), strict=True)

    over = overflowing(
        known,
        deltas.groups,
        plan.series,
        plan.measure.part,
        plan.definition.max_groups,
        [place for place in places if place[1] != other],
        in_order,
    )
    if not over:
        return cells
    overflows = np.array([place in over for place in places], dtype=np.bool_)
    deltas.counters[plan.series].overflow += int(cells.sizes[overflows].sum())
    return cells.joined(overflows | np.array([group == other for group in cells.groups], dtype=np.bool_), other)
