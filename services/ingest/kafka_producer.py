"""An aiokafka producer that can be got rid of, whatever state it is in."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

from aiokafka import AIOKafkaProducer

from services.ingest.lanes import Batch
from services.ingest.record_batch import RecordBatch
from shared.clock import system_clock
from shared.kafka import MAX_BATCH_SIZE, new_producer


class KafkaProducer:
    """The `BatchProducer` on real Kafka: idempotent, acknowledged by all in-sync replicas."""

    def __init__(self, bootstrap: str) -> None:
        self._producer: AIOKafkaProducer = new_producer(bootstrap)

    async def start(self) -> None:
        await self._producer.start()

    async def partitions_for(self, topic: str) -> set[int]:
        partitions: set[int] = await self._producer.partitions_for(topic)
        return partitions

    def create_batch(self) -> Batch:
        return RecordBatch(MAX_BATCH_SIZE, system_clock() // 1_000)

    async def send_batch(self, batch: Batch, topic: str, *, partition: int) -> Awaitable[object]:
        acknowledged: Awaitable[object] = await self._producer.send_batch(batch, topic, partition=partition)
        return acknowledged

    async def stop(self) -> None:
        """Drops what has not been acknowledged.

        aiokafka's own `stop` would wait for it, in a wedged producer for ever. Hence the private parts.
        """
        producer = self._producer
        producer._closed = True
        sender = producer._sender.sender_task
        # The first cancellation makes the sender wait for its requests in flight, a second one reaches those.
        while sender is not None and not sender.done():
            sender.cancel()
            await asyncio.wait([sender], timeout=0.1)
        await producer.client.close()
