"""Which values count for which variant, whatever order they come in.

−10 s       −5 s            0 s                +n s
  │  waits   │    counts     │ exposure  counts │
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.aggregator.domain.attribution import (
    TOLERANCE,
    Attribution,
    TotalsDelta,
    UnitKey,
    UnitState,
    UnitSum,
    Waiting,
    attribute,
    counts_from,
    earliest,
)
from services.aggregator.domain.deltas import Exposure, UnitlessResult, UnitValues
from services.aggregator.domain.plan import UnitSeries, exposure_series
from shared.clock import SECOND
from tests.unit.aggregator.builders import NOW, bounded

EXPOSED = exposure_series("acme", "x")
REVENUE = UnitSeries("acme", "x", "revenue", 1, "value", 6)


def exposure(unit: str, variant: str, seconds: int = 0) -> Exposure:
    return Exposure(EXPOSED, unit, variant, NOW + seconds * SECOND)


def value(unit: str, amount: int, micros: int = 0) -> UnitValues:
    return UnitValues(REVENUE, EXPOSED, [unit], [NOW + micros], [amount])


def state(
    variant: str | None = "a", first: int | None = NOW, *, conflicted: bool = False
) -> dict[UnitKey, UnitState]:
    return {(EXPOSED, "u"): UnitState(variant, first, conflicted)}


UNEXPOSED = state(None, None)


def test_the_earliest_exposure_of_a_batch_decides_whatever_their_order() -> None:
    early, late = exposure("u", "a", 1), exposure("u", "a", 9)
    for order in ([early, late], [late, early]):
        assert earliest(order) == {(EXPOSED, "u"): UnitState("a", NOW + SECOND, False)}


def test_of_two_variants_the_earlier_is_kept_and_the_unit_is_conflicted() -> None:
    b, a = exposure("u", "b", 1), exposure("u", "a", 9)
    for order in ([b, a], [a, b], [a, b, b], [b, a, a]):
        assert earliest(order) == {(EXPOSED, "u"): UnitState("b", NOW + SECOND, True)}


def test_of_two_variants_at_one_time_the_lesser_name_is_kept() -> None:
    for order in (["a", "b"], ["b", "a"]):
        assert earliest([exposure("u", v) for v in order]) == {(EXPOSED, "u"): UnitState("a", NOW, True)}


def test_units_and_experiments_are_kept_apart() -> None:
    elsewhere = Exposure(exposure_series("acme", "y"), "u", "b", NOW)
    assert len(earliest([exposure("u", "a"), exposure("v", "b"), elsewhere])) == 3
    assert not any(s.conflicted for s in earliest([exposure("u", "a"), exposure("v", "b"), elsewhere]).values())


def test_a_unit_counts_from_its_exposure_on_with_the_tolerance_of_clocks() -> None:
    assert counts_from(UnitState("a", NOW, False)) == NOW - TOLERANCE
    assert counts_from(UnitState(None, None, False)) is None


def test_a_value_of_an_exposed_unit_counts() -> None:
    found = attribute([value("u", 7, SECOND)], [], [], state())
    assert found.sums == {(REVENUE, "u"): UnitSum(1, 7)}
    assert found.variants == {(REVENUE, "u"): "a"}
    assert found.totals == {(REVENUE, "a"): TotalsDelta(observations=1, sum=7, min=7, max=7)}
    assert found.waiting == []


@pytest.mark.parametrize(("before", "counts"), [(0, True), (TOLERANCE, True), (TOLERANCE + 1, False)])
def test_a_value_shortly_before_the_exposure_is_within_tolerance(before: int, counts: bool) -> None:
    found = attribute([value("u", 7, -before)], [], [], state())
    assert bool(found.sums) is counts
    assert bool(found.waiting) is not counts


def test_a_value_before_any_exposure_waits() -> None:
    found = attribute([value("u", 7)], [], [], UNEXPOSED)
    assert found.waiting == [Waiting(EXPOSED, "u", REVENUE, NOW, 7)]
    assert (found.sums, found.totals) == ({}, {})


def test_an_exposure_takes_over_what_waited() -> None:
    waited = Waiting(EXPOSED, "u", REVENUE, NOW, 7)
    found = attribute([value("u", -2)], [waited], [], state())
    assert found.sums == {(REVENUE, "u"): UnitSum(2, 5)}
    assert found.totals == {(REVENUE, "a"): TotalsDelta(observations=2, sum=5, min=-2, max=7)}


def test_a_conflicted_unit_is_marked_so_that_its_sums_stay_out() -> None:
    found = attribute([value("u", 7)], [], [], state(conflicted=True))
    assert found.conflicted == {(REVENUE, "u")}


def test_a_result_without_unit_is_an_observation_of_its_variant() -> None:
    results = [UnitlessResult(REVENUE, "b", 3), UnitlessResult(REVENUE, "b", -4)]
    found = attribute([], [], results, {})
    assert found.totals == {(REVENUE, "b"): TotalsDelta(observations=2, sum=-1, min=-4, max=3)}
    assert found.sums == {}


class Tables:
    """Unit rows, waiting values and variants' totals as the store keeps them, in dictionaries."""

    def __init__(self) -> None:
        self.units: dict[str, UnitState] = {}
        self.waiting: list[Waiting] = []
        self.sums: dict[str, UnitSum] = defaultdict(UnitSum)
        self.totals: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])

    def apply(self, exposures: Sequence[Exposure], values: Sequence[UnitValues]) -> None:
        newly_conflicted = []
        for (_, unit), new in earliest(exposures).items():
            old = self.units.get(unit)
            self.units[unit] = merged(old, new)
            if old is not None and self.units[unit].conflicted and not old.conflicted:
                newly_conflicted.append((unit, old.variant))
        counted = {u: counts_from(s) for u, s in self.units.items()}
        moved = [w for w in self.waiting if (start := counted.get(w.unit)) is not None and w.time >= start]
        self.waiting = [w for w in self.waiting if w not in moved]
        touched = {u for column in values for u in column.units} | self.units.keys()
        states = {(EXPOSED, u): self.units.get(u, UnitState(None, None, False)) for u in touched}
        found = attribute(values, moved, [], states)
        self.waiting += found.waiting
        for unit, variant in newly_conflicted:
            if unit in self.sums:
                self._give(str(variant), -1, -self.sums[unit].sum, -(self.sums[unit].sum ** 2))
        self._add(found)

    def _add(self, found: Attribution) -> None:
        for (series, unit), more in found.sums.items():
            before = self.sums[unit].sum
            first = unit not in self.sums or not self.sums[unit].n
            self.sums[unit].n += more.n
            self.sums[unit].sum += more.sum
            if (series, unit) not in found.conflicted:
                after = self.sums[unit].sum
                self._give(found.variants[series, unit], int(first), after - before, after**2 - before**2)

    def _give(self, variant: str, units: int, total: int, squares: int) -> None:
        self.totals[variant] = [a + b for a, b in zip(self.totals[variant], (units, total, squares), strict=True)]


def merged(old: UnitState | None, new: UnitState) -> UnitState:
    if old is None:
        return new
    assert old.first_exposure is not None
    assert old.variant is not None
    assert new.first_exposure is not None
    assert new.variant is not None
    first, variant = min((old.first_exposure, old.variant), (new.first_exposure, new.variant))
    return UnitState(variant, first, old.conflicted or new.conflicted or old.variant != new.variant)


def truth(exposures: Sequence[Exposure], values: Sequence[UnitValues]) -> dict[str, list[int]]:
    """Once everything is known: units seen in one variant only, with what they gave from their first exposure on."""
    totals: dict[str, list[int]] = {}
    for unit in {e.unit for e in exposures}:
        mine = [e for e in exposures if e.unit == unit]
        if len({e.variant for e in mine}) > 1:
            continue
        start = min(e.time for e in mine) - 5_000_000
        given = [v.values[0] for v in values if v.units[0] == unit and v.times[0] >= start]
        if given:
            of_variant = totals.setdefault(mine[0].variant, [0, 0, 0])
            of_variant[0] += 1
            of_variant[1] += sum(given)
            of_variant[2] += sum(given) ** 2
    return totals


units = st.sampled_from(["u", "v", "w"])
seconds = st.sampled_from([-20, -6, -5, -1, 0, 0, 1, 5, 30])
arrivals = st.lists(
    st.one_of(
        st.builds(exposure, units, st.sampled_from(["a", "a", "a", "b"]), seconds),
        st.builds(lambda u, amount, s: value(u, amount, s * SECOND), units, st.integers(-9, 9), seconds),
    ),
    max_size=14,
)


@bounded
@given(arrivals, st.lists(st.integers(1, 13), max_size=5))
def test_any_order_and_any_cut_end_at_the_same_totals(arriving: list[Exposure | UnitValues], cuts: list[int]) -> None:
    tables = Tables()
    edges = [0, *sorted(set(cuts)), len(arriving)]
    for start, stop in pairwise(edges):
        part = arriving[start:stop]
        tables.apply([p for p in part if isinstance(p, Exposure)], [p for p in part if isinstance(p, UnitValues)])
    expected = truth(
        [p for p in arriving if isinstance(p, Exposure)], [p for p in arriving if isinstance(p, UnitValues)]
    )
    assert {v: t for v, t in tables.totals.items() if t != [0, 0, 0]} == expected
