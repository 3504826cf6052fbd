"""A source among several processes: whichever dies, the others go on, and every record counts once."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

from tests.integration.sources.test_kafka_source import MAPPING, config, foreign_topic, send
from tests.integration.sources.world import Ingest, Stored, ingest, publish_keys
from tests.waiting import eventually


async def test_a_source_moves_when_its_process_dies_and_no_record_is_lost_or_counted_twice(
    kafka: str, postgres: str, log: Stored, tmp_path: Path
) -> None:
    await publish_keys(kafka)
    async with (
        foreign_topic(kafka) as (topic, producer),
        ingest(kafka, postgres, tmp_path, name="one") as one,
        ingest(kafka, postgres, tmp_path, name="two") as two,
    ):
        sent, enough = 0, asyncio.Event()
        source = await one.create("kafka", config(kafka, topic), key="moving", mapping=MAPPING)

        async def holder() -> Ingest | None:
            for process in (one, two):
                if await process.metric("tidegate_ingest_source_up", source="moving") == 1:
                    return process
            return None

        async def runs() -> bool:
            return await holder() is not None

        async def keep_sending() -> None:
            nonlocal sent
            while not enough.is_set():
                await send(producer, topic, range(sent, sent + 10))
                sent += 10
                await asyncio.sleep(0.01)

        await eventually(runs, "a process runs the source")
        first = await holder()
        other = two if first is one else one
        assert first is not None
        sending = asyncio.create_task(keep_sending())
        await eventually(lambda: _more_than(log, source["id"], 100), "100 events have come")
        await first.kill()

        async def moved() -> bool:
            return await other.metric("tidegate_ingest_source_up", source="moving") == 1

        await eventually(moved, f"the other process runs the source; see its log:\n{other.tail()}")
        enough.set()
        await sending
        await producer.flush()
        await log.holds(source["id"], Counter(range(sent)))


async def _more_than(log: Stored, source_id: int, number: int) -> bool:
    return len(await log.counted(source_id)) > number
