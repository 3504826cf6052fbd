"""A shard's cursor and the ids it has seen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from services.aggregator.domain.batch import NO_WATERMARK
from services.aggregator.domain.id_runs import NewFile
from services.aggregator.domain.seen import WINDOW_MINUTES, SeenIds, from_bytes
from shared.postgres import Connection


@dataclass(frozen=True, slots=True)
class ShardRow:
    """Where a partition stands: offsets below `next_offset` are folded, minutes before `rolled_through` rolled up.

    Times are µs. `last_digest` is of the record at next_offset - 1 (None if nothing was folded yet). `revision` rises
    with every transaction that changes rows of the shard, also if it moves no offset.
    """

    shard: int
    next_offset: int
    watermark: int
    rolled_through: int
    generation: str
    last_timestamp: int | None
    last_digest: bytes | None
    published_revision: int
    revision: int


@dataclass(frozen=True, slots=True)
class Standing:
    """A shard's row, its clock (µs), and whether deadlines of its units are due."""

    row: ShardRow
    clock: int
    due: bool


def next_revision(present: ShardRow, now: int) -> int:
    """Later than any revision before, by the clock: also than those that a crashed database has forgotten."""
    return max(present.revision + 1, now)


_COLUMNS = (
    "shard, next_offset, watermark, rolled_through, generation, last_timestamp, last_digest, published_revision, "
    "revision"
)


async def load_shard(connection: Connection, shard: int) -> ShardRow | None:
    return _row(await connection.fetchrow(f"SELECT {_COLUMNS} FROM shards WHERE shard = $1", shard))


async def lock_shard(connection: Connection, shard: int) -> ShardRow | None:
    """The row as it is once every other writer of this shard is done."""
    return _row(await connection.fetchrow(f"SELECT {_COLUMNS} FROM shards WHERE shard = $1 FOR UPDATE", shard))


async def lock_shard_with(connection: Connection, shard: int, due_before: int) -> Standing | None:
    """The same, and what else a batch must know of the shard before it begins."""
    row = await connection.fetchrow(
        f"SELECT {_COLUMNS}, clock, EXISTS (SELECT FROM unit_facts WHERE shard = $1 AND deadline <= $2) "
        "FROM shards WHERE shard = $1 FOR UPDATE",
        shard,
        due_before,
    )
    return None if row is None else Standing(ShardRow(*row[:-2]), *row[-2:])


async def create_shard(connection: Connection, shard: int, first_offset: int, generation: str) -> None:
    """Starts a partition that was never folded at its first record; does nothing if the row is there."""
    await connection.execute(
        "INSERT INTO shards (shard, next_offset, watermark, rolled_through, generation, revision) "
        "VALUES ($1, $2, $3, $3, $4, 0) ON CONFLICT DO NOTHING",
        shard,
        first_offset,
        NO_WATERMARK,
        generation,
    )


async def advance_revision(connection: Connection, shard: int, revision: int) -> None:
    """For what changes rows without moving the cursor."""
    await connection.execute("UPDATE shards SET revision = $2, updated_at = now() WHERE shard = $1", shard, revision)


async def mark_published(connection: Connection, revisions: Mapping[int, int]) -> None:
    """By shard: everything up to this revision is published.

    Each on its own: a row that waits for its shard's batch must not hold up the other shards' batches.
    """
    for shard, revision in sorted(revisions.items()):
        await connection.execute(
            "UPDATE shards SET published_revision = $2 WHERE shard = $1 AND published_revision < $2", shard, revision
        )


async def mark_rolled(connection: Connection, shard: int, rolled_through: int) -> None:
    await connection.execute("UPDATE shards SET rolled_through = $2 WHERE shard = $1", shard, rolled_through)


async def forget_digests(connection: Connection, shard: int, latest_minute: int) -> None:
    """Deletes what can no longer make a duplicate of anything."""
    await connection.execute(
        "DELETE FROM id_digests WHERE shard = $1 AND minute < $2", shard, latest_minute - WINDOW_MINUTES
    )


async def load_seen(connection: Connection, shard: int, new_file: NewFile) -> SeenIds:
    """The ids within the window before the shard's latest one."""
    seen = SeenIds(new_file)
    async with connection.transaction(readonly=True):
        rows = connection.cursor(
            "SELECT minute, digests FROM id_digests WHERE shard = $1 AND minute >= "
            "(SELECT max(minute) FROM id_digests WHERE shard = $1) - $2::int ORDER BY minute, first_offset",
            shard,
            WINDOW_MINUTES,
            prefetch=50,
        )
        async for minute, raw in rows:
            digests = from_bytes(raw)
            seen.add(digests, np.full(len(digests), minute, dtype=np.int32))
    return seen


def _row(row: object) -> ShardRow | None:
    return None if row is None else ShardRow(*row)  # type: ignore[misc]  # an asyncpg.Record unpacks
