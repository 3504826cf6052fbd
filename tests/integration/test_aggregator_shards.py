"""What a worker keeps of its shards in memory, while answers of Postgres are lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any, cast

import asyncpg
import pytest_asyncio
from prometheus_client import CollectorRegistry

from services.aggregator.domain.id_runs import MemoryFile
from services.aggregator.domain.seen import SeenIds
from services.aggregator.event_log import LogEnds
from services.aggregator.listeners import Listeners
from services.aggregator.partitions import Partitions
from services.aggregator.record_batches import Gate
from services.aggregator.shard_folder import ShardFolder, Tools
from services.aggregator.store.series import SeriesIds
from services.aggregator.store.shards import create_shard, load_shard, lock_shard, mark_published
from services.aggregator.store.transaction import Applied
from services.aggregator.telemetry import WorkerMetrics
from shared.clock import HOUR, SECOND
from shared.postgres import Pool, create_pool
from tests.integration.test_aggregator_store import JOURNEY, NOON, Writer
from tests.unit.aggregator.builders import definition
from tests.waiting import eventually


class FaultyPool:
    """Loses connections: before they are given out (`refused`: which of them), or after their work is done."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self.given = 0
        self.refused: frozenset[int] = frozenset()
        self.lose_next = False

    @asynccontextmanager
    async def acquire(self) -> AsyncIterator[Any]:
        self.given += 1
        if self.given in self.refused:
            raise asyncpg.ConnectionDoesNotExistError("refused")
        lose, self.lose_next = self.lose_next, False
        async with self._pool.acquire() as connection:
            yield connection
        if lose:
            raise asyncpg.ConnectionDoesNotExistError("the answer to COMMIT is lost")


class Offers:
    """Stands for `Updates`: remembers what was offered."""

    def __init__(self) -> None:
        self.offered: list[Applied] = []
        self.forgotten: list[int] = []

    def offer(self, applied: Applied) -> None:
        self.offered.append(applied)

    async def forget(self, shards: Iterable[int]) -> None:
        self.forgotten += shards

    def latest(self) -> dict[str, int]:
        return {w.group: w.n for applied in self.offered for w in applied.windows}


class Log:
    """A log that begins at 0 and holds a thousand records."""

    async def inspect(self, cursors: dict[int, int | None]) -> dict[int, LogEnds]:
        return {p: LogEnds("test", 0, 1_000, None) for p in cursors}


@pytest_asyncio.fixture
async def pool(postgres: str) -> AsyncIterator[Pool]:
    pool = await create_pool(postgres, name="test", schema="aggregator", synchronous_commit=False)
    yield pool
    await pool.close()


class SettledCatalogue:
    """Its plan never changes."""

    def ask_again(self) -> None:
        pass


def tools(pool: FaultyPool, offers: Offers) -> Tools:
    return Tools(
        pool,
        SeriesIds(),
        cast(Any, SettledCatalogue()),
        cast(Any, None),
        cast(Any, offers),
        Listeners(),
        WorkerMetrics(CollectorRegistry()),
        lambda: NOON + HOUR,
        "events.v1",
        MemoryFile,
    )


async def test_deadlines_whose_commit_was_not_answered_are_published_all_the_same(pool: Pool) -> None:
    writer = await Writer.start(pool, 1)
    await writer.tell(JOURNEY, {"a": NOON, "b": NOON}, "begun")
    faulty, offers = FaultyPool(pool), Offers()
    folder = ShardFolder(writer.row, SeenIds(), tools(faulty, offers))
    folder.caught_up(NOON + HOUR)
    faulty.lose_next = True
    await folder.rest()
    async with pool.acquire() as connection:
        stored = await load_shard(connection, 1)
    assert stored is not None
    assert stored.revision > writer.row.revision, "they are committed"
    assert offers.latest() == {'["in_progress"]': 0, '["abandoned_timeout"]': 2}
    assert folder.row.revision == stored.revision


async def test_deadlines_of_a_journey_that_is_no_longer_defined_pass_in_a_shard_that_never_rests(pool: Pool) -> None:
    writer = await Writer.start(pool, 2)
    await writer.tell(JOURNEY, {"left": NOON}, "begun")
    await writer.store(definition("counted"), NOON + 2 * SECOND)
    expired = await pool.fetchval("SELECT expired FROM unit_facts WHERE unit = 'left'")
    assert expired is True


async def test_partitions_that_could_not_all_be_opened_at_once_have_one_folder_each(pool: Pool) -> None:
    faulty, offers = FaultyPool(pool), Offers()
    failures: list[BaseException] = []
    partitions = Partitions(tools(faulty, offers), cast(Any, Log()), Gate(), failures.append)
    faulty.refused = frozenset({4})  # after the rows, and ids and unpublished rows of the first partition
    positions = await partitions.assigned([3, 4])
    try:
        assert positions == {3: 0, 4: 0}
        running = sorted(t.get_name() for t in asyncio.all_tasks() if t.get_name().startswith("shard "))
        assert running == ["shard 3", "shard 4"]
        assert failures == []
    finally:
        await partitions.revoked([3, 4])
    assert offers.forgotten[-2:] == [3, 4]


async def test_marking_a_shard_that_is_in_the_middle_of_a_batch_holds_up_no_other_shard(pool: Pool) -> None:
    async with pool.acquire() as connection:
        for shard in (5, 6):
            await create_shard(connection, shard, 0, "test")
    async with pool.acquire() as busy, pool.acquire() as marking, pool.acquire() as other:
        async with busy.transaction():
            await lock_shard(busy, 6)
            task = asyncio.create_task(mark_published(marking, {5: 7, 6: 7}))

            async def marked() -> bool:
                row = await load_shard(other, 5)
                return row is not None and row.published_revision == 7

            await eventually(marked, "the idle shard is marked")
            async with asyncio.timeout(10), other.transaction():
                await lock_shard(other, 5)
            assert not task.done()
        await task
        row = await load_shard(other, 6)
        assert row is not None
        assert row.published_revision == 7
