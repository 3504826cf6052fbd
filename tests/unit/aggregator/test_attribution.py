"""Which values count for which variant, whatever order they come in.

−10 s       −5 s            0 s                +n s
  │  waits   │    counts     │ exposure  counts │
"""

from __future__ import annotations

import pytest

from services.aggregator.domain.attribution import (
    TOLERANCE,
    Change,
    Given,
    Role,
    RowDelta,
    UnitState,
    Waiting,
    earliest,
    give,
    role_of,
)
from services.aggregator.domain.deltas import Exposure
from services.aggregator.domain.kinds.by_unit import ByUnit
from services.aggregator.domain.plan import UnitSeries, exposure_series
from shared.clock import DAY, SECOND
from tests.unit.aggregator.builders import NOW

EXPOSED = exposure_series("acme", "x")
REVENUE = UnitSeries("acme", "x", "revenue", 1, "value", 6)
COVARIATE = UnitSeries("acme", "x", "history", 1, "value", 6, by_unit=ByUnit(covariate_days=2))

UNEXPOSED = UnitState(None, None, False)


def exposure(unit: str, variant: str, seconds: int = 0) -> Exposure:
    return Exposure(EXPOSED, unit, variant, NOW + seconds * SECOND)


def value(amount: int = 7, micros: int = 0, series: UnitSeries = REVENUE) -> Waiting:
    return Waiting(EXPOSED, "u", series, NOW + micros, amount)


def given_to(state: UnitState, *values: Waiting) -> Given:
    return give(values, [], {(EXPOSED, "u"): state}, [])


def taken_over(before: UnitState, after: UnitState, *values: Waiting) -> Given:
    change = Change((EXPOSED, "u"), before, after)
    return give([], values, {}, [change])


def exposed(micros: int = 0, variant: str = "a", *, conflicted: bool = False) -> UnitState:
    return UnitState(variant, NOW + micros, conflicted)


def test_the_earliest_exposure_of_a_batch_decides_whatever_their_order() -> None:
    early, late = exposure("u", "a", 1), exposure("u", "a", 9)
    for order in ([early, late], [late, early]):
        assert earliest(order) == {EXPOSED: {"u": UnitState("a", NOW + SECOND, False)}}


def test_of_two_variants_the_earlier_is_kept_and_the_unit_is_conflicted() -> None:
    b, a = exposure("u", "b", 1), exposure("u", "a", 9)
    for order in ([b, a], [a, b], [a, b, b], [b, a, a]):
        assert earliest(order) == {EXPOSED: {"u": UnitState("b", NOW + SECOND, True)}}


def test_of_two_variants_at_one_time_the_lesser_name_is_kept() -> None:
    for order in (["a", "b"], ["b", "a"]):
        assert earliest([exposure("u", v) for v in order]) == {EXPOSED: {"u": UnitState("a", NOW, True)}}


def test_of_two_exposures_at_one_time_the_lesser_context_is_kept() -> None:
    said = [Exposure(EXPOSED, "u", "a", NOW, context) for context in ('{"net":"wifi"}', '{"net":"4g"}')]
    for order in (said, said[::-1]):
        assert earliest(order) == {EXPOSED: {"u": UnitState("a", NOW, False, '{"net":"4g"}')}}


def test_units_and_experiments_are_kept_apart() -> None:
    other = exposure_series("acme", "y")
    first, second = exposure("u", "a"), exposure("v", "b")
    a, b = UnitState("a", NOW, False), UnitState("b", NOW, False)
    for order in ([first, second, Exposure(other, "u", "b", NOW)], [first, Exposure(other, "u", "b", NOW), second]):
        assert earliest(order) == {EXPOSED: {"u": a, "v": b}, other: {"u": b}}


def test_a_unit_counts_from_its_exposure_on_with_the_tolerance_of_clocks() -> None:
    assert exposed().counts_from == NOW - TOLERANCE
    assert UNEXPOSED.counts_from is None


def test_a_value_of_an_exposed_unit_counts() -> None:
    found = given_to(exposed(), value(7, SECOND), value(-2))
    assert found.rows == {(REVENUE, "u"): RowDelta(2, 5)}
    assert found.observed == {(REVENUE, "a"): [7, -2]}
    assert found.waiting == []


@pytest.mark.parametrize(("before", "counts"), [(0, True), (TOLERANCE, True), (TOLERANCE + 1, False)])
def test_a_value_shortly_before_the_exposure_is_within_tolerance(before: int, counts: bool) -> None:
    found = given_to(exposed(), value(7, -before))
    assert bool(found.rows) is counts
    assert bool(found.waiting) is not counts


def test_a_value_before_any_exposure_waits() -> None:
    found = given_to(UNEXPOSED, value())
    assert found.waiting == [value()]
    assert (found.rows, found.observed) == ({}, {})


def test_an_exposure_takes_over_what_waited() -> None:
    found = taken_over(UNEXPOSED, exposed(), value(7), value(3, -TOLERANCE - 1))
    assert found.rows == {(REVENUE, "u"): RowDelta(1, 7)}
    assert found.observed == {(REVENUE, "a"): [7]}
    assert found.waiting == [], "what goes on waiting is where it was"


def test_both_sides_of_a_ratio_share_a_row() -> None:
    top, bottom = (UnitSeries("acme", "x", "rate", 1, side, 6) for side in ("numerator", "denominator"))
    found = given_to(exposed(), value(7, series=top), value(3, series=bottom), value(4, series=bottom))
    assert found.rows == {(top, "u"): RowDelta(1, 7, 2, 7)}
    assert found.observed == {(top, "a"): [7], (bottom, "a"): [3, 4]}


@pytest.mark.parametrize(
    ("before", "role"),
    [
        (TOLERANCE, Role.COUNTS),
        (TOLERANCE + 1, Role.COVARIATE),
        (2 * DAY, Role.COVARIATE),
        (2 * DAY + 1, Role.WAITS),
    ],
)
def test_what_a_unit_did_in_the_days_before_its_exposure_is_its_covariate(before: int, role: Role) -> None:
    assert role_of(value(7, -before, COVARIATE), exposed()) is role
    assert role_of(value(7, -before, COVARIATE), UNEXPOSED) is Role.WAITS
    assert role_of(value(7, -TOLERANCE - 1), exposed()) is Role.WAITS, "it keeps none"


def test_a_covariate_goes_on_waiting_for_an_exposure_that_is_earlier_still() -> None:
    found = given_to(exposed(), value(7, -DAY, COVARIATE))
    assert found.rows == {(COVARIATE, "u"): RowDelta(0, 0, 1, 7)}
    assert found.waiting == [value(7, -DAY, COVARIATE)]
    assert found.observed == {}


def test_an_earlier_exposure_moves_values_from_the_covariate_to_the_sum_and_older_ones_into_it() -> None:
    counts, stays, comes, waits = (value(10**i, -2 * i * DAY // 2, COVARIATE) for i in (1, 2, 3, 4))
    found = taken_over(exposed(), exposed(-DAY), counts, stays, comes, waits)
    assert found.rows == {(COVARIATE, "u"): RowDelta(1, 10, 0, -10 + 1_000)}
    assert found.observed == {(COVARIATE, "a"): [10]}
