"""Which values count for which variant: those from a unit's first exposure on.

    value a        exposure        value b                  (arrival order does not matter)
      │               │               │
    waits, then     a unit's        counts
    expires with    earliest one
    grace           decides

An exposure that turns out to be earlier takes over the values that waited since then. A unit seen in two variants is
conflicted for good: what it gave to unit sums is taken back, and it gives nothing more to them. Observations, event
by event, include such units, under the variant that was known when each event came.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from services.aggregator.domain.deltas import Exposure, UnitlessResult, UnitValues
from services.aggregator.domain.plan import UnitSeries
from shared.clock import SECOND

TOLERANCE = 5 * SECOND
"""Clocks of clients are corrected for skew, but not better than this."""

UnitKey = tuple[UnitSeries, str]
"""An experiment's exposure series and a unit."""


@dataclass(frozen=True, slots=True)
class UnitState:
    """`first_exposure` and `variant` are None before the first exposure."""

    variant: str | None
    first_exposure: int | None
    conflicted: bool


@dataclass(frozen=True, slots=True)
class Waiting:
    exposure: UnitSeries
    unit: str
    series: UnitSeries
    time: int
    value: int


@dataclass(slots=True)
class UnitSum:
    n: int = 0
    sum: int = 0


@dataclass(slots=True)
class TotalsDelta:
    """What to add to one variant's totals of one series."""

    observations: int = 0
    sum: int = 0
    min: int | None = None
    max: int | None = None
    units: int = 0
    unit_sum: int = 0
    unit_sum_squares: int = 0
    conflicted: int = 0

    def observe(self, value: int) -> None:
        self.observations += 1
        self.sum += value
        self.min = value if self.min is None or value < self.min else self.min
        self.max = value if self.max is None or value > self.max else self.max


Totals = dict[tuple[UnitSeries, str], TotalsDelta]
"""By series and variant."""


@dataclass(slots=True)
class Attribution:
    """`sums` go to unit rows, `totals` hold observations only (units follow from the rows), `waiting` is kept."""

    sums: dict[tuple[UnitSeries, str], UnitSum] = field(default_factory=dict)
    variants: dict[tuple[UnitSeries, str], str] = field(default_factory=dict)
    conflicted: set[tuple[UnitSeries, str]] = field(default_factory=set)
    totals: Totals = field(default_factory=dict)
    waiting: list[Waiting] = field(default_factory=list)


def earliest(exposures: Iterable[Exposure]) -> dict[UnitKey, UnitState]:
    """A batch's exposures by unit: the earliest decides (ties: the lesser name), two variants are a conflict."""
    states: dict[UnitKey, UnitState] = {}
    for e in exposures:
        key = (e.series, e.unit)
        known = states.get(key)
        if known is None:
            states[key] = UnitState(e.variant, e.time, False)
            continue
        assert known.first_exposure is not None
        assert known.variant is not None
        time, variant = min((known.first_exposure, known.variant), (e.time, e.variant))
        states[key] = UnitState(variant, time, known.conflicted or e.variant != known.variant)
    return states


def counts_from(state: UnitState) -> int | None:
    """From which time on the unit's values count; None while it is not exposed."""
    return None if state.first_exposure is None else state.first_exposure - TOLERANCE


def attribute(
    values: Iterable[UnitValues],
    taken_over: Iterable[Waiting],
    unitless: Iterable[UnitlessResult],
    states: Mapping[UnitKey, UnitState],
) -> Attribution:
    """`states` are those after this batch's exposures, one for each unit that occurs."""
    result = Attribution()
    for column in values:
        for unit, time, value in zip(column.units, column.times, column.values, strict=True):
            state = states[column.exposure, unit]
            start = counts_from(state)
            if start is None or time < start:
                result.waiting.append(Waiting(column.exposure, unit, column.series, time, value))
            else:
                _give(result, column.series, unit, value, state)
    for w in taken_over:
        _give(result, w.series, w.unit, w.value, states[w.exposure, w.unit])
    for r in unitless:
        result.totals.setdefault((r.series, r.variant), TotalsDelta()).observe(r.value)
    return result


def _give(result: Attribution, series: UnitSeries, unit: str, value: int, state: UnitState) -> None:
    assert state.variant is not None
    row = result.sums.setdefault((series, unit), UnitSum())
    row.n += 1
    row.sum += value
    result.variants[series, unit] = state.variant
    if state.conflicted:
        result.conflicted.add((series, unit))
    result.totals.setdefault((series, state.variant), TotalsDelta()).observe(value)
