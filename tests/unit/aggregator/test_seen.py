"""Ids seen lately, against a plain dictionary: in a table of their own, in files, and on their way from one to the
other.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.aggregator.domain.id_archive import Sizes
from services.aggregator.domain.id_runs import MemoryFile, NewFile
from services.aggregator.domain.seen import WINDOW_MINUTES, Digests, SeenIds, as_array, digest, from_bytes
from services.aggregator.scratch_files import ScratchError, ScratchFiles
from tests.unit.aggregator.builders import bounded

START = 29_333_334
"""A broker minute."""

TINY = Sizes(first_slots=2, table_slots=4, filter_words=4)
"""Two ids fill the table, 98 a generation, whose filter takes much for possible."""
SMALL = Sizes(first_slots=1 << 6, table_slots=1 << 9, filter_words=1 << 11)
"""The usual proportions, a 512th of the usual size: 256 ids fill the table, 12,544 a generation."""


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


def batches(*steps: int) -> st.SearchStrategy[list[list[tuple[int, int]]]]:
    """Of ids, and the minutes between them and what came before."""
    return st.lists(st.lists(st.tuples(st.integers(0, 40), st.sampled_from(steps)), max_size=12), max_size=20)


def remembering(ids: int, sizes: Sizes = TINY, new_file: NewFile = MemoryFile) -> SeenIds:
    """Has seen the numbers from 0 on, all in the first minute."""
    seen = SeenIds(new_file, sizes)
    for start in range(0, ids, 900):
        part = numbers(start, min(start + 900, ids))
        seen.add(part, at(*[0] * len(part)))
    return seen


def numbers(begin: int, end: int) -> Digests:
    return ids(*range(begin, end))


@bounded
@given(batches(0, 0, 0, 1, 17, 36, 37, 80, 70_000), st.booleans(), st.sampled_from([TINY, SMALL, Sizes()]))
def test_verdicts_are_those_of_a_dictionary_that_never_forgets(
    parts: list[list[tuple[int, int]]], collide: bool, sizes: Sizes
) -> None:
    seen, model, minute = SeenIds(sizes=sizes), Model(), START
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
        assert seen.is_duplicate(digests, column).tolist() == expected, "asking changes nothing"
        seen.add(digests, column)


@bounded
@given(batches(0, 0, 1, 9, 36, -1, -9, -36), st.booleans(), st.sampled_from([TINY, SMALL]))
def test_a_clock_that_is_set_back_forgets_nothing_that_lies_in_the_window_of_the_latest_minute(
    parts: list[list[tuple[int, int]]], collide: bool, sizes: Sizes
) -> None:
    """An id that left that window may be known still, or not; with its latest minute it decides as ever."""
    seen, last, latest, minute = SeenIds(sizes=sizes), dict[int, int](), START, START
    for part in parts:
        before, stored, here = latest, dict(last), dict[int, int]()
        expected, column = list[set[bool]](), list[int]()
        for number, step in part:
            minute = max(minute + step, latest - WINDOW_MINUTES)
            latest = max(latest, minute)
            forgotten = stored.get(number, before) < before - WINDOW_MINUTES
            possible = [last, here] if forgotten else [last]
            expected.append({number in times and minute - times[number] <= WINDOW_MINUTES for times in possible})
            for times in (here, last):
                times[number] = max(minute, times.get(number, minute))
            column.append(minute)
        chosen = [number for number, _ in part]
        digests, minutes = colliding(chosen) if collide else ids(*chosen), np.array(column, dtype=np.int32)
        verdicts = seen.is_duplicate(digests, minutes).tolist()
        assert all(verdict in allowed for verdict, allowed in zip(verdicts, expected, strict=True))
        seen.add(digests, minutes)


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


@pytest.mark.parametrize("between", [0, 10, 30, 100])
def test_a_repeat_renews_the_window_wherever_the_id_is_kept(between: int) -> None:
    seen = SeenIds(sizes=TINY)
    seen.add(ids("a"), at(0))
    seen.add(ids(*range(between)), at(*[0] * between))
    seen.add(ids("a"), at(30))
    seen.add(ids(*range(between)), at(*[30] * between))
    assert seen.is_duplicate(ids("a"), at(60)).tolist() == [True]
    assert seen.is_duplicate(ids("a"), at(67)).tolist() == [False]


def test_within_a_batch_all_but_the_first_are_duplicates() -> None:
    names = ["a", "b", "a", "c", "b", "a"]
    assert SeenIds().is_duplicate(ids(*names), at(*[0] * 6)).tolist() == [False, False, True, False, True, True]


def test_half_of_a_digest_in_common_is_no_duplicate() -> None:
    digests = np.array([[5, 1], [5, 2], [6, 1]], dtype=np.uint64)
    seen = SeenIds()
    assert not seen.is_duplicate(digests, at(0, 0, 0)).any()
    seen.add(digests[:1], at(0))
    assert seen.is_duplicate(digests, at(0, 0, 0)).tolist() == [True, False, False]


LARGE = Sizes(first_slots=1 << 6, table_slots=1 << 14, filter_words=1 << 16)
"""8,192 ids fill the table; what seven runs hold is more than is merged at a time."""


@pytest.mark.parametrize("sizes", [SMALL, LARGE, Sizes()])
@pytest.mark.parametrize("on_disk", [False, True])
def test_all_of_a_hundred_thousand_ids_are_found_again_and_no_other(on_disk: bool, sizes: Sizes) -> None:
    seen = remembering(100_000, sizes, ScratchFiles(None).create if on_disk else MemoryFile)
    assert len(seen) == 100_000
    now = np.full(100_000, START, dtype=np.int32)
    assert seen.is_duplicate(numbers(0, 100_000), now).all()
    assert not seen.is_duplicate(numbers(100_000, 200_000), now).any()
    later = now + WINDOW_MINUTES + 1
    assert not seen.is_duplicate(numbers(0, 100_000), later).any()


def test_an_id_takes_little_more_than_a_byte_of_memory_once_the_table_is_full() -> None:
    few, many = remembering(10_000, SMALL), remembering(110_000, SMALL)
    assert few.memory_bytes <= many.memory_bytes <= few.memory_bytes + 1.6 * 100_000
    assert 15 * 100_000 <= many.disk_bytes - few.disk_bytes <= 16 * 101_000
    assert remembering(200, Sizes()).disk_bytes == 0


class CountedFiles:
    """How many bytes are in files that somebody still needs."""

    def __init__(self) -> None:
        self.files = weakref.WeakSet[MemoryFile]()

    def create(self) -> MemoryFile:
        file = MemoryFile()
        self.files.add(file)
        return file


@pytest.mark.parametrize("sizes", [SMALL, Sizes()])
def test_ids_that_left_the_window_free_their_memory_and_their_files(sizes: Sizes) -> None:
    files, largest, per_minute = CountedFiles(), 0, 500
    seen = SeenIds(files.create, sizes)
    for minute in range(400):
        part = numbers(minute * per_minute, (minute + 1) * per_minute)
        seen.add(part, np.full(per_minute, START + minute, dtype=np.int32))
        largest = max(largest, seen.memory_bytes)
    live = per_minute * (WINDOW_MINUTES + 1)
    assert live <= len(seen) < 4 * live
    assert largest <= (4 * live if sizes is SMALL else 200 * live)
    assert len(files.files) <= 20, "of 782 that there were"
    newest = numbers((400 - WINDOW_MINUTES - 1) * per_minute, 400 * per_minute)
    assert seen.is_duplicate(newest, np.full(len(newest), START + 399, dtype=np.int32)).all()


def test_merging_leaves_out_what_left_the_window() -> None:
    seen = SeenIds(sizes=TINY)
    seen.add(numbers(0, 12), at(0, *[20] * 11))
    seen.add(numbers(12, 14), at(40, 40))
    assert len(seen) == 14
    seen.add(numbers(14, 16), at(40, 40))
    assert len(seen) == 15, "seven runs are one now"
    assert seen.is_duplicate(numbers(0, 16), at(*[41] * 16)).tolist() == [False, *[True] * 15]


def test_a_file_that_fails_fails_whoever_asks() -> None:
    class Broken(MemoryFile):
        def read(self, offsets: Sequence[int], sizes: Sequence[int]) -> bytes:
            raise ScratchError(None, "broken")

    seen = remembering(8, new_file=Broken)
    with pytest.raises(ScratchError, match="broken"):
        seen.is_duplicate(numbers(0, 1), at(0))


@pytest.mark.parametrize("sizes", [SMALL, Sizes()])
def test_growing_drops_nothing_that_is_still_within_the_window(sizes: Sizes) -> None:
    seen = SeenIds(sizes=sizes)
    seen.add(ids("first"), at(0))
    crowd = ids(*range(10_000))
    seen.add(crowd, np.full(len(crowd), START + WINDOW_MINUTES, dtype=np.int32))
    assert len(seen) == 10_001
    assert seen.is_duplicate(ids("first"), at(WINDOW_MINUTES)).tolist() == [True]


@pytest.mark.parametrize("sizes", [TINY, Sizes()])
@pytest.mark.parametrize("back", [1, 2, WINDOW_MINUTES, 2 * WINDOW_MINUTES])
def test_ids_are_recognised_after_the_brokers_clock_was_set_back(back: int, sizes: Sizes) -> None:
    seen = SeenIds(sizes=sizes)
    seen.add(ids("before"), at(0))
    seen.add(ids("after"), at(-back))
    assert seen.is_duplicate(ids("before", "after", "new"), at(-back, -back, -back)).tolist() == [True, True, False]
    seen.add(ids(*range(10_000)), np.full(10_000, START, dtype=np.int32))
    assert seen.is_duplicate(ids("before"), at(0)).tolist() == [True]


@pytest.mark.parametrize("cuts", [(), (1,), (2,), (1, 2)])
def test_the_latest_of_all_earlier_repeats_decides_wherever_batches_are_cut(cuts: tuple[int, ...]) -> None:
    seen, verdicts = SeenIds(), []
    parts = zip(np.split(ids("a", "a", "a"), cuts), np.split(at(10, 5, 10 + WINDOW_MINUTES), cuts), strict=True)
    for digests, minutes in parts:
        verdicts += seen.is_duplicate(digests, minutes).tolist()
        seen.add(digests, minutes)
    assert verdicts == [False, True, True]


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
