"""Kafka's own batches, read as columns."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.consumer.fetcher import READ_UNCOMMITTED, PartitionRecords
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords

from services.aggregator.domain.records import Records
from services.aggregator.record_columns import unpacked

_ATTRIBUTES, _MAX_TIMESTAMP, _VALUE = 22, 35, -10
LOG_APPEND_TIME = 0x08


def kafka_batch(first_offset: int, *values: bytes | None, log_append_time: int | None = None) -> bytes:
    """As brokers store it: the records' own times are 1000 ms and on, by one each."""
    builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, -1, 1_000_000)
    for i, value in enumerate(values):
        builder.append(i, timestamp=1_000 + i, key=b"k", value=value, headers=[])
    batch = bytearray(builder.build())
    batch[:8] = first_offset.to_bytes(8, "big")
    if log_append_time is not None:
        batch[_ATTRIBUTES] |= LOG_APPEND_TIME
        batch[_MAX_TIMESTAMP : _MAX_TIMESTAMP + 8] = log_append_time.to_bytes(8, "big")
    return bytes(batch)


def fetched(raw: bytes, fetch_offset: int, *, check_crcs: bool = True) -> Any:
    return PartitionRecords(
        TopicPartition("t", 0), MemoryRecords(raw), [], fetch_offset, None, None, check_crcs, READ_UNCOMMITTED
    )


def shown(found: list[Records]) -> list[tuple[int, list[int], list[bytes | None]]]:
    return [(r.first_offset, r.broker_times.tolist(), r.values) for r in found]


def test_each_batch_gives_its_offsets_times_and_values_from_the_wanted_offset_on() -> None:
    found = fetched(kafka_batch(5, b"a", b"b", None) + kafka_batch(8, b"c"), 6)
    assert shown([*unpacked(found)]) == [(6, [1_001_000, 1_002_000], [b"b", None]), (8, [1_000_000], [b"c"])]
    assert found.next_fetch_offset == 9


def test_with_log_append_time_all_records_of_a_batch_have_the_time_of_their_arrival() -> None:
    found = fetched(kafka_batch(0, b"a", b"b", log_append_time=77), 0, check_crcs=False)
    assert shown([*unpacked(found)]) == [(0, [77_000, 77_000], [b"a", b"b"])]


def test_what_lies_below_the_wanted_offset_gives_nothing() -> None:
    assert [*unpacked(fetched(kafka_batch(5, b"a", b"b"), 7))] == []


def test_what_was_unpacked_is_freed_without_a_collection_of_garbage() -> None:
    found = fetched(kafka_batch(5, b"a", b"b"), 5)
    held = weakref.ref(found)
    gc.collect()
    gc.disable()
    try:
        records = [*unpacked(found)]
        del found
        assert held() is None
    finally:
        gc.enable()
    assert len(records) == 1


def test_bytes_that_changed_on_their_way_are_refused() -> None:
    raw = bytearray(kafka_batch(0, b"aaaaaaaaaaaaaaaa"))
    raw[_VALUE] ^= 1
    with pytest.raises(CorruptRecordException):
        list(unpacked(fetched(bytes(raw), 0)))
