"""The histogram: any quantile within 1 % of a value that was there, however it was put together."""

from __future__ import annotations

import math
from collections import Counter
from fractions import Fraction

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.aggregator.domain.kinds.kind import percentile_of
from shared.statistics import sketch
from shared.statistics.sketch import MAX_SCALED
from tests.unit.aggregator.builders import bounded

QUANTILES = (0.001, 0.01, 0.07, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999, 1.0)
scaled_values = st.one_of(st.integers(-MAX_SCALED, MAX_SCALED), st.integers(-300, 300))
contents = st.dictionaries(st.integers(-2100, 2100), st.integers(1, 10**15), max_size=30)


def sketch_of(values: npt.NDArray[np.int64]) -> sketch.Counts:
    return dict(Counter(sketch.buckets_of(values).tolist()))


def exact_quantile(values: npt.NDArray[np.int64], q: float) -> int:
    rank = max(1, math.ceil(Fraction(str(q)) * len(values)))
    return int(np.sort(values)[rank - 1])


def distributions() -> dict[str, npt.NDArray[np.int64]]:
    rng = np.random.default_rng(7)
    n = 20_000
    raw = {
        "uniform": rng.uniform(0, 1e12, n),
        "normal around zero": rng.normal(0, 1e6, n),
        "negative": -rng.gamma(2, 1e7, n),
        "heavy tail": np.clip(rng.pareto(0.5, n) * 1e6, 0, 1e17),
        "log-normal": np.clip(rng.lognormal(10, 4, n), 0, 1e17),
        "tiny": rng.integers(-5, 6, n).astype(np.float64),
        "two peaks far apart": np.where(rng.random(n) < 0.5, 3.0, 1e16) + rng.normal(0, 1, n),
        "constant": np.full(n, 123_456_789.0),
        "extremes": rng.choice([-1e17, 0.0, 1e17], n),
    }
    return {name: np.rint(values).astype(np.int64) for name, values in raw.items()}


@pytest.mark.parametrize(("name", "values"), distributions().items(), ids=distributions().keys())
def test_quantiles_are_within_one_percent(name: str, values: npt.NDArray[np.int64]) -> None:
    counts = sketch_of(values)
    for q in QUANTILES:
        found = sketch.quantile(counts, q)
        exact = exact_quantile(values, q)
        assert found is not None
        assert abs(found - exact) <= 0.01 * abs(exact), (name, q)


@bounded
@given(st.lists(scaled_values, min_size=1, max_size=100), st.sampled_from(QUANTILES))
def test_quantiles_of_few_values_are_within_one_percent_too(values: list[int], q: float) -> None:
    column = np.array(values, dtype=np.int64)
    found = sketch.quantile(sketch_of(column), q)
    assert found is not None
    assert abs(found - exact_quantile(column, q)) <= 0.01 * abs(exact_quantile(column, q))


@pytest.mark.parametrize("percentile", ["p7", "p28", "p55", "p95", "p99.9"])
def test_a_rank_is_the_exact_share_of_the_values(percentile: str) -> None:
    """In floats, 7 % of 100 is a little more than 7, and the eighth value would be taken."""
    share = percentile_of(percentile)
    assert share is not None
    values = [10**i for i in range(10)]
    n = 1000
    below = int(Fraction(percentile[1:]) * n / 100)
    counts = {1: below, int(sketch.buckets_of(np.array([values[-1]]))[0]): n - below}
    assert sketch.quantile(counts, share) == 1.0


def test_bounds_rise_strictly_and_by_at_most_two_percent() -> None:
    low, high = sketch.BOUNDS[:-1], sketch.BOUNDS[1:]
    assert (high > low).all()
    assert all(h - int(b) <= max(1, int(b) * 2 // 100) for b, h in zip(low.tolist(), high.tolist(), strict=True))
    assert sketch.BOUNDS[0] == 0
    assert sketch.BOUNDS[-2] < MAX_SCALED <= sketch.BOUNDS[-1]


def test_every_bucket_fits_the_two_bytes_it_is_stored_in() -> None:
    ends = sketch.buckets_of(np.array([-MAX_SCALED, MAX_SCALED]))
    assert ends.tolist() == [-(len(sketch.BOUNDS) - 1), len(sketch.BOUNDS) - 1]
    assert len(sketch.BOUNDS) <= 2**15


@bounded
@given(st.lists(scaled_values, min_size=2, max_size=50))
def test_a_larger_value_is_never_in_a_lower_bucket(values: list[int]) -> None:
    buckets = sketch.buckets_of(np.array(sorted(values), dtype=np.int64)).tolist()
    assert buckets == sorted(buckets)


@bounded
@given(scaled_values)
def test_a_negative_value_mirrors_its_positive(value: int) -> None:
    there, mirrored = sketch.buckets_of(np.array([value, -value], dtype=np.int64)).tolist()
    assert there == -mirrored


@bounded
@given(contents, contents, contents)
def test_merging_is_adding_in_any_order(a: sketch.Counts, b: sketch.Counts, c: sketch.Counts) -> None:
    forwards = sketch.merge(sketch.merge(dict(a), b), c)
    backwards = sketch.merge(dict(c), sketch.merge(dict(b), a))
    assert forwards == backwards == dict(Counter(a) + Counter(b) + Counter(c))
    assert sketch.encode(forwards) == sketch.encode(backwards)


def test_merging_leaves_what_is_added_alone() -> None:
    more = {1: 2}
    assert sketch.merge({1: 1}, more) == {1: 3}
    assert more == {1: 2}


@bounded
@given(contents)
def test_a_stored_sketch_comes_back_as_it_was(counts: sketch.Counts) -> None:
    raw = sketch.encode(counts)
    assert len(raw) == (1 + 10 * len(counts) if counts else 0)
    assert sketch.decode(raw) == counts
    assert sketch.decode(raw[1:]) == counts, "as the first release wrote it"


def test_a_bucket_that_is_empty_again_leaves_no_trace() -> None:
    counts = sketch.merge({1: 2, 5: 1}, {5: -1})
    assert sketch.encode(counts) == sketch.encode({1: 2})
    assert sketch.encode({5: 0}) == sketch.encode({})


def test_nothing_has_no_quantile() -> None:
    assert sketch.quantile({}, 0.5) is None
    assert sketch.decode(sketch.encode({})) == {}
