"""Moves a shard's cursor to where its log can be read on, and remembers what was given up."""

from __future__ import annotations

from services.aggregator.store.backfills import fail_all
from services.aggregator.store.shards import ShardRow, next_revision
from shared.postgres import Connection


async def move_cursor(
    connection: Connection, row: ShardRow, *, reason: str, generation: str, offset: int, other_log: bool, now: int
) -> None:
    """Call it in a transaction that holds the shard's row. The new revision locks out who folds from the old one.

    In another log the offsets begin anew: ids that were seen are kept, under offsets that none of it has.
    """
    await connection.execute(
        "INSERT INTO accepted_losses "
        "(shard, reason, generation_before, offset_before, generation_after, offset_after) "
        "VALUES ($1, $2, $3, $4, $5, $6)",
        row.shard,
        reason,
        row.generation,
        row.next_offset,
        generation,
        offset,
    )
    await connection.execute(
        "UPDATE shards SET next_offset = $2, generation = $3, last_timestamp = NULL, last_digest = NULL, "
        "revision = $4, updated_at = now() WHERE shard = $1",
        row.shard,
        offset,
        generation,
        next_revision(row, now),
    )
    if other_log:
        # Below all there are, so that no row meets another one on its way.
        await connection.execute(
            "UPDATE id_digests d SET first_offset = d.first_offset - s.by FROM (SELECT "
            "greatest($2, max(first_offset) - min(first_offset) + 1) AS by FROM id_digests WHERE shard = $1) s "
            "WHERE d.shard = $1",
            row.shard,
            row.next_offset,
        )
        await fail_all(connection, row.shard, f"partition {row.shard}: the log was given up for another one")
        await connection.execute("UPDATE series_starts SET first_offset = $2 WHERE shard = $1", row.shard, offset)
