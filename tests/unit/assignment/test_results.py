from __future__ import annotations

import random
import statistics
from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.assignment.domain.results import Shard, as_of, summarise
from shared.statistics.proportion import wilson_interval


def shard(
    variant: str, metric: str, unit_values: dict[str, list[int]], *, scale: int = 6, conflicted: int = 0
) -> Shard:
    """As the aggregator would add it up from scaled values by unit."""
    values = [v for of_unit in unit_values.values() for v in of_unit]
    sums = [sum(of_unit) for of_unit in unit_values.values()]
    return Shard(
        variant=variant,
        metric=metric,
        component="value",
        scale=scale,
        observations=len(values),
        sum=sum(values),
        min=min(values, default=None),
        max=max(values, default=None),
        units=len(sums),
        unit_sum=sum(sums),
        unit_sum_squares=sum(s * s for s in sums),
        conflicted=conflicted,
        updated_at=1_700_000_000_000_000,
    )


def exposures(variant: str, units: int, conflicted: int = 0) -> Shard:
    return replace(shard(variant, "", {}), units=units, conflicted=conflicted)


def test_shards_are_added() -> None:
    shards = [
        exposures("A", 3),
        exposures("A", 1, conflicted=2),
        shard("A", "m", {"u1": [1_500_000, 500_000]}),
        shard("A", "m", {"u2": [4_000_000]}),
    ]
    a = summarise(["A", "B"], shards)["A"]
    assert (a["sample_size"], a["conflicted_units"]) == (4, 2)
    m = a["metrics"]["m"]
    assert (m["count"], m["mean"], m["min"], m["max"], m["sum"]) == (3, 2.0, 0.5, 4.0, 6.0)
    assert (m["units"], m["unit_mean"], m["unit_variance"], m["rate"]) == (2, 3.0, 2.0, 0.5)


def test_a_variant_without_data_has_an_empty_sample() -> None:
    assert summarise(["A"], []) == {"A": {"sample_size": 0, "conflicted_units": 0, "metrics": {}}}
    assert as_of([]) is None


def test_results_without_units_count_as_observations_only() -> None:
    lone = replace(shard("A", "m", {"u": [2_000_000]}), units=0, unit_sum=0, unit_sum_squares=0)
    m = summarise(["A"], [lone])["A"]["metrics"]["m"]
    assert (m["count"], m["mean"], m["units"], m["unit_mean"], m["unit_variance"], m["rate"]) == (
        1,
        2.0,
        0,
        None,
        None,
        None,
    )


def test_shards_of_different_scales_add_up() -> None:
    shards = [exposures("A", 2), shard("A", "m", {"u": [15]}, scale=1), shard("A", "m", {"v": [2_500_000]})]
    m = summarise(["A"], shards)["A"]["metrics"]["m"]
    assert (m["sum"], m["min"], m["max"], m["unit_variance"]) == (4.0, 1.5, 2.5, 0.5)


def test_variance_does_not_cancel_far_from_zero() -> None:
    """NIST NumAcc4: the textbook formula on doubles loses every digit here."""
    values = [10_000_000_200_000] + [10_000_000_100_000, 10_000_000_300_000] * 500
    units = {str(i): [v] for i, v in enumerate(values)}
    m = summarise(["A"], [exposures("A", 1001), shard("A", "m", units)])["A"]["metrics"]["m"]
    assert m["unit_mean"] == 10_000_000.2
    assert m["unit_variance"] == pytest.approx(0.01, abs=1e-17)


@given(
    st.lists(st.lists(st.integers(-(10**12), 10**12), min_size=1, max_size=5), min_size=2, max_size=30), st.randoms()
)
def test_any_division_into_shards_gives_the_same_figures(units: list[list[int]], order: random.Random) -> None:
    whole = {str(i): values for i, values in enumerate(units)}
    parts: list[dict[str, list[int]]] = [{}, {}, {}]
    for unit, values in whole.items():
        order.choice(parts)[unit] = values
    split = [shard("A", "m", part) for part in parts if part]
    order.shuffle(split)
    one = summarise(["A"], [exposures("A", len(units)), shard("A", "m", whole)])
    many = summarise(["A"], [*split, exposures("A", len(units))])
    assert one == many
    sums = [Fraction(sum(values), 10**6) for values in units]
    assert one["A"]["metrics"]["m"]["unit_variance"] == float(statistics.variance(sums))


def test_both_sides_of_a_ratio_are_shown() -> None:
    sides = [replace(shard("A", "r", {"u": [1]}), component=c) for c in ("numerator", "denominator")]
    assert list(summarise(["A"], sides)["A"]["metrics"]) == ["r.denominator", "r.numerator"]


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [
        # Newcombe 1998, table I, method 3.
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_the_wilson_interval_has_its_published_values(successes: int, trials: int, low: float, high: float) -> None:
    assert list(wilson_interval(successes, trials)) == pytest.approx([low, high], abs=5e-5)


@given(st.integers(1, 10**9).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_the_wilson_interval_holds_the_share_and_stays_within_bounds(case: tuple[int, int]) -> None:
    successes, trials = case
    low, high = wilson_interval(successes, trials)
    assert 0 <= low <= successes / trials <= high <= 1
    mirrored = wilson_interval(trials - successes, trials)
    assert list(mirrored) == pytest.approx([1 - high, 1 - low])


@pytest.mark.parametrize(("successes", "trials"), [(0, 0), (2, 1), (-1, 3)])
def test_impossible_proportions_are_refused(successes: int, trials: int) -> None:
    with pytest.raises(ValueError, match="proportion"):
        wilson_interval(successes, trials)
