"""Reading any stretch of a topic, forwards or backwards, in pieces that fit into memory."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from shared.kafka import assigned_consumer

DEADLINE = 10.0
"""Seconds for one piece, its turn among others included: whoever waits while Kafka is away waits no longer."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """Offsets of one partition: `begin` is in it, `end` is not."""

    begin: int
    end: int


class Topic(Protocol):
    """What a search needs of a topic. Every call raises KafkaError or TimeoutError while Kafka does not answer."""

    async def stretches(self, since: int | None = None, until: int | None = None) -> Mapping[int, Stretch]:
        """Partition → what lies in it, or the part that Kafka took from `since` until before `until` (µs UTC)."""

    async def first(self, partition: int, stretch: Stretch, *, records: int, size: int) -> list[ConsumerRecord]:
        """The first records of the stretch in offset order: up to `records`, or fewer once they have `size` bytes.

        Empty only if nothing is left in the stretch.
        """

    async def last(self, partition: int, stretch: Stretch, *, records: int, size: int) -> list[ConsumerRecord]:
        """The last ones, in offset order too."""


class TopicReader:
    """A `Topic` on Kafka; reads one piece at a time. Call `start` before and `stop` after use."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        self._bootstrap = bootstrap
        self._topic = topic
        self._consumer: AIOKafkaConsumer | None = None
        self._reading = asyncio.Lock()

    async def start(self) -> None:
        # A seek waits for the fetch that is under way: keep that short.
        self._consumer = await assigned_consumer(self._bootstrap, self._topic, fetch_max_wait_ms=100)
        self._consumer.pause(*self._consumer.assignment())

    async def stop(self) -> None:
        if self._consumer is not None:
            await self._consumer.stop()

    async def stretches(self, since: int | None = None, until: int | None = None) -> Mapping[int, Stretch]:
        consumer = self._started()
        async with asyncio.timeout(DEADLINE), self._reading:
            partitions = sorted(consumer.assignment())
            begins = await consumer.beginning_offsets(partitions)
            ends = await consumer.end_offsets(partitions)
            if since is not None:
                begins = await self._offsets_at(since, ends)
            if until is not None:
                ends = await self._offsets_at(until, ends)
        return {p.partition: Stretch(begins[p], max(begins[p], ends[p])) for p in partitions}

    async def first(self, partition: int, stretch: Stretch, *, records: int, size: int) -> list[ConsumerRecord]:
        end = min(stretch.end, stretch.begin + records)
        found: list[ConsumerRecord] = []
        held = 0
        async with self._from(partition, stretch.begin) as piece:
            while held < size and (position := await piece.position()) < end:
                for record in await piece.more(end - position):
                    if record.offset < end and held < size:
                        found.append(record)
                        held += len(record.value or b"")
        return found

    async def last(self, partition: int, stretch: Stretch, *, records: int, size: int) -> list[ConsumerRecord]:
        begin = max(stretch.begin, stretch.end - records)
        found: deque[ConsumerRecord] = deque()
        held = 0
        async with self._from(partition, begin) as piece:
            while (position := await piece.position()) < stretch.end:
                for record in await piece.more(stretch.end - position):
                    if record.offset < stretch.end:
                        found.append(record)
                        held += len(record.value or b"")
                    while held > size and len(found) > 1:
                        held -= len(found.popleft().value or b"")
        return list(found)

    @asynccontextmanager
    async def _from(self, partition: int, offset: int) -> AsyncIterator[_Piece]:
        """Outside of it the consumer fetches nothing."""
        consumer, place = self._started(), TopicPartition(self._topic, partition)
        async with asyncio.timeout(DEADLINE), self._reading:
            if await consumer.position(place) != offset:  # else what has been fetched already is of use
                consumer.seek(place, offset)
            consumer.resume(place)
            try:
                yield _Piece(consumer, place)
            finally:
                consumer.pause(place)

    async def _offsets_at(self, time: int, ends: Mapping[TopicPartition, int]) -> dict[TopicPartition, int]:
        millis = max(0, -(-time // 1_000))
        found = await self._started().offsets_for_times(dict.fromkeys(ends, millis))
        return {p: ends[p] if found.get(p) is None else found[p].offset for p in ends}

    def _started(self) -> AIOKafkaConsumer:
        if self._consumer is None:
            raise RuntimeError("start() the reader first")
        return self._consumer


@dataclass(frozen=True, slots=True)
class _Piece:
    """One partition from some offset on."""

    consumer: AIOKafkaConsumer
    partition: TopicPartition

    async def position(self) -> int:
        position: int = await self.consumer.position(self.partition)
        return position

    async def more(self, records: int) -> list[ConsumerRecord]:
        """At most so many: each costs more than its share of the fetch."""
        fetched = await self.consumer.getmany(self.partition, timeout_ms=200, max_records=records)
        found: list[ConsumerRecord] = fetched.get(self.partition, [])
        return found
