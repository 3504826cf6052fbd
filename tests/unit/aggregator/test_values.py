"""Numbers become integers, exactly, one by one or by the column."""

from __future__ import annotations

import random
from decimal import ROUND_HALF_EVEN, Decimal
from fractions import Fraction
from math import isqrt
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from services.aggregator.domain.values import INVALID, scale_many, scale_one
from shared.statistics.sketch import MAX_SCALED
from tests.unit.aggregator.builders import bounded

scales = st.integers(0, 9)
floats = st.floats(allow_nan=True, allow_infinity=True)
integers = st.one_of(st.integers(), st.integers(-(10**18), 10**18), st.sampled_from([2**63, -(2**63), 10**17, 2**70]))
others = st.sampled_from([None, True, False, "", "12", [], {}, [1], {"a": 1}])
columns = st.one_of(
    st.lists(floats, max_size=20),
    st.lists(integers, max_size=20),
    st.lists(st.one_of(floats, integers, others), max_size=20),
)


@bounded
@given(columns, scales)
@example([float("nan"), 1e308, -1e308, 1e17], 9)
@example([10**8, -(10**8), 10**8 + 1], 9)
@example([True, False], 0)
def test_a_column_scales_as_its_values_do_one_by_one(column: list[Any], scale: int) -> None:
    scaled, usable, invalid = scale_many(column, scale)
    for i, value in enumerate(column):
        one = scale_one(value, scale)
        assert usable[i] == isinstance(one, int)
        assert invalid[i] == (one is INVALID)
        assert scaled[i] == (one if isinstance(one, int) else 0)


@bounded
@given(st.integers(-(10**12), 10**12), scales)
def test_an_integer_keeps_its_value_exactly_or_is_invalid(value: int, scale: int) -> None:
    one = scale_one(value, scale)
    if abs(value) * 10**scale <= MAX_SCALED:
        assert one == value * 10**scale
    else:
        assert one is INVALID


@bounded
@given(st.decimals(-(10**9), 10**9, places=6))
def test_a_float_with_six_decimal_places_keeps_all_of_them(value: Decimal) -> None:
    assert scale_one(float(value), 6) == int(value.scaleb(6))


@pytest.mark.parametrize(
    ("value", "scale", "expected"),
    [
        (0.5, 0, 0),
        (1.5, 0, 2),
        (2.5, 0, 2),
        (-0.5, 0, 0),
        (-1.5, 0, -2),
        (0.1, 6, 100_000),
        (1.5, 6, 1_500_000),
        (-0.0, 6, 0),
        (1e-9, 6, 0),
        (10**17, 0, 10**17),
        (1e17, 0, 10**17),
    ],
)
def test_halves_go_to_the_even_neighbour(value: float, scale: int, expected: int) -> None:
    assert scale_one(value, scale) == expected
    if isinstance(value, float):
        assert scale_one(value, 0) == Decimal(value).quantize(Decimal(1), rounding=ROUND_HALF_EVEN)


@pytest.mark.parametrize(
    "value",
    [
        True,
        False,
        "",
        "12",
        [1],
        {},
        10**17 + 1,
        -(10**17) - 1,
        2**70,
        10**5000,
        1e18,
        1e308,
        float("inf"),
        float("nan"),
    ],
    ids=lambda v: repr(v)[:12] if not isinstance(v, int) or abs(v) < 2**80 else "5001 digits",
)
def test_what_is_no_usable_number_is_invalid_but_not_absent(value: Any) -> None:
    assert scale_one(value, 0) is INVALID
    scaled, usable, invalid = scale_many([value, value], 0)
    assert (scaled.tolist(), usable.tolist(), invalid.tolist()) == ([0, 0], [False] * 2, [True] * 2)


def test_absent_values_are_neither_usable_nor_invalid() -> None:
    scaled, usable, invalid = scale_many([None, 1, None], 6)
    assert (scaled.tolist(), usable.tolist(), invalid.tolist()) == ([0, 10**6, 0], [False, True, False], [False] * 3)


def test_an_empty_column_scales_to_empty_columns() -> None:
    assert [len(part) for part in scale_many([], 6)] == [0, 0, 0]


def test_nothing_cancels_where_floats_do() -> None:
    """NIST's NumAcc4: 1,000,001 values around 10,000,000.2 whose mean and standard deviation (0.1) are known."""
    values = [10_000_000.2] + [10_000_000.1, 10_000_000.3] * 500_000
    random.Random(4).shuffle(values)
    scaled, usable, _ = scale_many(values, 6)
    assert usable.all()
    exact = scaled.tolist()
    n, total, squares = len(exact), sum(exact), sum(v * v for v in exact)
    assert Fraction(total, n * 10**6) == Fraction("10000000.2")
    variance = Fraction(squares * n - total * total, n * (n - 1) * 10**12)
    assert variance == Fraction("0.01")
    assert isqrt(int(variance * 10**12)) == 100_000
    naive = np.float64(sum(v * v for v in values) - sum(values) ** 2 / n) / (n - 1)
    assert abs(naive - 0.01) > 1e-6, "floats were good enough: the test would prove nothing"
