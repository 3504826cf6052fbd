"""Takes what aiokafka has fetched as columns: a ConsumerRecord for each record would cost more than all the rest.

Kafka keeps records in batches whose header says the first and the last offset and, where the topic has
LogAppendTime, the one time of all of them; so only the values have to be looked at one by one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterator
from typing import Any

import numpy as np
from aiokafka import TopicPartition
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import DefaultRecordBase

from services.aggregator.domain.records import Records, batches
from shared.clock import SECOND

_MILLISECOND = SECOND // 1000

Fetched = dict[TopicPartition, list[Records]]


class HollowBatchError(Exception):
    """Records are missing within a batch of Kafka's: somebody compacts a topic that must not be compacted."""


async def fetched_columns(
    fetcher: Any, partitions: Collection[Any], timeout: float, max_records: int, max_bytes: int
) -> Fetched:
    """Like `aiokafka.consumer.fetcher.Fetcher.fetched_records`, but all that is there, and as columns, in batches
    within these limits.

    Waits up to `timeout` seconds for something to come. Raises what fetching met: KafkaError, or HollowBatchError.
    """
    deadline = asyncio.get_running_loop().time() + timeout
    while True:
        if fetcher._subscriptions.reassignment_in_progress:
            await fetcher._subscriptions.wait_for_assignment()
        fetched: Fetched = {}
        for tp in list(fetcher._records):
            if tp not in partitions:
                if not fetcher._subscriptions.is_assigned(tp):
                    del fetcher._records[tp]
                continue
            result = fetcher._records[tp]
            failed = hasattr(result, "check_raise")
            if failed and fetched:
                return fetched  # the next call raises it
            del fetcher._records[tp]
            fetcher._notify(fetcher._wait_consume_future)
            if failed:
                result.check_raise()
            elif result.check_assignment(tp) and (
                found := _batches(result._partition_records, max_records, max_bytes)
            ):
                result._update_position()
                fetched[tp] = found
        remaining = deadline - asyncio.get_running_loop().time()
        if fetched or remaining <= 0:
            return fetched
        waiter = fetcher._create_fetch_waiter()
        done, _ = await asyncio.wait([waiter], timeout=remaining)
        if not done or fetcher._closed:
            waiter.cancel()
            return {}
        waiter.result()  # raises what the group's coordinator met


def _batches(found: Any, max_records: int, max_bytes: int) -> list[Records]:
    return [*batches(unpacked(found), max_records, max_bytes)]


def unpacked(found: Any) -> Iterator[Records]:
    """Each of Kafka's batches (of a `PartitionRecords`), from the offset on that was asked for."""
    # aiokafka's own iterator refers back to what it iterates over: unbroken, the cycle would hold what was fetched
    # until garbage is collected.
    found._records_iterator = None
    while found._records.has_next():
        batch = found._records.next_batch()
        if found._check_crcs and not batch.validate_crc():
            raise CorruptRecordException(f"Invalid CRC - {found._tp}")
        if not batch.is_control_batch:
            records = _columns(batch).beginning_at(found.next_fetch_offset)
            if records is not None:
                yield records
        found.next_fetch_offset = batch.next_offset


def _columns(batch: Any) -> Records:
    first, count = batch.base_offset, batch.last_offset_delta + 1
    if batch.timestamp_type == DefaultRecordBase.LOG_APPEND_TIME:
        times = np.full(count, batch.max_timestamp * _MILLISECOND, dtype=np.int64)
        values = [record.value for record in batch]
    else:
        pairs = [(record.timestamp, record.value) for record in batch]
        times = np.array([time * _MILLISECOND for time, _ in pairs], dtype=np.int64)
        values = [value for _, value in pairs]
    if len(values) != count:
        raise HollowBatchError(f"offsets {first} to {first + count - 1} hold {len(values)} records only")
    return Records.made_of(first, times, values)
