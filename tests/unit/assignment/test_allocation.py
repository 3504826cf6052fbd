from __future__ import annotations

from decimal import Decimal
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.assignment.domain.allocation import (
    Allocation,
    Ambiguity,
    Split,
    StratumSplit,
    before_the_move,
    buckets_of,
    percentage_of,
)
from services.assignment.domain.bucketing import BUCKETS


@st.composite
def splits(draw: st.DrawFn, names: tuple[str, ...] = ("a", "b", "c")) -> Split:
    cuts = sorted(draw(st.lists(st.integers(0, BUCKETS), min_size=len(names) - 1, max_size=len(names) - 1)))
    shares = [end - start for start, end in pairwise([0, *cuts, BUCKETS])]
    return Split.of(dict(zip(names, shares, strict=True)))


def half(name: str = "a", other: str = "b", share: int = BUCKETS // 2) -> Split:
    return Split.of({name: share, other: BUCKETS - share})


@given(splits())
def test_every_bucket_belongs_to_exactly_one_variant(split: Split) -> None:
    edges = {0, BUCKETS - 1, *(e for e in split.ends if e < BUCKETS), *(e - 1 for e in split.ends if e > 0)}
    starts = dict(zip(split.variants, (0, *split.ends[:-1]), strict=True))
    ends = dict(zip(split.variants, split.ends, strict=True))
    for bucket in edges:
        assert [v for v in split.variants if starts[v] <= bucket < ends[v]] == [split.variant_of(bucket)]


@given(splits())
def test_a_variant_has_as_many_buckets_as_its_share(split: Split) -> None:
    assert sum(end - start for start, end in pairwise((0, *split.ends))) == BUCKETS


def test_a_variant_without_traffic_gets_no_bucket() -> None:
    split = Split.of({"none": 0, "all": BUCKETS, "also none": 0})
    assert {split.variant_of(b) for b in (0, 1, 500_000, BUCKETS - 1)} == {"all"}


@pytest.mark.parametrize("shares", [{}, {"a": 999_999}, {"a": 600_000, "b": 600_000}, {"a": -1, "b": 1_000_001}])
def test_shares_that_are_not_the_whole_make_no_split(shares: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="add up"):
        Split.of(shares)


@pytest.mark.parametrize(
    "percentages",
    [
        ("50", "50"),
        ("33.33", "33.33", "33.34"),
        ("33.3333", "33.3333", "33.3334"),
        ("0.0001", "99.9999"),
        ("0", "100"),
    ],
)
def test_decimal_percentages_become_buckets_exactly(percentages: tuple[str, ...]) -> None:
    buckets = [buckets_of(Decimal(p)) for p in percentages]
    assert None not in buckets
    assert sum(b or 0 for b in buckets) == BUCKETS


@given(st.integers(0, BUCKETS))
def test_percentages_survive_the_way_to_json_and_back(buckets: int) -> None:
    assert buckets_of(Decimal(repr(percentage_of(buckets)))) == buckets


@pytest.mark.parametrize("percentage", ["33.33333", "0.00001", "1e-7"])
def test_a_percentage_finer_than_a_bucket_is_refused(percentage: str) -> None:
    assert buckets_of(Decimal(percentage)) is None


def test_a_split_that_never_changed_leaves_nothing_to_look_up() -> None:
    assert Ambiguity([half(), half()]).ranges == []


def test_only_the_buckets_that_moved_are_looked_up() -> None:
    moved = Ambiguity([half(share=500_000), half(share=600_000)])
    assert moved.ranges == [(500_000, 600_000)]
    assert [b in moved for b in (0, 499_999, 500_000, 599_999, 600_000, 999_999)] == [
        False,
        False,
        True,
        True,
        False,
        False,
    ]


def test_a_bucket_that_moved_and_came_back_is_still_looked_up() -> None:
    there_and_back = Ambiguity([half(share=500_000), half(share=600_000), half(share=500_000)])
    assert there_and_back.ranges == [(500_000, 600_000)]


@given(splits(), splits(), splits(), st.integers(0, BUCKETS - 1))
def test_a_bucket_is_looked_up_exactly_if_it_led_to_different_variants(
    a: Split, b: Split, c: Split, bucket: int
) -> None:
    led_to = {split.variant_of(bucket) for split in (a, b, c)}
    assert (bucket in Ambiguity([a, b, c])) == (len(led_to) > 1)


STRATIFIED = Allocation(
    half(),
    (
        StratumSplit("<2 min", 120_000, half()),
        StratumSplit("2-5 min", 300_000.00000000006, half()),
        StratumSplit(">5 min", None, half(share=550_000)),
    ),
)


@pytest.mark.parametrize(
    ("duration", "stratum"),
    [
        (0, "<2 min"),
        (119_999.999, "<2 min"),
        (120_000, "2-5 min"),
        (300_000, "2-5 min"),
        (300_000.001, ">5 min"),
        (2**63, ">5 min"),
        (-1, "<2 min"),
    ],
)
def test_a_number_falls_in_one_stratum(duration: float, stratum: str) -> None:
    assert STRATIFIED.split_for(duration)[0] == stratum


def test_a_unit_without_the_number_gets_the_default_split() -> None:
    assert STRATIFIED.split_for(None) == (None, half())


def test_strata_that_differ_make_the_buckets_between_them_ambiguous() -> None:
    assert Ambiguity(STRATIFIED.splits()).ranges == [(500_000, 550_000)]


def test_the_answer_before_the_move_is_that_of_the_last_split_that_differed() -> None:
    first, second, now = (Allocation(half(share=s)) for s in (500_000, 600_000, 600_000))
    assert before_the_move(550_000, None, now, [first, second]) == "b"
    assert before_the_move(100_000, None, now, [first, second]) == "a"
    assert before_the_move(550_000, None, now, []) == "a"


@given(splits(), splits(), st.integers(0, BUCKETS - 1))
def test_before_its_only_move_a_bucket_led_where_the_first_split_says(a: Split, b: Split, bucket: int) -> None:
    assert before_the_move(bucket, None, Allocation(b), [Allocation(a)]) == a.variant_of(bucket)
