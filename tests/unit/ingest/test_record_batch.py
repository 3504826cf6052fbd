"""Our record batches are Kafka's: aiokafka's own reader finds in them what went in."""

from __future__ import annotations

import pytest
from aiokafka.record.memory_records import MemoryRecords
from hypothesis import given
from hypothesis import strategies as st

from services.ingest.lanes import Encoded
from services.ingest.record_batch import RecordBatch

NOW = 1_780_000_000_000
ROOM = 512 * 1024
_LZ4 = 3


def _built(batch: RecordBatch) -> bytes:
    batch.close()
    batch._set_producer_state(producer_id=77, producer_epoch=3, base_sequence=1_000)
    return batch._build()


def _read(made: bytes) -> tuple[list[Encoded], int]:
    """The records, and how they are compressed."""
    found = MemoryRecords(made).next_batch()
    assert found.validate_crc()
    assert (found.producer_id, found.producer_epoch, found.base_sequence) == (77, 3, 1_000)
    records = list(found)
    assert [record.offset for record in records] == list(range(len(records)))
    assert {record.timestamp for record in records} == {NOW}
    return [(record.key, record.value) for record in records], found.compression_type


@given(st.lists(st.tuples(st.binary(min_size=1, max_size=40), st.binary(max_size=600)), min_size=1, max_size=60))
def test_what_goes_in_comes_out_in_order(records: list[Encoded]) -> None:
    batch = RecordBatch(ROOM, NOW)
    assert batch.extend(records[:3]) + batch.extend(records[3:]) == len(records)
    assert batch.record_count() == len(records)
    assert _read(_built(batch))[0] == records


def test_many_records_are_compressed_and_a_tiny_one_is_not() -> None:
    many, tiny = RecordBatch(ROOM, NOW), RecordBatch(ROOM, NOW)
    many.extend([(b"user", b'{"event_type":"page_view"}')] * 100)
    tiny.extend([(b"user", b"{}")])
    made = _built(many)
    assert _read(made)[1] == _LZ4
    assert len(made) < 1_000
    assert _read(_built(tiny))[1] == 0


def test_a_full_batch_says_how_many_it_took() -> None:
    records = [(b"key", b"x" * 100)] * 100
    batch = RecordBatch(2_000, NOW)
    taken = batch.extend(records)
    assert 0 < taken < 100
    assert batch.extend(records) == 0
    assert _read(_built(batch))[0] == records[:taken]


def test_an_empty_batch_takes_a_record_of_any_size() -> None:
    batch = RecordBatch(2_000, NOW)
    assert batch.extend([(b"key", b"x" * 300_000), (b"key", b"y")]) == 1
    assert _read(_built(batch))[0] == [(b"key", b"x" * 300_000)]


def test_a_batch_that_is_sent_again_is_the_same_bytes() -> None:
    batch = RecordBatch(ROOM, NOW)
    batch.extend([(b"key", b"x" * 1_000)])
    made = _built(batch)
    assert batch._build() is made
    assert batch.size() == len(made)


@pytest.mark.parametrize("place", [17, 30, 57, 70])
def test_a_flipped_byte_is_found(place: int) -> None:
    batch = RecordBatch(ROOM, NOW)
    batch.extend([(b"key", bytes(range(256)) * 10)])
    made = bytearray(_built(batch))
    made[place] ^= 1
    assert not MemoryRecords(bytes(made)).next_batch().validate_crc()
