"""What a batch gives to units in experiments: event by event, and added up for each unit's row."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import msgspec
import numpy as np
import numpy.typing as npt

from services.aggregator.domain.attribution import AddedRows, UnitState, Waiting
from services.aggregator.domain.deltas import Deltas, UnitValues
from services.aggregator.domain.frame import Frame, Indices
from services.aggregator.domain.grouping import Cells
from services.aggregator.domain.plan import UnitPlan, UnitSeries, row_series

Integers = npt.NDArray[np.int64]
_NEVER = np.iinfo(np.int64).max


def collect_unit_values(deltas: Deltas, frame: Frame, plan: UnitPlan, rows: Indices, values: Integers | None) -> None:
    """`values` are scaled, one a row; None counts one each. Rows without a unit, or after the end, give nothing."""
    codes, names = frame.participants(plan.unit_kind)
    codes, times = codes[rows], frame.times[rows]
    kept = codes >= 0
    if plan.until is not None:
        kept &= times <= plan.until
    if not kept.any():
        return
    if values is None:
        values = np.full(len(rows), 10**plan.series.scale, dtype=np.int64)
    deltas.unit_values.append(UnitValues(plan.series, plan.exposure, names, codes[kept], times[kept], values[kept]))


def collect_parts(deltas: Deltas, frame: Frame, plan: UnitPlan, rows: Indices, cells: Cells) -> None:
    """Counts rows under the part that leads their cell's group, so that parts beyond the cap are one here too."""
    by_part: dict[str, list[Integers]] = {}
    for group, places in zip(cells.groups, np.split(cells.order, cells.starts[1:]), strict=True):
        by_part.setdefault(msgspec.json.decode(group)[0], []).append(places)
    for part, found in by_part.items():
        of_part = replace(plan, series=replace(plan.series, part=part))
        collect_unit_values(deltas, frame, of_part, rows[np.sort(np.concatenate(found))], None)


@dataclass(frozen=True, slots=True, eq=False)
class UnitRows:
    """A batch's values of one row series by unit, in order of the units: n, Σ and the earliest time of each.

    `codes` are the units' places in the names of all that the batch gives to the experiment; `other` is a ratio's
    denominator. `events` gives for each part the place of each of its events among the rows.
    """

    series: UnitSeries
    exposure: UnitSeries
    units: list[str]
    codes: Integers
    n: Integers
    sum: list[int]
    other_n: Integers
    other: list[int]
    first: Integers
    events: list[tuple[UnitValues, Integers]]

    def waiting(self, part: int, chosen: npt.NDArray[np.bool_]) -> Iterable[Waiting]:
        """The chosen events of that part, one by one."""
        values, places = self.events[part]
        columns = (places[chosen].tolist(), values.times[chosen].tolist(), values.values[chosen].tolist())
        for place, time, value in zip(*columns, strict=True):
            yield Waiting(self.exposure, self.units[place], values.series, time, value)

    def counting(self, places: Integers, states: Mapping[str, UnitState]) -> tuple[Integers, AddedRows]:
        """Which of the rows at `places` get only values that count, and these rows. `states` are of all of them."""
        found = [states[self.units[place]] for place in places.tolist()]
        begin = [_NEVER if (start := state.counts_from) is None else start for state in found]
        counts = self.first[places] >= np.array(begin, dtype=np.int64)
        chosen = places[counts]
        at = chosen.tolist()
        return chosen, AddedRows(
            self.series,
            [self.units[place] for place in at],
            [found[i] for i in np.flatnonzero(counts).tolist()],
            self.n[chosen].tolist(),
            [self.sum[place] for place in at],
            self.other_n[chosen].tolist(),
            [self.other[place] for place in at],
        )


def units_at(rows: Iterable[UnitRows], places: Iterable[Integers]) -> dict[UnitSeries, list[str]]:
    """By exposure series, the units of the rows at these places (of each of `rows`), ascending."""
    codes: dict[UnitSeries, list[Integers]] = {}
    names: dict[UnitSeries, list[str]] = {}
    for of_series, at in zip(rows, places, strict=True):
        if len(at):
            codes.setdefault(of_series.exposure, []).append(of_series.codes[at])
            names[of_series.exposure] = of_series.events[0][0].names
    return {
        exposure: [names[exposure][code] for code in np.flatnonzero(np.bincount(np.concatenate(found))).tolist()]
        for exposure, found in codes.items()
    }


def unit_rows(values: Iterable[UnitValues]) -> list[UnitRows]:
    """One a row series: both sides of a ratio go to the same rows."""
    parts: dict[UnitSeries, list[UnitValues]] = {}
    for part in values:
        parts.setdefault(row_series(part.series), []).append(part)
    return [_joined(series, of_series) for series, of_series in parts.items()]


def _joined(series: UnitSeries, parts: list[UnitValues]) -> UnitRows:
    names = parts[0].names
    assert all(part.names is names for part in parts)
    present = np.zeros(len(names), dtype=np.bool_)
    for part in parts:
        present[part.codes] = True
    place_of = np.cumsum(present) - 1
    kept = np.flatnonzero(present)
    events = [(part, place_of[part.codes]) for part in parts]
    first = np.full(len(kept), _NEVER)
    for part, places in events:
        np.minimum.at(first, places, part.times)
    sides = ([e for e in events if (e[0].series.component == "denominator") is other] for other in (False, True))
    (n, total), (other_n, other) = (_added(side, len(kept)) for side in sides)
    return UnitRows(
        series, parts[0].exposure, [names[i] for i in kept.tolist()], kept, n, total, other_n, other, first, events
    )


def _added(events: list[tuple[UnitValues, Integers]], size: int) -> tuple[Integers, list[int]]:
    """How many values each row gets, and their exact sum."""
    n = np.zeros(size, dtype=np.int64)
    for _, places in events:
        n += np.bincount(places, minlength=size)
    if not all(part.series.by_unit.summed for part, _ in events):
        return n, [0] * size  # hashes have no sum, nor have endings
    largest = max((int(np.abs(part.values).max()) for part, _ in events), default=0)
    fits = largest * int(n.max(initial=0)) < 2**63
    sums = np.zeros(size, dtype=np.int64 if fits else object)
    for part, places in events:
        np.add.at(sums, places, part.values if fits else part.values.astype(object))
    return n, sums.tolist()
