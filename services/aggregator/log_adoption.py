"""What an operator does about a log that the worker refuses: look at it, then accept what is lost.

A running worker need not be stopped: it is locked out by the row's new revision, ends and starts from the new cursor.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from enum import Enum

from services.aggregator.event_log import EventLog, LogEnds, LogVerdict, judge_log, what_is_wrong
from services.aggregator.store.accepted_losses import move_cursor
from services.aggregator.store.shards import ShardRow, load_shard, lock_shard
from shared import topics
from shared.clock import Clock
from shared.postgres import Pool, create_pool, wait_until_ready

HELP = """Accept that a partition's log is not the one that was counted, and go on with it.

The worker refuses a log that was wiped, restored or replaced, or whose retention has deleted records that were never
counted. Without --yes this only tells, for each partition, what is wrong and what would be given up. With --yes the
partitions go on from the log's beginning or from its end; what was given up stays in aggregator.accepted_losses.
Healthy partitions are never touched."""

EXAMPLES = (
    ("adopt-log", "what is wrong, and with which partitions"),
    ("adopt-log --from beginning --yes", "count all that the log holds: retention has deleted records, or it is new"),
    ("adopt-log --from end --yes", "count nothing that it holds: it was restored from a backup"),
    ("adopt-log --partition 2 --from beginning --yes", "one partition only"),
)


class Start(Enum):
    """Where in the log a partition goes on."""

    BEGINNING = "beginning"
    END = "end"


class ShardMovedError(Exception):
    """Somebody folded on, or adopted the log, in the meantime."""


@dataclass(frozen=True, slots=True)
class Standing:
    """A shard's cursor beside its log."""

    row: ShardRow
    ends: LogEnds
    verdict: LogVerdict

    def __str__(self) -> str:
        what = what_is_wrong(self.row, self.ends, self.verdict)
        if self.verdict is LogVerdict.SAME:
            what = f"{self.verdict.value}, at {self.row.next_offset}"
        return f"partition {self.row.shard}: {what}"


class LogAdoption:
    def __init__(self, pool: Pool, log: EventLog, clock: Clock) -> None:
        self._pool = pool
        self._log = log
        self._clock = clock

    async def look(self, only: Collection[int] = ()) -> list[Standing]:
        """All shards that were ever folded, or `only` these, by number. Raises KafkaError, or what Postgres says."""
        async with self._pool.acquire() as connection:
            numbers = [number for (number,) in await connection.fetch("SELECT shard FROM shards ORDER BY shard")]
            found = [await load_shard(connection, number) for number in numbers if not only or number in only]
        rows = [row for row in found if row is not None]
        ends = await self._log.inspect({row.shard: row.next_offset for row in rows}) if rows else {}
        return [Standing(row, ends[row.shard], judge_log(row, ends[row.shard])) for row in rows]

    async def adopt(self, standing: Standing, start: Start) -> int:
        """Lets a refused shard go on; returns the offset where it does. Raises ShardMovedError: then look again."""
        if standing.verdict is LogVerdict.SAME:
            raise ValueError("nothing is lost")
        row, ends = standing.row, standing.ends
        offset = ends.begin if start is Start.BEGINNING else ends.end
        async with self._pool.acquire() as connection, connection.transaction():
            if await lock_shard(connection, row.shard) != row:
                raise ShardMovedError(f"partition {row.shard} has moved on")
            await move_cursor(
                connection,
                row,
                reason=standing.verdict.name.lower(),
                generation=ends.generation,
                offset=offset,
                other_log=standing.verdict is not LogVerdict.OVERRUN,
                now=self._clock(),
            )
        return offset


async def adopt_log(
    kafka: str,
    postgres: str,
    *,
    partitions: Collection[int],
    start: Start | None,
    confirmed: bool,
    clock: Clock,
    say: Callable[[str], object],
) -> int:
    """The command, once its arguments are read; returns the exit code: 0 if no partition is refused any more."""
    pool = await create_pool(postgres, name="adopt-log", size=1, schema="aggregator")
    try:
        await wait_until_ready(pool)
        adoption = LogAdoption(pool, EventLog(kafka, topics.EVENTS.name), clock)
        found = await adoption.look(partitions)
        for standing in found:
            say(str(standing))
        refused = [s for s in found if s.verdict is not LogVerdict.SAME]
        if not refused:
            say("No partition is refused: nothing to accept.")
            return 0
        if start is None or not confirmed:
            for standing in refused:
                say(
                    f"partition {standing.row.shard}: --from beginning goes on at offset {standing.ends.begin}, "
                    f"--from end at {standing.ends.end}"
                )
            say("Nothing was changed. To go on, say --from and --yes; --help tells which.")
            return 1
        for standing in refused:
            offset = await adoption.adopt(standing, start)
            say(f"partition {standing.row.shard}: goes on at offset {offset}")
        return 0
    finally:
        await pool.close()
