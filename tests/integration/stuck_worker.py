"""A program: the parts of a worker around a folder that never gets its plan, or a loop that somebody blocks.

`python -m tests.integration.stuck_worker folder|loop`. The watchdog's limits are seconds here.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time

from prometheus_client import CollectorRegistry

from services.aggregator.catalogue import Catalogue
from services.aggregator.domain.id_runs import MemoryFile
from services.aggregator.domain.plan import Plan
from services.aggregator.domain.records import Record, Records
from services.aggregator.domain.stall import StallWatch
from services.aggregator.event_log import EventLog, LogTail
from services.aggregator.listeners import Listeners
from services.aggregator.partitions import Partitions
from services.aggregator.record_batches import Gate, RecordBatch
from services.aggregator.shard_clocks import ShardClocks
from services.aggregator.shard_folder import Tools
from services.aggregator.store.series import SeriesIds
from services.aggregator.telemetry import WorkerMetrics
from services.aggregator.updates import Updates
from services.aggregator.watchdog import Pulses, Watchdog
from shared import topics
from shared.clock import SECOND, system_clock
from shared.kafka import Publisher, assigned_consumer
from shared.postgres import create_pool
from shared.settings import Settings
from shared.telemetry import configure_logging


class NeverAnswers(Catalogue):
    async def plan(self, newest: int) -> Plan:
        await asyncio.Event().wait()
        raise AssertionError


async def run(settings: Settings, what: str) -> None:
    topic = topics.EVENTS.name
    metrics, listeners, gate = WorkerMetrics(CollectorRegistry()), Listeners(), Gate()
    pool = await create_pool(settings.postgres, name="stuck", schema="aggregator")
    publisher = Publisher(settings.kafka)
    updates = Updates(publisher, pool, system_clock, metrics, listeners)
    catalogue = NeverAnswers(settings.kafka, system_clock)
    tools = Tools(
        pool, SeriesIds(), catalogue, publisher, updates, listeners, metrics, system_clock, topic, MemoryFile
    )
    failures: list[BaseException] = []
    partitions = Partitions(tools, EventLog(settings.kafka, topic), gate, failures.append)
    tail = LogTail(settings.kafka, topic)
    await tail.start()
    positions = await partitions.assigned(range(topics.EVENTS.partitions))
    pulses = Pulses()
    clocks = ShardClocks(tail, partitions, pool, pulses, metrics, system_clock)
    limits = StallWatch(loop_limit=3 if what == "loop" else 60, shard_limit=3)
    Watchdog(pulses, os._exit, metrics.show_stalled, limits, every=0.2).start()
    consumer = await assigned_consumer(settings.kafka, topic)
    for tp in consumer.assignment():
        consumer.seek(tp, positions[tp.partition])
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(pulses.run())
        tasks.create_task(clocks.run())
        if what == "loop":
            asyncio.get_running_loop().call_later(1, time.sleep, 60)
        while True:
            for tp, fetched in (await consumer.getmany(timeout_ms=500)).items():
                records = Records.of([Record(r.offset, r.timestamp * (SECOND // 1000), r.value) for r in fetched])
                await partitions.submit(RecordBatch(tp.partition, records, gate.epoch))


if __name__ == "__main__":
    configure_logging("stuck-worker")
    asyncio.run(run(Settings.from_environment(os.environ), sys.argv[1]))
