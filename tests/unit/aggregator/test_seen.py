"""The table of ids seen lately, against a plain dictionary."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.aggregator.domain.seen import WINDOW_MINUTES, Digests, SeenIds, as_array, digest, from_bytes
from tests.unit.aggregator.builders import bounded

START = 29_333_334
"""A broker minute."""


def ids(*names: object) -> Digests:
    return as_array([digest("acme", str(name)) for name in names])


def at(*minutes: int) -> npt.NDArray[np.int32]:
    return np.array(minutes, dtype=np.int32) + np.int32(START)


class Model:
    """What the table promises, in a dictionary that never forgets."""

    def __init__(self) -> None:
        self.last: dict[bytes, int] = {}

    def take(self, digests: Digests, minutes: npt.NDArray[np.int32]) -> list[bool]:
        verdicts = []
        for row, minute in zip(digests, minutes.tolist(), strict=True):
            before = self.last.get(row.tobytes())
            verdicts.append(before is not None and minute - before <= WINDOW_MINUTES)
            self.last[row.tobytes()] = minute
        return verdicts


def colliding(numbers: list[int]) -> Digests:
    """Digests that all want the same few slots, so that every probe is a chain."""
    return np.array([[(n << 20) | n % 3, n * 7] for n in numbers], dtype=np.uint64).reshape(-1, 2)


batches = st.lists(
    st.lists(st.tuples(st.integers(0, 40), st.sampled_from([0, 0, 0, 1, 17, 36, 37, 80])), max_size=12), max_size=12
)


@bounded
@given(batches, st.booleans(), st.sampled_from([4, 1 << 12]))
def test_verdicts_are_those_of_a_dictionary_that_never_forgets(
    parts: list[list[tuple[int, int]]], collide: bool, slots: int
) -> None:
    seen, model, minute = SeenIds(slots), Model(), START
    for part in parts:
        numbers, minutes = [], []
        for number, step in part:
            minute += step
            numbers.append(number)
            minutes.append(minute)
        digests = colliding(numbers) if collide else ids(*numbers)
        column = np.array(minutes, dtype=np.int32)
        expected = model.take(digests, column)
        assert seen.is_duplicate(digests, column).tolist() == expected
        seen.add(digests, column)


def test_asking_does_not_remember() -> None:
    seen = SeenIds()
    assert seen.is_duplicate(ids("a"), at(0)).tolist() == [False]
    assert seen.is_duplicate(ids("a"), at(0)).tolist() == [False]
    assert len(seen) == 0


@pytest.mark.parametrize(("later", "duplicate"), [(0, True), (WINDOW_MINUTES, True), (WINDOW_MINUTES + 1, False)])
def test_the_window_ends_after_its_last_minute(later: int, duplicate: bool) -> None:
    seen = SeenIds()
    seen.add(ids("a"), at(0))
    assert seen.is_duplicate(ids("a"), at(later)).tolist() == [duplicate]
    within_one_batch = SeenIds().is_duplicate(ids("a", "b", "a"), at(0, 0, later))
    assert within_one_batch.tolist() == [False, False, duplicate]


def test_a_repeat_renews_the_window() -> None:
    seen = SeenIds()
    seen.add(ids("a"), at(0))
    seen.add(ids("a"), at(30))
    assert len(seen) == 1
    assert seen.is_duplicate(ids("a"), at(60)).tolist() == [True]


def test_within_a_batch_all_but_the_first_are_duplicates() -> None:
    names = ["a", "b", "a", "c", "b", "a"]
    assert SeenIds().is_duplicate(ids(*names), at(*[0] * 6)).tolist() == [False, False, True, False, True, True]


def test_half_of_a_digest_in_common_is_no_duplicate() -> None:
    digests = np.array([[5, 1], [5, 2], [6, 1]], dtype=np.uint64)
    seen = SeenIds()
    assert not seen.is_duplicate(digests, at(0, 0, 0)).any()
    seen.add(digests[:1], at(0))
    assert seen.is_duplicate(digests, at(0, 0, 0)).tolist() == [True, False, False]


def test_all_of_a_hundred_thousand_ids_are_found_again_and_no_other() -> None:
    seen = SeenIds()
    for start in range(0, 100_000, 9_000):
        part = ids(*range(start, min(start + 9_000, 100_000)))
        assert not seen.is_duplicate(part, at(*[0] * len(part))).any()
        seen.add(part, at(*[0] * len(part)))
    everything = ids(*range(100_000))
    assert len(seen) == 100_000
    assert seen.is_duplicate(everything, np.full(100_000, START, dtype=np.int32)).all()
    strangers = ids(*range(100_000, 200_000))
    assert not seen.is_duplicate(strangers, np.full(100_000, START, dtype=np.int32)).any()
    assert 40 * 100_000 <= seen.memory_bytes <= 120 * 100_000


def test_ids_that_left_the_window_free_their_memory() -> None:
    seen, largest = SeenIds(), 0
    per_minute = 500
    for minute in range(400):
        part = ids(*range(minute * per_minute, (minute + 1) * per_minute))
        seen.add(part, np.full(per_minute, START + minute, dtype=np.int32))
        largest = max(largest, seen.memory_bytes)
    live = per_minute * (WINDOW_MINUTES + 1)
    assert len(seen) < 4 * live
    assert largest <= 200 * live
    newest = ids(*range((400 - WINDOW_MINUTES - 1) * per_minute, 400 * per_minute))
    assert seen.is_duplicate(newest, np.full(len(newest), START + 399, dtype=np.int32)).all()


def test_growing_drops_nothing_that_is_still_within_the_window() -> None:
    seen = SeenIds()
    seen.add(ids("first"), at(0))
    crowd = ids(*range(10_000))
    seen.add(crowd, np.full(len(crowd), START + WINDOW_MINUTES, dtype=np.int32))
    assert len(seen) == 10_001
    assert seen.is_duplicate(ids("first"), at(WINDOW_MINUTES)).tolist() == [True]


@pytest.mark.parametrize("back", [1, 2, WINDOW_MINUTES, 2 * WINDOW_MINUTES])
def test_ids_are_recognised_after_the_brokers_clock_was_set_back(back: int) -> None:
    seen = SeenIds()
    seen.add(ids("before"), at(0))
    seen.add(ids("after"), at(-back))
    assert seen.is_duplicate(ids("before", "after", "new"), at(-back, -back, -back)).tolist() == [True, True, False]
    seen.add(ids(*range(10_000)), np.full(10_000, START, dtype=np.int32))
    assert seen.is_duplicate(ids("before"), at(0)).tolist() == [True]


def test_an_id_added_twice_at_once_keeps_its_later_minute() -> None:
    seen = SeenIds()
    seen.add(ids("a", "a"), at(9, 3))
    assert len(seen) == 1
    assert seen.is_duplicate(ids("a"), at(9 + WINDOW_MINUTES)).tolist() == [True]


def test_digests_come_back_from_their_stored_bytes() -> None:
    digests = ids("a", "b", "c")
    assert (from_bytes(np.ascontiguousarray(digests).tobytes()) == digests).all()
    assert from_bytes(b"").shape == (0, 2)


def test_organisation_and_event_id_cannot_be_mistaken_for_each_other() -> None:
    assert digest("a", "bc") != digest("ab", "c")
    assert digest("a", "b") == digest("a", "b")
    assert len(digest("", "")) == 16
