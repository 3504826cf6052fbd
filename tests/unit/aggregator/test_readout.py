"""From shard rows to numbers."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from services.aggregator.domain.kinds.kind import Cell, Part, Reading
from shared.statistics import sketch
from tests.unit.aggregator.builders import kind_of

AMOUNT = kind_of(type="value", value="properties.v", aggregations=["count", "sum", "avg", "min", "max", "p50"])
RATE = kind_of(type="ratio", numerator={"event": "a"}, denominator={})
ALL = ("count", "sum", "avg", "min", "max", "p50")


def cell(*shards: list[int]) -> Cell:
    """A cell of shards that hold these scaled values."""
    total = Cell()
    for values in shards:
        raw = sketch.encode(Counter(sketch.buckets_of(np.array(values, dtype=np.int64)).tolist()))
        squares = sum(v * v for v in values)
        total.add(len(values), sum(values), squares, min(values, default=None), max(values, default=None), raw)
    return total


def values_of(readings: list[Reading]) -> dict[str, float | int | None]:
    return {r.aggregation: r.value for r in readings}


def test_shards_are_added_before_anything_is_taken_of_them() -> None:
    found = AMOUNT.read({("value", ""): cell([1_000_000, 2_000_000], [], [9_000_000])}, ALL)
    assert {r.count for r in found} == {3}
    values = values_of(found)
    assert values.pop("p50") == pytest.approx(2.0, rel=0.01)
    assert values == {"count": 3, "sum": 12.0, "avg": 4.0, "min": 1.0, "max": 9.0}


def test_an_average_of_averages_is_never_taken() -> None:
    found = AMOUNT.read({("value", ""): cell([0] * 99, [1_000_000])}, ["avg"])
    assert values_of(found) == {"avg": 0.01}


def test_of_nothing_there_is_a_count_and_a_sum_and_no_more() -> None:
    expected = {"count": 0, "sum": 0.0, "avg": None, "min": None, "max": None, "p50": None}
    assert values_of(AMOUNT.read({}, ALL)) == expected
    assert values_of(AMOUNT.read({("value", ""): Cell()}, ALL)) == expected


def test_sums_beyond_64_bits_keep_their_digits() -> None:
    total = Cell(n=3, sum=3 * 10**30, min=10**17, max=10**17)
    assert values_of(AMOUNT.read({("value", ""): total}, ["sum", "avg"])) == {"sum": 3e24, "avg": 1e24}


def test_a_shard_without_values_changes_neither_min_nor_max() -> None:
    total = cell([5_000_000])
    total.add(0, 0, 0, None, None, b"")
    assert (total.min, total.max) == (5_000_000, 5_000_000)


@pytest.mark.parametrize(("top", "bottom", "expected"), [(1, 4, 0.25), (0, 4, 0.0), (4, 0, None), (0, 0, None)])
def test_a_ratio_of_nothing_is_no_number(top: int, bottom: int, expected: float | None) -> None:
    found = RATE.read({("numerator", ""): Cell(n=top), ("denominator", ""): Cell(n=bottom)}, ["avg", "count"])
    assert found == [Reading("avg", expected, bottom), Reading("count", bottom, bottom)]


def test_a_ratio_without_rows_is_no_number_either() -> None:
    assert values_of(RATE.read({}, ["avg", "count"])) == {"avg": None, "count": 0}


def test_sums_and_counts_meet_in_a_ratio_on_the_same_scale() -> None:
    per_event = kind_of(type="ratio", numerator={"value": "properties.v"}, denominator={}, scale=3)
    found = per_event.read({("numerator", ""): Cell(n=2, sum=7_500), ("denominator", ""): Cell(n=5)}, ["avg"])
    assert values_of(found) == {"avg": 1.5}
    both = kind_of(type="ratio", numerator={"value": "properties.a"}, denominator={"value": "properties.b"})
    cells: dict[Part, Cell] = {("numerator", ""): Cell(n=1, sum=-9), ("denominator", ""): Cell(n=9, sum=3)}
    assert values_of(both.read(cells, ["avg"])) == {"avg": -3.0}


def test_a_denominator_whose_values_cancel_gives_no_number() -> None:
    spec = kind_of(type="ratio", numerator={}, denominator={"value": "properties.v"})
    cells: dict[Part, Cell] = {("numerator", ""): Cell(n=3), ("denominator", ""): cell([5, -5])}
    assert values_of(spec.read(cells, ["avg"])) == {"avg": None}
