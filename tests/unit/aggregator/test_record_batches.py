"""How a fetched partition batch is cut before it is handed on."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from services.aggregator.record_batches import MAX_BYTES, MAX_RECORDS, WAITING_PER_PARTITION, Gate, chunks
from tests.unit.aggregator.builders import bounded


@dataclass(frozen=True, slots=True)
class Fetched:
    offset: int
    value: bytes | None


def fetched(*sizes: int | None) -> list[Fetched]:
    return [Fetched(i, None if size is None else bytes(size)) for i, size in enumerate(sizes)]


def lengths(records: list[Fetched]) -> list[int]:
    return [len(chunk) for chunk in chunks(records)]


def test_nothing_gives_no_batch() -> None:
    assert lengths([]) == []


def test_a_small_fetch_stays_whole() -> None:
    assert lengths(fetched(10, None, 20)) == [3]


def test_no_batch_has_more_than_the_allowed_records() -> None:
    assert lengths(fetched(*[0] * (2 * MAX_RECORDS + 1))) == [MAX_RECORDS, MAX_RECORDS, 1]
    assert lengths(fetched(*[None] * MAX_RECORDS)) == [MAX_RECORDS]


def test_no_batch_has_more_than_the_allowed_bytes() -> None:
    half = MAX_BYTES // 2
    assert lengths(fetched(half, half, 1)) == [2, 1]
    assert lengths(fetched(half, half + 1)) == [1, 1]


def test_a_record_larger_than_a_batch_is_one_of_its_own() -> None:
    assert lengths(fetched(1, MAX_BYTES + 1, 1)) == [1, 1, 1]


@bounded
@given(st.lists(st.sampled_from([None, 0, 1, MAX_BYTES // 3, MAX_BYTES, MAX_BYTES + 1]), max_size=20))
def test_every_record_comes_once_and_in_order(sizes: list[int | None]) -> None:
    records = fetched(*sizes)
    found = list(chunks(records))
    assert [r for chunk in found for r in chunk] == records
    assert all(found)
    assert all(len(chunk) == 1 or sum(len(r.value or b"") for r in chunk) <= MAX_BYTES for chunk in found)


def test_the_gate_lets_two_batches_of_a_partition_wait_and_knows_only_assigned_ones() -> None:
    gate = Gate()
    assert gate.place(0) is None
    gate.reset([0, 1])
    place = gate.place(0)
    assert place is not None
    assert place._value == WAITING_PER_PARTITION == 2
    assert gate.place(1) is not place
    gate.reset([1])
    assert gate.place(0) is None


def test_every_seek_parts_what_was_fetched_before_while_and_after_it() -> None:
    gate = Gate()
    epochs = [gate.epoch]
    gate.reset([0])
    epochs.append(gate.epoch)
    gate.opened()
    epochs.append(gate.epoch)
    assert len(set(epochs)) == 3


async def test_a_third_batch_waits_until_one_is_done() -> None:
    gate = Gate()
    gate.reset([0])
    place = gate.place(0)
    assert place is not None
    await place.acquire()
    await place.acquire()
    assert place.locked()
    place.release()
    assert not place.locked()
