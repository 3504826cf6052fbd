"""The shards' clocks and the minutes that are closed by them. Raised beside the cursor, which they leave alone."""

from __future__ import annotations

from collections.abc import Mapping

from services.aggregator.domain.clocks import closed_through
from shared.clock import DAY
from shared.postgres import Connection

_LONGEST_IDLE = 8 * DAY
"""As long as minutes are kept."""


async def raise_clocks(connection: Connection, clocks: Mapping[int, int]) -> None:
    """By shard, µs; one that stands later already stays, and so does one whose shard is being written to.

    A batch raises its shard's clock to its watermark itself: this is for shards that stand still.
    """
    await connection.execute(
        "WITH free AS MATERIALIZED (SELECT shard FROM shards WHERE shard = ANY($1::int[]) "
        "ORDER BY shard FOR NO KEY UPDATE SKIP LOCKED) "
        "UPDATE shards s SET clock = k.clock FROM unnest($1::int[], $2::bigint[]) AS k (shard, clock) "
        "WHERE s.shard = k.shard AND s.clock < k.clock AND s.shard IN (SELECT shard FROM free)",
        list(clocks),
        list(clocks.values()),
    )


async def close_minutes(connection: Connection, partitions: int) -> int:
    """Closes what every one of the topic's partitions has passed; returns the end of the last closed minute (µs).

    Waits for transactions in flight that read what was closed until then. Survives a crash of the database: what was
    announced is not taken back.
    """
    known = await load_closed(connection)
    rows = await connection.fetch("SELECT clock FROM shards WHERE shard < $1", partitions)
    reached = closed_through([clock for (clock,) in rows], partitions)
    if reached <= known:
        return known
    async with connection.transaction():
        await connection.execute("SET LOCAL synchronous_commit = on")
        closed: int = await connection.fetchval(
            "UPDATE closed_windows SET closed_through = greatest(closed_through, $1) RETURNING closed_through",
            reached,
        )
    return closed


async def load_closed(connection: Connection) -> int:
    """The end of the last closed minute (µs); 0 if none is."""
    closed: int = await connection.fetchval("SELECT closed_through FROM closed_windows")
    return closed


async def hold_closed(connection: Connection) -> int:
    """The same, and nothing more is closed until the transaction ends."""
    held: int = await connection.fetchval("SELECT closed_through FROM closed_windows FOR SHARE")
    return held


async def load_cursors(connection: Connection) -> dict[int, tuple[int, int]]:
    """Shard → cursor and revision, of all shards there are."""
    rows = await connection.fetch("SELECT shard, next_offset, revision FROM shards")
    return {shard: (next_offset, revision) for shard, next_offset, revision in rows}


async def load_clock(connection: Connection, shard: int) -> int:
    """One shard's clock (µs)."""
    clock: int = await connection.fetchval("SELECT clock FROM shards WHERE shard = $1", shard)
    return clock


async def forgetting_clock(connection: Connection) -> int:
    """What lies further back than grace before this time (µs) may be forgotten; 0 if nothing may.

    Lateness goes by watermarks, and so does this: what could still count is still waited for. Only a partition that
    has been idle for longer than minutes are kept holds nothing up any more.
    """
    found: int = await connection.fetchval(
        "SELECT coalesce(greatest(min(watermark), min(clock) - $1::bigint, 0), 0) FROM shards", _LONGEST_IDLE
    )
    return found
