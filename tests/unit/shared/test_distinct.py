"""Distinct counts: exact up to the bound, within the stated error beyond it, and the same bytes however reached."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.statistics import distinct
from shared.statistics.distinct import STANDARD_ERROR, Distinct, Hashes, hashes_of


def random_hashes(n: int, seed: int) -> Hashes:
    return np.random.default_rng(seed).integers(0, 2**64, n, dtype=np.uint64)


def test_values_are_counted_once_however_often_they_come() -> None:
    found = Distinct.of(hashes_of(["a", "b", "a", "", "ä"]), 10)
    assert (found.estimate(), found.error) == (4, 0.0)


def test_half_a_surrogate_pair_is_a_value_like_any_other() -> None:
    assert Distinct.of(hashes_of(["\ud800", "\ud801", "\ud800"]), 10).estimate() == 2


def test_a_line_break_is_a_letter_like_any_other() -> None:
    texts = ["a\nb", "", "\n", "a", "b"]
    assert hashes_of(texts).tolist() == [hash_ for text in texts for hash_ in hashes_of([text]).tolist()]
    assert Distinct.of(hashes_of(texts), 10).estimate() == 5
    assert len(hashes_of([])) == 0


def test_one_more_than_the_bound_is_an_estimate_that_says_so() -> None:
    exact, more = Distinct.of(random_hashes(100, 1), 100), Distinct.of(random_hashes(101, 1), 100)
    assert (exact.estimate(), exact.error) == (100, 0.0)
    assert more.error == STANDARD_ERROR
    assert abs(more.estimate() - 101) <= 3


def test_the_empty_set_counts_nothing_in_either_form() -> None:
    empty = Distinct.of(random_hashes(0, 1), 0)
    assert (empty.estimate(), empty.error) == (0, 0.0)
    assert empty.union(empty) == empty
    assert distinct._estimate(np.zeros(2**distinct.PRECISION, dtype=np.uint8)) == 0


@pytest.mark.parametrize("n", [1, 10, 1_000, 10_000, 40_000, 100_000, 1_000_000])
def test_estimates_are_unbiased_and_within_the_stated_error(n: int) -> None:
    """Over many seeds: the mean error is that of a mean, the spread is the standard error, none is far out."""
    seeds = 30 if n <= 40_000 else 8
    errors = np.array([Distinct.of(random_hashes(n, 1_000 + s), 0).estimate() / n - 1 for s in range(seeds)])
    assert abs(errors.mean()) < 4 * STANDARD_ERROR / math.sqrt(seeds)
    assert math.sqrt((errors**2).mean()) < 1.4 * STANDARD_ERROR
    assert np.abs(errors).max() < 4.5 * STANDARD_ERROR


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 60), max_size=30), min_size=1, max_size=6),
    st.integers(0, 50),
    st.randoms(use_true_random=False),
)
def test_any_split_order_and_merging_gives_the_same_bytes(
    parts: list[list[int]], bound: int, shuffle: object
) -> None:
    texts = [[f"v{v}" for v in part] for part in parts]
    whole = Distinct.of(hashes_of([t for part in texts for t in part]), bound)
    sets = [Distinct.of(hashes_of(part), bound) for part in texts]
    shuffle.shuffle(sets)  # type: ignore[attr-defined]
    while len(sets) > 1:
        sets.append(sets.pop(0).union(Distinct.decode(sets.pop(0).encode())))
    assert sets[0].encode() == whole.encode()
    different = len({v for part in parts for v in part})
    assert (whole.error == 0) == (different <= bound)
    assert whole.error or whole.estimate() == different


def test_large_sets_merge_into_what_all_values_together_are() -> None:
    values = random_hashes(60_000, 5)
    whole = Distinct.of(values, 10_000)
    merged = Distinct.of(values[:9_000], 10_000)
    for begin in range(6_000, 60_000, 9_000):
        merged = merged.union(Distinct.of(values[begin : begin + 12_000], 10_000))
    assert merged.encode() == whole.encode()
    assert len(whole.encode()) == 6 + 2**14


def test_bytes_name_their_format_and_parameters() -> None:
    exact = Distinct.of(hashes_of(["a"]), 7).encode()
    registers = Distinct.of(hashes_of(["a", "b"]), 1).encode()
    assert exact[:6] == b"\x02\x00\x07\x00\x00\x00"
    assert registers[:6] == b"\x03\x0e\x01\x00\x00\x00"
    assert distinct.is_encoded(exact)
    assert distinct.is_encoded(registers)


@pytest.mark.parametrize("raw", [b"", b"\x02", b"\x01abcdefgh", b"\x03\x0c" + bytes(4 + 2**12)])
def test_other_bytes_are_refused(raw: bytes) -> None:
    with pytest.raises(ValueError, match=r"neither|precision"):
        Distinct.decode(raw)


def test_the_hash_is_fixed_for_good() -> None:
    """Stored sets depend on it: XXH3 with 64 bits and no seed."""
    assert hashes_of(["", "u1"]).tolist() == [0x2D06800538D394C2, 0x9DC02546854D5DF1]
