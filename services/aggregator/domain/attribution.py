"""Which values count for which variant: those from a unit's first exposure on.

     covariate_days before        5 s before   exposure
    ───────┼──────────────────────────┼───────────┼──────────────►
     waits │ waits, and makes up the  │ counts: the unit's earliest exposure decides
           │ covariate if one is kept │ (arrival order does not matter)

An exposure that turns out to be earlier takes over the values that waited since then. A unit seen in two variants is
conflicted for good: what it gave to unit sums is taken back, and it gives nothing more to them. Observations, event
by event, include such units, under the variant that was known when each event came.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from itertools import groupby

import msgspec

from services.aggregator.domain.deltas import Exposure
from services.aggregator.domain.plan import UnitSeries, row_series
from shared.clock import DAY, SECOND

TOLERANCE = 5 * SECOND
"""Clocks of clients are corrected for skew, but not better than this."""

UnitKey = tuple[UnitSeries, str]
"""An experiment's exposure series and a unit."""


class UnitState(msgspec.Struct, frozen=True, gc=False):
    """`first_exposure` (µs) and `variant` are None before the first exposure.

    `context` is what the earliest exposure said of the unit: canonical JSON of path → text.
    """

    variant: str | None
    first_exposure: int | None
    conflicted: bool
    context: str = "{}"

    @property
    def counts_from(self) -> int | None:
        """From which time on the unit's values count; None while it is not exposed."""
        return None if self.first_exposure is None else self.first_exposure - TOLERANCE


class Waiting(msgspec.Struct, frozen=True, gc=False):
    """One value that came before its unit's exposure, as far as we know. `time` in µs, `value` scaled."""

    exposure: UnitSeries
    unit: str
    series: UnitSeries
    time: int
    value: int


class Change(msgspec.Struct, frozen=True, gc=False):
    """What exposures did to one unit."""

    key: UnitKey
    before: UnitState
    after: UnitState

    @property
    def counts_more(self) -> bool:
        return self.before.first_exposure != self.after.first_exposure


class Role(Enum):
    """What a value is to its unit."""

    COUNTS = "counts"
    COVARIATE = "covariate"
    WAITS = "waits"


class RowDelta(msgspec.Struct, gc=False):
    """What to add to a unit's row: its sum, and the other one (a ratio's denominator, or the covariate)."""

    n: int = 0
    sum: int = 0
    other_n: int = 0
    other: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class AddedRows:
    """What to add to the rows of some units, ascending, in one row series; `states` are what a new row is given."""

    series: UnitSeries
    units: list[str]
    states: list[UnitState]
    n: list[int]
    sum: list[int]
    other_n: list[int]
    other: list[int]

    @property
    def variants(self) -> list[str]:
        """Rows are of exposed units only."""
        return [state.variant or "" for state in self.states]


@dataclass(slots=True)
class Given:
    """What values give: `rows` to units' rows, `observed` to observations of their variants; `waiting` is kept."""

    rows: dict[tuple[UnitSeries, str], RowDelta] = field(default_factory=dict)
    states: dict[tuple[UnitSeries, str], UnitState] = field(default_factory=dict)
    observed: dict[tuple[UnitSeries, str], list[int]] = field(default_factory=dict)
    """By series and variant."""
    waiting: list[Waiting] = field(default_factory=list)

    def added_rows(self) -> list[AddedRows]:
        """One for each series."""
        keys = sorted(self.rows)
        return [
            AddedRows(
                series,
                [unit for _, unit in of_series],
                [self.states[key] for key in of_series],
                [self.rows[key].n for key in of_series],
                [self.rows[key].sum for key in of_series],
                [self.rows[key].other_n for key in of_series],
                [self.rows[key].other for key in of_series],
            )
            for series, of_series in ((series, list(found)) for series, found in groupby(keys, key=lambda k: k[0]))
        ]

    def add(self, value: Waiting, state: UnitState, before: UnitState | None = None) -> None:
        """A value that is new, or one that waited and whose unit was in the state `before`."""
        role = role_of(value, state)
        known = None if before is None else role_of(value, before)
        if role is known:
            return
        if before is None and role is not Role.COUNTS:
            self.waiting.append(value)
        if role is Role.COUNTS:
            self._count(value, state)
        if Role.COVARIATE in (role, known):
            sign = 1 if role is Role.COVARIATE else -1
            row = self._row(value, state)
            row.other_n += sign
            row.other += sign * value.value

    def _count(self, value: Waiting, state: UnitState) -> None:
        assert state.variant is not None
        row = self._row(value, state)
        if value.series.component == "denominator":
            row.other_n += 1
            row.other += value.value
        else:
            row.n += 1
            row.sum += value.value if value.series.by_unit.summed else 0
        self.observed.setdefault((value.series, state.variant), []).append(value.value)

    def _row(self, value: Waiting, state: UnitState) -> RowDelta:
        key = (row_series(value.series), value.unit)
        self.states[key] = state
        return self.rows.setdefault(key, RowDelta())


def role_of(value: Waiting, state: UnitState) -> Role:
    start = state.counts_from
    if start is None:
        return Role.WAITS
    if value.time >= start:
        return Role.COUNTS
    assert state.first_exposure is not None
    lookback = value.series.by_unit.covariate_days * DAY
    return Role.COVARIATE if lookback and value.time >= state.first_exposure - lookback else Role.WAITS


def earliest(exposures: Iterable[Exposure]) -> dict[UnitSeries, dict[str, UnitState]]:
    """A batch's exposures by unit: the earliest decides (ties: the lesser texts), two variants are a conflict."""
    by_series: dict[UnitSeries, dict[str, UnitState]] = {}
    for _, of_series in groupby(exposures, key=lambda e: id(e.series)):
        of_run = list(of_series)
        states = by_series.setdefault(of_run[0].series, {})
        for e in of_run:
            known = states.get(e.unit)
            states[e.unit] = UnitState(e.variant, e.time, False, e.context) if known is None else _joined(known, e)
    return by_series


def _joined(known: UnitState, e: Exposure) -> UnitState:
    assert known.first_exposure is not None
    assert known.variant is not None
    conflicted = known.conflicted or e.variant != known.variant
    time, variant, context = min((known.first_exposure, known.variant, known.context), (e.time, e.variant, e.context))
    return UnitState(variant, time, conflicted, context)


def give(
    values: Iterable[Waiting],
    taken_over: Iterable[Waiting],
    states: Mapping[UnitKey, UnitState],
    changes: Iterable[Change],
) -> Given:
    """`values` are new, `taken_over` waited for the units of `changes`; `states` are those after the exposures."""
    given = Given()
    for value in values:
        given.add(value, states[value.exposure, value.unit])
    taken_over = list(taken_over)
    by_unit = {change.key: change for change in changes} if taken_over else {}
    for value in taken_over:
        change = by_unit[value.exposure, value.unit]
        given.add(value, change.after, change.before)
    return given
