"""How minutes close: by the slowest partition, idle ones by the brokers' time, once."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest_asyncio
from aiokafka import AIOKafkaConsumer

from services.aggregator.maintenance import Maintenance
from services.aggregator.store.clocks import close_minutes, load_closed, raise_clocks
from services.aggregator.store.shards import load_shard
from shared import topics
from shared.clock import DAY, HOUR, MINUTE, SECOND, system_clock
from shared.messages import Heartbeat
from shared.postgres import Pool, create_pool
from tests.integration.aggregation import EVENT_PARTITIONS, define_metrics, event, publish_events, totals_of
from tests.integration.test_aggregator_store import NOON, Writer
from tests.programs import aggregator
from tests.unit.aggregator.builders import definition
from tests.waiting import eventually

PURCHASES = {"type": "count", "event": "purchase"}


@pytest_asyncio.fixture
async def pool(postgres: str) -> AsyncIterator[Pool]:
    pool = await create_pool(postgres, name="test", schema="aggregator")
    yield pool
    await pool.execute("TRUNCATE shards, id_digests, series_counters, window_minutes")
    await pool.execute("UPDATE closed_windows SET closed_through = 0")
    await pool.close()


async def _amended(pool: Pool, shard: int) -> int:
    return int(await pool.fetchval("SELECT coalesce(sum(amended), 0) FROM series_counters WHERE shard = $1", shard))


async def test_minutes_close_once_every_partition_has_passed_them_and_never_open_again(pool: Pool) -> None:
    writers = [await Writer.start(pool, shard) for shard in (0, 1)]
    async with pool.acquire() as connection:
        assert await close_minutes(connection, 2) == 0, "nobody has come anywhere"
        await raise_clocks(connection, {0: NOON + 5 * MINUTE})
        assert await close_minutes(connection, 2) == 0, "the other one has not"
        await writers[1].store(definition("counted"), NOON + 2 * MINUTE + SECOND)
        assert await connection.fetchval("SELECT min(clock) FROM shards") == NOON + 2 * MINUTE + SECOND, (
            "a batch moves its shard's clock"
        )
        assert await close_minutes(connection, 2) == NOON + 2 * MINUTE
        assert await close_minutes(connection, 3) == NOON + 2 * MINUTE, "closed is closed"
        await raise_clocks(connection, {0: NOON, 1: NOON})
        assert await connection.fetchval("SELECT min(clock) FROM shards") == NOON + 2 * MINUTE + SECOND, (
            "clocks never go back"
        )
        assert await load_closed(connection) == NOON + 2 * MINUTE


async def test_raising_a_clock_neither_waits_for_the_shards_writer_nor_disturbs_it(pool: Pool) -> None:
    writer = await Writer.start(pool, 0)
    async with pool.acquire() as writing, pool.acquire() as connection, writing.transaction():
        await writing.execute("SELECT FROM shards WHERE shard = 0 FOR UPDATE")
        await raise_clocks(connection, {0: NOON})
        assert await connection.fetchval("SELECT min(clock) FROM shards") == 0
    async with pool.acquire() as connection:
        await raise_clocks(connection, {0: NOON})
        assert await load_shard(connection, 0) == writer.row
    await writer.store(definition("counted"), NOON + MINUTE)


async def test_counts_that_come_to_closed_minutes_are_amendments_and_count_all_the_same(pool: Pool) -> None:
    writer = await Writer.start(pool, 7)
    counted = definition("counted")
    await writer.store(counted, NOON + 5 * MINUTE)
    async with pool.acquire() as connection:
        await connection.execute("UPDATE closed_windows SET closed_through = $1", NOON + 3 * MINUTE)
    await writer.store(counted, NOON + 2 * MINUTE)
    assert await _amended(pool, 7) == 1, "its minute ends where the closed ones end"
    await writer.store(counted, NOON + 3 * MINUTE)
    assert await _amended(pool, 7) == 1, "its minute is open"
    assert await pool.fetchval("SELECT sum(counted)::int FROM series_counters WHERE shard = 7") == 3


async def test_what_waits_for_an_exposure_is_forgotten_at_last_though_a_partition_stays_empty(
    pool: Pool,
) -> None:
    now = system_clock()
    await Writer.start(pool, 0)
    await Writer.start(pool, 1)
    series = await pool.fetchval(
        "INSERT INTO experiment_series (organisation, experiment, metric, version, component, scale) "
        "VALUES ('waiting', 'e', 'm', 1, 'value', 6) RETURNING id"
    )
    await pool.execute(
        "INSERT INTO unit_waiting (exposure_series_id, unit, series_id, time, value) "
        "VALUES ($1, 'old', $1, $2, 5), ($1, 'new', $1, $3, 5)",
        series,
        now - 11 * DAY,
        now,
    )
    await Maintenance(pool, system_clock).run_once()
    assert await pool.fetchval("SELECT count(*) FROM unit_waiting") == 2, "no clock has run yet"
    async with pool.acquire() as connection:
        await raise_clocks(connection, {0: now, 1: now})
    await Maintenance(pool, system_clock).run_once()
    assert await pool.fetch("SELECT unit FROM unit_waiting") == [("new",)]


async def test_an_idle_partition_holds_no_window_open_and_what_comes_later_amends(
    kafka: str, postgres: str, tmp_path: Path
) -> None:
    await define_metrics(kafka, "closing", {"purchases": PURCHASES})
    begin = system_clock()
    await publish_events(kafka, [event("closing", "on time", user_id="only", time=begin - HOUR)])
    async with aggregator(kafka, postgres, tmp_path / "worker.log"):
        heard = await _heartbeat(kafka, closed_after=begin - MINUTE - 2 * SECOND)
        assert heard.closed_through % MINUTE == 0
        assert heard.closed_through <= system_clock() - SECOND
        await publish_events(kafka, [event("closing", "an hour ago", user_id="only", time=begin - HOUR)])

        async def counted() -> bool:
            return (await totals_of(postgres, "closing", "purchases"))["counted"] == 2

        await eventually(counted, "both are counted")
    connection = await asyncpg.connect(postgres)
    try:
        rows = await connection.fetch("SELECT clock FROM aggregator.shards")
        assert len(rows) == EVENT_PARTITIONS
        assert min(row["clock"] for row in rows) >= heard.closed_through
        assert await connection.fetchval("SELECT sum(amended)::int FROM aggregator.series_counters") == 1
    finally:
        await connection.close()


async def _heartbeat(kafka: str, *, closed_after: int) -> Heartbeat:
    """The first heartbeat that announces a minute that ends later than `closed_after` (µs)."""
    consumer: Any = AIOKafkaConsumer(
        topics.HEARTBEATS.name, bootstrap_servers=kafka, group_id=None, auto_offset_reset="earliest"
    )
    await consumer.start()
    found: list[Heartbeat] = []
    try:

        async def announced() -> bool:
            for records in (await consumer.getmany(timeout_ms=200)).values():
                found.extend(topics.HEARTBEATS.decode(r.value) for r in records)
            return any(beat.closed_through > closed_after for beat in found)

        await eventually(announced, "a minute is closed")
    finally:
        await consumer.stop()
    return next(beat for beat in found if beat.closed_through > closed_after)
