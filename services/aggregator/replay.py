"""What an operator does to have everything counted anew: empties the tables, so that workers begin with the log.

look: what the log still holds ──► forget: the schema goes ──► migrations ──► a start: definitions come back from
                                                                             their topic, events are counted again
"""

from __future__ import annotations

from dataclasses import dataclass

from services.aggregator.event_log import EventLog
from shared.postgres import Pool

_PROGRAMS = ("tidegate-aggregator-worker", "tidegate-aggregator-api")


class StillRunningError(Exception):
    """The aggregator's processes use the tables: stop them first."""


@dataclass(frozen=True, slots=True)
class Prospect:
    """Which offsets of a partition were counted, and which of them a replay would count again."""

    shard: int
    counted_to: int
    log_begin: int
    log_end: int

    @property
    def lost(self) -> int:
        """Records that retention has deleted: they would be counted no more."""
        return min(self.log_begin, self.counted_to)

    def __str__(self) -> str:
        held = f"the log holds offsets {self.log_begin} to {self.log_end - 1}" if self.log_end else "the log is empty"
        lost = f"; what {self.lost} deleted records before them gave would be gone" if self.lost else ""
        return f"partition {self.shard}: counted to {self.counted_to}, {held}{lost}"


async def look(pool: Pool, log: EventLog) -> list[Prospect]:
    """By partition. Raises KafkaError, TimeoutError or what Postgres says."""
    rows = await pool.fetch("SELECT shard, next_offset FROM aggregator.shards ORDER BY shard")
    ends = await log.inspect({shard: None for shard, _ in rows}) if rows else {}
    return [Prospect(shard, counted, ends[shard].begin, ends[shard].end) for shard, counted in rows]


async def forget(pool: Pool) -> None:
    """Drops all that the aggregator has stored; what was counted is in the log only. Raises StillRunningError."""
    async with pool.acquire() as connection, connection.transaction():
        running = await connection.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
            "AND application_name = ANY($1::text[])",
            list(_PROGRAMS),
        )
        if running:
            raise StillRunningError("the aggregator is running on this database: stop its workers and its API first")
        await connection.execute("DROP SCHEMA aggregator CASCADE")
