"""How a fetched partition batch is cut before it is handed on."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from services.aggregator.domain.records import Record, Records, batches
from services.aggregator.record_batches import MAX_BYTES, MAX_RECORDS, Gate, in_turn
from tests.unit.aggregator.builders import bounded


def fetched(*sizes: int | None, first: int = 0, minute: int = 0) -> Records:
    return Records.of([Record(first + i, minute, None if n is None else bytes(n)) for i, n in enumerate(sizes)])


def cut(*parts: Records) -> list[Records]:
    return [*batches(parts, MAX_RECORDS, MAX_BYTES)]


def lengths(*parts: Records) -> list[int]:
    return [len(batch) for batch in cut(*parts)]


def test_nothing_gives_no_batch() -> None:
    assert cut() == []


def test_a_small_fetch_stays_whole() -> None:
    assert lengths(fetched(10, None, 20)) == [3]


def test_no_batch_has_more_than_the_allowed_records() -> None:
    assert lengths(fetched(*[0] * (2 * MAX_RECORDS + 1))) == [MAX_RECORDS, MAX_RECORDS, 1]
    assert lengths(fetched(*[None] * MAX_RECORDS)) == [MAX_RECORDS]


def test_no_batch_has_more_than_the_allowed_bytes() -> None:
    half = MAX_BYTES // 2
    assert lengths(fetched(half, half, 1)) == [2, 1]
    assert lengths(fetched(half, half + 1)) == [1, 1]


def test_what_kafka_keeps_together_stays_together_where_it_can() -> None:
    third = MAX_RECORDS // 3
    parts = [fetched(*[1] * third, first=i * third) for i in range(4)]
    assert lengths(*parts) == [3 * third, third]
    assert cut(parts[0])[0] is parts[0]
    assert lengths(parts[0], fetched(*[1] * MAX_RECORDS, first=third)) == [third, MAX_RECORDS]


def test_a_record_larger_than_a_batch_is_one_of_its_own() -> None:
    assert lengths(fetched(1, MAX_BYTES + 1, 1)) == [1, 1, 1]


def test_what_follows_without_a_gap_is_one_batch_and_a_gap_parts_two() -> None:
    parts = [fetched(1, 2, minute=7), fetched(3, first=2, minute=8), fetched(4, 5, first=4, minute=9)]
    found = cut(*parts)
    assert [(batch.first_offset, batch.next_offset) for batch in found] == [(0, 3), (4, 6)]
    assert [batch.broker_times.tolist() for batch in found] == [[7, 7, 8], [9, 9]]


@bounded
@given(
    st.lists(
        st.lists(st.sampled_from([None, 0, 1, MAX_BYTES // 3, MAX_BYTES, MAX_BYTES + 1]), min_size=1), max_size=9
    )
)
def test_every_record_comes_once_and_in_order(parts: list[list[int | None]]) -> None:
    fetches: list[Records] = []
    for part in parts:
        fetches.append(fetched(*part, first=fetches[-1].next_offset if fetches else 5))
    found = cut(*fetches)
    assert [value for batch in found for value in batch.values] == [v for part in fetches for v in part.values]
    assert [batch.first_offset for batch in found[1:]] == [batch.next_offset for batch in found[:-1]]
    assert all(len(batch.broker_times) == len(batch) > 0 for batch in found)
    assert all(len(batch) == 1 or sum(len(v or b"") for v in batch.values) <= MAX_BYTES for batch in found)


def test_what_lies_below_the_cursor_is_left_out() -> None:
    records = fetched(1, 2, 3, first=10)
    assert records.beginning_at(10) is records
    rest = records.beginning_at(12)
    assert rest is not None
    assert (rest.first_offset, rest.values) == (12, [bytes(3)])
    assert records.beginning_at(13) is None
    assert records.record(1) == Record(11, 0, bytes(2))


def test_partitions_take_turns() -> None:
    assert [*in_turn({"a": [1, 2, 3], "b": [], "c": [4]})] == [("a", 1), ("c", 4), ("a", 2), ("a", 3)]


def test_the_gate_knows_only_assigned_partitions() -> None:
    gate = Gate()
    assert gate.place(0) is None
    gate.reset([0, 1])
    place = gate.place(0)
    assert place is not None
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


async def test_a_second_batch_waits_until_the_first_is_done() -> None:
    gate = Gate()
    gate.reset([0])
    place = gate.place(0)
    assert place is not None
    await place.acquire()
    assert place.locked()
    place.release()
    assert not place.locked()
