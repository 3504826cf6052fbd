"""The topics that events go to: made before, counted after."""

from __future__ import annotations

from collections.abc import Sequence

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from shared.kafka import Publisher, create_topics
from shared.keys import describe_key, new_key
from shared.topics import EVENTS, KEYS


async def prepare(kafka: str, peers: Sequence[str]) -> str:
    """Our topics, one like that of events by each name of `peers`, and a key.

    The key is known to whoever starts from now on.
    """
    await create_topics(kafka)
    if peers:
        await _create_alike(kafka, peers)
    key = new_key()
    publisher = Publisher(kafka)
    await publisher.start()
    try:
        await publisher.publish(KEYS, describe_key(key, organisation="default", scope="ingest"))
    finally:
        await publisher.stop()
    return key


async def _create_alike(kafka: str, names: Sequence[str]) -> None:
    """Topics that have what ours for events has."""
    client = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await client.start()
    try:
        config = EVENTS.topic_config()
        await client.create_topics([NewTopic(name, EVENTS.partitions, 1, topic_configs=config) for name in names])
    finally:
        await client.close()


async def records_of(kafka: str, topic: str) -> int:
    """How many have ever been written to the topic; 0 of an unknown one."""
    if not topic:
        return 0
    consumer = AIOKafkaConsumer(bootstrap_servers=kafka, group_id=None, enable_auto_commit=False)
    await consumer.start()
    try:
        partitions = [TopicPartition(topic, n) for n in range(EVENTS.partitions)]
        return sum((await consumer.end_offsets(partitions)).values())
    finally:
        await consumer.stop()
