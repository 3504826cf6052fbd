"""Reads partitions of the log one after the other, from any offset, beside the consumer group."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Self

from aiokafka import AIOKafkaConsumer, TopicPartition

from services.aggregator.domain.batch import Record
from shared.clock import SECOND
from shared.kafka import assigned_consumer

_MILLISECOND = SECOND // 1000
_MOST = 4_000
"""Records of one batch: few enough that live events need not wait long behind it."""


class HistoryLostError(Exception):
    """Retention has deleted records that were still to be read."""


class HistoryLog:
    """All offsets and times (µs) are of the partition turned to last; reads go forward from the last `seek`."""

    def __init__(self, consumer: AIOKafkaConsumer, topic: str) -> None:
        self._consumer = consumer
        self._partition = TopicPartition(topic, 0)
        self._next = 0

    @classmethod
    async def open(cls, kafka: str, topic: str) -> Self:
        """Raises KafkaError or TimeoutError."""
        consumer = await assigned_consumer(kafka, topic, fetch_max_wait_ms=100)
        consumer.assign([])
        return cls(consumer, topic)

    async def close(self) -> None:
        """A consumer that cannot say goodbye to its brokers is dropped."""
        with suppress(TimeoutError):
            async with asyncio.timeout(5):
                await self._consumer.stop()

    def turn_to(self, partition: int) -> None:
        """Seek before you read."""
        self._partition = TopicPartition(self._partition.topic, partition)
        self._consumer.assign([self._partition])

    async def begin(self) -> int:
        """The first offset that the log still holds."""
        begins = await self._consumer.beginning_offsets([self._partition])
        return int(begins[self._partition])

    async def offset_at(self, time: int) -> int:
        """The first offset that the brokers took at `time` or later; the log's end if there is none."""
        found = (await self._consumer.offsets_for_times({self._partition: max(0, -(-time // _MILLISECOND))}))[
            self._partition
        ]
        if found is not None:
            return int(found.offset)
        return int((await self._consumer.end_offsets([self._partition]))[self._partition])

    def seek(self, offset: int) -> None:
        self._consumer.seek(self._partition, offset)
        self._next = offset

    async def read(self, to: int) -> list[Record]:
        """Records below `to` that follow the last ones; none if none came in time. Raises HistoryLostError."""
        fetched = await self._consumer.getmany(self._partition, timeout_ms=1_000, max_records=_MOST)
        found = fetched.get(self._partition, [])
        if found and found[0].offset > self._next:
            raise HistoryLostError(
                f"partition {self._partition.partition}: offsets {self._next} to {found[0].offset - 1} were deleted "
                "before they were read"
            )
        records = [Record(r.offset, r.timestamp * _MILLISECOND, r.value) for r in found if r.offset < to]
        if records:
            self._next = records[-1].offset + 1
        return records
