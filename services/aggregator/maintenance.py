"""Keeps the tables' days in order: tomorrow's partition exists before it is needed, old minutes and leftovers go."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, date, datetime, timedelta

import asyncpg

from services.aggregator.domain.batch import GRACE
from services.aggregator.store import backfills, clocks, facts, groups, shards, unit_states, windows
from shared.clock import DAY, Clock, to_datetime
from shared.postgres import RETRYABLE, Pool

logger = logging.getLogger(__name__)

EVERY = 600.0
KEEP_DAYS = 8
"""How long minute rows live: longer than grace, so that a late event still finds its minute."""
_DAYS_AHEAD = 3
_LOCK = 7_203_511
"""Advisory: one worker at a time."""


class Maintenance:
    def __init__(self, pool: Pool, clock: Clock) -> None:
        self._pool = pool
        self._clock = clock
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> asyncio.Task[None]:
        """Returns when today's partitions exist. The task ends only when something is wrong for good."""
        await self.run_once()
        self._task = asyncio.create_task(self._run(), name="maintenance")
        return self._task

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def run_once(self) -> None:
        now = self._clock()
        today = to_datetime(now).date()
        async with self._pool.acquire() as connection:
            await connection.execute("SELECT pg_advisory_lock($1)", _LOCK)
            try:
                present = await self._days(connection)
                for ahead in range(-1, _DAYS_AHEAD + 1):
                    day = today + timedelta(days=ahead)
                    if day not in present:
                        await self._add_day(connection, day)
                await self._roll_what_expires(connection, windows.closed_through(now - (KEEP_DAYS - 1) * DAY))
                for day in sorted(present):
                    if day < today - timedelta(days=KEEP_DAYS):
                        await connection.execute(f"DROP TABLE {_table(day)}")
                await connection.execute(
                    "DELETE FROM window_minutes_rest m USING shards h WHERE h.shard = m.shard "
                    "AND m.minute < least($1, to_timestamp(h.rolled_through / 1000000))",
                    to_datetime(now - KEEP_DAYS * DAY),
                )
                await self._drop_expired_waiting(connection)
            finally:
                await connection.execute("SELECT pg_advisory_unlock($1)", _LOCK)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(EVERY)
            try:
                await self.run_once()
            except RETRYABLE as error:
                logger.warning("maintenance is put off", extra={"error": repr(error)})

    async def _days(self, connection: asyncpg.Connection) -> set[date]:
        names = await connection.fetch(
            "SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid "
            "WHERE i.inhparent = 'aggregator.window_minutes'::regclass AND c.relname ~ '_[0-9]{8}$'"
        )
        return {datetime.strptime(name[-8:], "%Y%m%d").replace(tzinfo=UTC).date() for (name,) in names}

    async def _add_day(self, connection: asyncpg.Connection, day: date) -> None:
        """Attaching takes a weaker lock than creating in place, so readers and writers go on."""
        after = day + timedelta(days=1)
        if await connection.fetchval(
            "SELECT EXISTS (SELECT FROM window_minutes_rest WHERE minute >= $1 AND minute < $2)",
            datetime(day.year, day.month, day.day, tzinfo=UTC),
            datetime(after.year, after.month, after.day, tzinfo=UTC),
        ):
            return  # the day began without its partition: its rows stay where they are
        async with connection.transaction():
            await connection.execute(
                f"CREATE TABLE {_table(day)} (LIKE aggregator.window_minutes INCLUDING CONSTRAINTS) "
                "WITH (fillfactor = 70)"
            )
            await connection.execute(
                f"ALTER TABLE aggregator.window_minutes ATTACH PARTITION {_table(day)} "
                f"FOR VALUES FROM ('{day} 00:00+00') TO ('{after} 00:00+00')"
            )

    async def _roll_what_expires(self, connection: asyncpg.Connection, through: int) -> None:
        """Minutes of a shard whose watermark stands still would go before they are in any longer window.

        `through` is a day ahead of what goes.
        """
        for (shard,) in await connection.fetch(
            "SELECT shard FROM shards WHERE rolled_through < $1 ORDER BY shard", through
        ):
            async with connection.transaction():
                row = await shards.lock_shard(connection, shard)
                if row is not None and row.rolled_through < through:
                    await windows.roll_up(connection, shard, row.rolled_through, through)
                    await shards.mark_rolled(connection, shard, through)

    async def _drop_expired_waiting(self, connection: asyncpg.Connection) -> None:
        """What no exposure, or no start of a journey, within grace can claim any more."""
        before = await clocks.forgetting_clock(connection) - 2 * GRACE
        if before > 0:
            await unit_states.forget_waiting(connection, before)
            if not await backfills.any_runs(connection):
                await facts.forget_without_start(connection, before)
                await facts.settle(connection, before)
            await groups.forget_groups(connection, before)


def _table(day: date) -> str:
    return f"aggregator.window_minutes_{day:%Y%m%d}"
