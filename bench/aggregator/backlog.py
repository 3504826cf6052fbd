"""Puts the workload into `events.v1`, in the batches and by the partitioner that all producers of ours share."""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import Iterable
from typing import Any

from bench.aggregator.workload import Record
from shared.kafka import new_producer
from shared.topics import EVENTS

_TRAVELLING = 4
"""Batches per partition that may wait for their acknowledgement."""


async def produce(kafka: str, records: Iterable[Record]) -> dict[int, int]:
    """Partition → offset after its last record, once Kafka has everything. The topic must be empty.

    Raises KafkaError.
    """
    producer = new_producer(kafka)
    await producer.start()
    try:
        batches: dict[int, Any] = {p: producer.create_batch() for p in range(EVENTS.partitions)}
        travelling: defaultdict[int, deque[Any]] = defaultdict(deque)
        ends = dict.fromkeys(batches, 0)

        async def send(partition: int) -> None:
            batches[partition].close()
            waiting = travelling[partition]
            waiting.append(await producer.send_batch(batches[partition], EVENTS.name, partition=partition))
            while len(waiting) > _TRAVELLING:
                await waiting.popleft()
            batches[partition] = producer.create_batch()

        for record in records:
            partition = record.partition
            if batches[partition].append(timestamp=None, key=record.key, value=record.value) is None:
                await send(partition)
                batches[partition].append(timestamp=None, key=record.key, value=record.value)
            ends[partition] += 1
        for partition, batch in list(batches.items()):
            if batch.record_count():
                await send(partition)
        await asyncio.gather(*(ack for waiting in travelling.values() for ack in waiting))
        return ends
    finally:
        await producer.stop()
