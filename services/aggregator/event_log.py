"""Questions to Kafka about `events.v1` as a log: is it still the one that the offsets in Postgres belong to?"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from enum import Enum

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from services.aggregator.store.shards import ShardRow
from services.aggregator.store.transaction import record_digest
from shared.clock import SECOND

_MILLISECOND = SECOND // 1000


class LogVerdict(Enum):
    """Whether a partition may be read on from its stored cursor."""

    SAME = "the log continues where the cursor stands"
    OTHER_CLUSTER = "the log belongs to another Kafka cluster than the cursor"
    SHORTER = "the log ends before the cursor: it was wiped or restored"
    REPLACED = "the record before the cursor is another one: the log was wiped or restored"
    OVERRUN = "retention has deleted records that were not folded yet"


@dataclass(frozen=True, slots=True)
class LogEnds:
    """A partition's first offset, its next offset, and the record just before a cursor if it is still there."""

    generation: str
    begin: int
    end: int
    previous: tuple[int, bytes] | None
    """Broker time (µs) and content digest."""


def judge_log(row: ShardRow, ends: LogEnds) -> LogVerdict:
    if ends.generation != row.generation:
        return LogVerdict.OTHER_CLUSTER
    if ends.end < row.next_offset:
        return LogVerdict.SHORTER
    if ends.begin > row.next_offset:
        return LogVerdict.OVERRUN
    if (
        row.last_digest is not None
        and ends.previous is not None
        and ends.previous != (row.last_timestamp, row.last_digest)
    ):
        return LogVerdict.REPLACED
    return LogVerdict.SAME


def what_is_wrong(row: ShardRow, ends: LogEnds, verdict: LogVerdict) -> str:
    """For people: the verdict, and which offsets it is about."""
    if verdict is LogVerdict.OVERRUN:
        return f"{verdict.value}; offsets {row.next_offset} to {ends.begin - 1} are lost"
    held = f"{ends.begin} to {ends.end - 1}" if ends.end > ends.begin else "nothing"
    return f"{verdict.value}; the cursor stands at {row.next_offset}, the log holds {held}"


class EventLog:
    """Reads ends and single records of one topic."""

    def __init__(self, kafka: str, topic: str) -> None:
        self._kafka = kafka
        self._topic = topic

    async def inspect(self, cursors: dict[int, int | None]) -> dict[int, LogEnds]:
        """For each partition and its cursor (None: never folded). Raises KafkaError or TimeoutError."""
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self._kafka, group_id=None, enable_auto_commit=False, auto_offset_reset="none"
        )
        await consumer.start()
        try:
            partitions = [TopicPartition(self._topic, p) for p in cursors]
            consumer.assign(partitions)
            begins = await consumer.beginning_offsets(partitions)
            ends = await consumer.end_offsets(partitions)
            generation = await self._cluster_id()
            found = {}
            for tp in partitions:
                cursor, begin, end = cursors[tp.partition], begins[tp], ends[tp]
                previous = None
                if cursor is not None and begin < cursor <= end:
                    consumer.seek(tp, cursor - 1)
                    async with asyncio.timeout(10):
                        record = await consumer.getone(tp)
                    previous = (record.timestamp * _MILLISECOND, record_digest(record.value))
                found[tp.partition] = LogEnds(generation, begin, end, previous)
            return found
        finally:
            await consumer.stop()

    async def _cluster_id(self) -> str:
        admin = AIOKafkaAdminClient(bootstrap_servers=self._kafka)
        await admin.start()
        try:
            described = await admin.describe_cluster()
            return str(described["cluster_id"])
        finally:
            await admin.close()


class LogTail:
    """Asks, again and again, where the partitions end."""

    def __init__(self, kafka: str, topic: str) -> None:
        self._kafka = kafka
        self._topic = topic
        self._consumer = AIOKafkaConsumer(bootstrap_servers=kafka, group_id=None, enable_auto_commit=False)
        self._partitions: list[TopicPartition] = []

    async def start(self) -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=self._kafka)
        await admin.start()
        try:
            (described,) = await admin.describe_topics([self._topic])
        finally:
            await admin.close()
        numbers = sorted(p["partition"] for p in described["partitions"])
        self._partitions = [TopicPartition(self._topic, n) for n in numbers]
        await self._consumer.start()

    async def stop(self) -> None:
        await self._consumer.stop()

    async def ends(self) -> dict[int, int]:
        """Partition → offset of the next record to be written, of every partition there is.

        Raises KafkaError or TimeoutError.
        """
        async with asyncio.timeout(10):
            found = await self._consumer.end_offsets(self._partitions)
        return {tp.partition: end for tp, end in found.items()}
