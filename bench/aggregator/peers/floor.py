"""Reads the topic with aiokafka's `getmany` and does nothing: no consumer on this client can be faster."""

from __future__ import annotations

import asyncio
import sys
import time

import uvloop
from aiokafka import AIOKafkaConsumer, TopicPartition

from bench.aggregator.peers.protocol import Done, Progress, Started, Task, task_from, tell

_PROGRESS_EVERY = 50_000


async def read(task: Task) -> None:
    consumer = AIOKafkaConsumer(
        bootstrap_servers=task.kafka, group_id=None, enable_auto_commit=False, auto_offset_reset="earliest"
    )
    await consumer.start()
    consumer.assign([TopicPartition(task.topic, p) for p in range(task.partitions)])
    tell(Started())
    began = time.perf_counter()
    events = told = 0
    while events < task.events:
        fetched = await consumer.getmany(timeout_ms=1_000, max_records=10_000)
        events += sum(map(len, fetched.values()))
        if events - told >= _PROGRESS_EVERY:
            told = events
            tell(Progress(events))
    tell(Done(events, time.perf_counter() - began))
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(read(task_from(sys.argv[1:])))
