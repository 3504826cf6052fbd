"""Another Kafka than ours, with one topic that somebody writes numbers to; it may be killed at any moment."""

from __future__ import annotations

import asyncio
import json
import os
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from deploy.local import kafka
from deploy.local.reporter import Silent
from deploy.local.settings import default_cache
from deploy.local.stack import fetch
from deploy.local.supervisor import Supervisor
from tests.faults.site import AT_ONCE, free_port
from tests.faults.victims import OfSupervisor, Victim

TOPIC = "shop.measured"
_PARTITIONS = 3


class ForeignKafka:
    """Made by `foreign_kafka`."""

    def __init__(self, servers: str, victim: Victim) -> None:
        self.servers = servers
        self.victim = victim
        self.sent = 0

    async def write(self, numbers: int, *, per_second: float) -> None:
        """So many records, each sent until the broker has it: after a kill it may be there twice, and is two then."""
        producer = AIOKafkaProducer(bootstrap_servers=self.servers, acks="all")
        await producer.start()
        try:
            sending: set[asyncio.Future[object]] = set()
            for n in range(numbers):
                value = json.dumps({"id": n, "type": "measured"}).encode()
                sending.add(await producer.send(TOPIC, value, partition=n % _PARTITIONS))
                self.sent = n + 1
                await asyncio.sleep(1 / per_second)
            await asyncio.gather(*sending)
        finally:
            await producer.stop()

    async def holds(self) -> Counter[int]:
        """Number → how many records of the topic say it."""
        consumer = AIOKafkaConsumer(bootstrap_servers=self.servers, auto_offset_reset="earliest")
        await consumer.start()
        try:
            partitions = [TopicPartition(TOPIC, number) for number in range(_PARTITIONS)]
            consumer.assign(partitions)
            ends = await consumer.end_offsets(partitions)
            found = Counter[int]()
            while any([await consumer.position(partition) < end for partition, end in ends.items()]):
                for records in (await consumer.getmany(timeout_ms=200)).values():
                    found.update(json.loads(record.value)["id"] for record in records)
            return found
        finally:
            await consumer.stop()


@asynccontextmanager
async def foreign_kafka(directory: Path) -> AsyncIterator[ForeignKafka]:
    """Keeps what it has in `directory`."""
    jars = await asyncio.to_thread(fetch, default_cache(os.environ, directory), Silent())
    port, config, data = free_port(), directory / "kafka.properties", directory / "kafka"
    properties = kafka.server_properties(data=data, port=port, controller_port=free_port())
    await asyncio.to_thread(config.write_text, properties)
    await kafka.format_storage(jars, config=config, data=data)
    supervisor = Supervisor([kafka.broker(jars, config=config, port=port)], directory, policy=AT_ONCE)
    servers = f"127.0.0.1:{port}"
    try:
        await supervisor.start()
        admin = AIOKafkaAdminClient(bootstrap_servers=servers)
        await admin.start()
        try:
            await admin.create_topics([NewTopic(TOPIC, _PARTITIONS, 1)])
        finally:
            await admin.close()
        yield ForeignKafka(servers, OfSupervisor(supervisor))
    finally:
        await supervisor.stop()
