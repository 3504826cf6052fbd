"""A flood of records that hold no event."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaConsumer

from shared import topics
from shared.messages import DeadLetter
from tests.integration.aggregation import publish_raw, wait_until_folded
from tests.programs import aggregator
from tests.waiting import eventually

FLOOD = 10_000
SECONDS = 30.0
"""One at a time they would take minutes."""


async def test_ten_thousand_broken_records_in_a_row_become_dead_letters_of_their_owner_in_seconds(
    kafka: str, postgres: str, tmp_path: Path
) -> None:
    broken = b'{"organisation":"flooded","event_id":"a","event_type":"t","time":-1}'
    await publish_raw(kafka, [("one partition", broken)] * FLOOD)
    began = time.monotonic()
    async with aggregator(kafka, postgres, tmp_path / "worker.log"):
        await wait_until_folded(postgres, FLOOD)
        took = time.monotonic() - began
    letters = await _letters(kafka, FLOOD)
    assert len({letter.id for letter in letters}) == FLOOD
    assert {letter.organisation for letter in letters} == {"flooded"}
    assert took < SECONDS
    print(f"{FLOOD} dead letters took {took:.1f} s, with the worker's start")


async def _letters(kafka: str, count: int) -> list[DeadLetter]:
    consumer: Any = AIOKafkaConsumer(
        topics.DEAD_LETTERS.name, bootstrap_servers=kafka, group_id=None, auto_offset_reset="earliest"
    )
    await consumer.start()
    found: list[DeadLetter] = []
    try:

        async def complete() -> bool:
            for records in (await consumer.getmany(timeout_ms=500)).values():
                found.extend(topics.DEAD_LETTERS.decode(r.value) for r in records)
            return len(found) >= count

        await eventually(complete, "all dead letters are read")
    finally:
        await consumer.stop()
    return found
