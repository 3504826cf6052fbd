"""Backfills: one row a metric version, one a shard of it, whose progress moves with the rows that it is about.

Locks come in one order: the shard's row, the backfill's, its shard's share; then rows as a batch takes them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from services.aggregator.domain.backfill import Placing, Span
from shared.postgres import Connection


class State(StrEnum):
    RUNNING = "running"
    DONE = "done"
    STOPPED = "stopped"
    """Cancelled, but what is merged stays: another start goes on from there."""
    FAILED = "failed"


class ShareMovedError(Exception):
    """A shard's share is not where this writer left it: cancelled, or another worker has gone on with it."""


@dataclass(frozen=True, slots=True)
class Share:
    """A shard's part of a running backfill: offsets below `next_offset` are in Postgres. Times in µs.

    `span` is None until the shard's owner has found out which offsets it is about; the rest means nothing before.
    """

    backfill: int
    organisation: str
    metric: str
    version: int
    spec: Mapping[str, Any]
    since: int | None
    shard: int
    span: Span | None
    next_offset: int
    watermark: int
    broker_time: int


@dataclass(frozen=True, slots=True)
class ShardProgress:
    shard: int
    counted_from: int | None
    to: int | None
    next_offset: int | None


@dataclass(frozen=True, slots=True)
class Progress:
    """A backfill as people ask for it, by shard."""

    version: int
    state: State
    reason: str | None
    since: int | None
    started_at: datetime
    finished_at: datetime | None
    shards: list[ShardProgress]


_SHARES = """
    SELECT b.id, b.organisation, b.metric, b.version, m.spec, b.since, p.shard,
           p.begin_offset, p.from_offset, p.to_offset, p.next_offset, p.watermark, p.broker_time
    FROM backfills b JOIN backfill_shards p ON p.backfill_id = b.id
    JOIN metrics m ON (m.organisation, m.key, m.version) = (b.organisation, b.metric, b.version)
    WHERE b.state = 'running' AND NOT p.done AND p.shard = ANY($1::int[])
"""


async def start(connection: Connection, organisation: str, metric: str, version: int, since: int | None) -> None:
    """Creates the backfill, or has a stopped one go on; one that runs, is done or has failed is left as it is."""
    async with connection.transaction():
        backfill = await connection.fetchval(
            "INSERT INTO backfills (organisation, metric, version, since, state) VALUES ($1, $2, $3, $4, $5) "
            "ON CONFLICT (organisation, metric, version) DO UPDATE SET state = excluded.state "
            "WHERE backfills.state = $6 RETURNING id",
            organisation,
            metric,
            version,
            since,
            State.RUNNING,
            State.STOPPED,
        )
        if backfill is None:
            return
        await connection.execute(
            "INSERT INTO backfill_shards (backfill_id, shard) SELECT $1, shard FROM shards ON CONFLICT DO NOTHING",
            backfill,
        )
        await _finish_if_complete(connection, backfill)


async def cancel(connection: Connection, organisation: str, metric: str, version: int, placing: Placing) -> bool:
    """Ends the backfill. What it wrote apart goes with it, also if it is done; what is merged stays.

    False if there is none.
    """
    async with connection.transaction():
        backfill = await connection.fetchval(
            "SELECT id FROM backfills WHERE organisation = $1 AND metric = $2 AND version = $3 FOR UPDATE",
            organisation,
            metric,
            version,
        )
        if backfill is None:
            return False
        if placing is Placing.MERGED:
            await connection.execute(
                "UPDATE backfills SET state = $2 WHERE id = $1 AND state <> $3", backfill, State.STOPPED, State.DONE
            )
            return True
        gone = await connection.fetch("DELETE FROM window_series WHERE backfill_id = $1 RETURNING id", backfill)
        for table in ("window_minutes", "window_rolls", "series_counters", "series_groups", "streaks"):
            await connection.execute(
                f"DELETE FROM {table} WHERE series_id = ANY($1::int[])", [series_id for (series_id,) in gone]
            )
        await connection.execute("DELETE FROM backfills WHERE id = $1", backfill)
    return True


async def progress(connection: Connection, organisation: str, metric: str, version: int) -> Progress | None:
    row = await connection.fetchrow(
        "SELECT id, version, state, reason, since, started_at, finished_at FROM backfills "
        "WHERE organisation = $1 AND metric = $2 AND version = $3",
        organisation,
        metric,
        version,
    )
    if row is None:
        return None
    shares = await connection.fetch(
        "SELECT shard, from_offset, to_offset, next_offset FROM backfill_shards WHERE backfill_id = $1 "
        "ORDER BY shard",
        row["id"],
    )
    return Progress(
        version=row["version"],
        state=State(row["state"]),
        reason=row["reason"],
        since=row["since"],
        started_at=row["started_at"],
        finished_at=row["finished_at"],
        shards=[ShardProgress(*share) for share in shares],
    )


async def open_shares(connection: Connection, owned: Sequence[int]) -> list[Share]:
    """What is left to do for these shards, the oldest backfill first; of versions in force only."""
    rows = await connection.fetch(f"{_SHARES} ORDER BY b.id, p.shard", list(owned))
    return [_share(row) for row in rows]


async def any_runs(connection: Connection) -> bool:
    """Whether history is being counted: nothing that it may still add to must be forgotten."""
    return bool(
        await connection.fetchval(
            "SELECT EXISTS (SELECT FROM backfills b "
            "JOIN metrics m ON (m.organisation, m.key, m.version) = (b.organisation, b.metric, b.version) "
            "WHERE b.state = 'running')"
        )
    )


async def fail(connection: Connection, backfill: int, reason: str) -> None:
    """Ends it for good, as `reason` says to people."""
    await connection.execute(
        "UPDATE backfills SET state = $2, reason = $3, finished_at = now() WHERE id = $1 AND state = $4",
        backfill,
        State.FAILED,
        reason,
        State.RUNNING,
    )


async def fail_all(connection: Connection, shard: int, reason: str) -> None:
    """Ends all that still count this shard."""
    await connection.execute(
        "UPDATE backfills b SET state = $2, reason = $3, finished_at = now() FROM backfill_shards p "
        "WHERE b.state = $4 AND p.backfill_id = b.id AND p.shard = $1 AND NOT p.done",
        shard,
        State.FAILED,
        reason,
        State.RUNNING,
    )


async def lock_share(connection: Connection, share: Share, *, last: bool) -> None:
    """Holds the backfill's state and the share; `last` if the share may be done by this transaction.

    Raises ShareMovedError.
    """
    state = await connection.fetchval(
        f"SELECT state FROM backfills WHERE id = $1 FOR {'UPDATE' if last else 'SHARE'}", share.backfill
    )
    present = await connection.fetchrow(
        "SELECT next_offset, done FROM backfill_shards WHERE backfill_id = $1 AND shard = $2 FOR UPDATE",
        share.backfill,
        share.shard,
    )
    at = None if share.span is None else share.next_offset
    if state != State.RUNNING or present is None or tuple(present) != (at, False):
        raise ShareMovedError(f"backfill {share.backfill} of shard {share.shard} is not at {at} any more")


async def save_share(connection: Connection, share: Share) -> None:
    """Call it under `lock_share`; with `last` if that makes it done. The last share shows what all have written."""
    assert share.span is not None
    done = share.next_offset >= share.span.to
    await connection.execute(
        "UPDATE backfill_shards SET begin_offset = $3, from_offset = $4, to_offset = $5, next_offset = $6, "
        "watermark = $7, broker_time = $8, done = $9 WHERE backfill_id = $1 AND shard = $2",
        share.backfill,
        share.shard,
        share.span.begin,
        share.span.counted_from,
        share.span.to,
        share.next_offset,
        share.watermark,
        share.broker_time,
        done,
    )
    if done:
        await _finish_if_complete(connection, share.backfill)


async def _finish_if_complete(connection: Connection, backfill: int) -> None:
    """Who calls this holds the backfill's row, so of the last two shares one sees the other's end."""
    if await connection.fetchval(
        "SELECT EXISTS (SELECT FROM backfill_shards WHERE backfill_id = $1 AND NOT done)", backfill
    ):
        return
    await connection.execute("UPDATE window_series SET visible = true WHERE backfill_id = $1", backfill)
    await connection.execute(
        "UPDATE backfills SET state = $2, finished_at = now() WHERE id = $1", backfill, State.DONE
    )


def _share(row: Any) -> Share:
    begun = row["begin_offset"] is not None
    return Share(
        backfill=row["id"],
        organisation=row["organisation"],
        metric=row["metric"],
        version=row["version"],
        spec=row["spec"],
        since=row["since"],
        shard=row["shard"],
        span=Span(row["begin_offset"], row["from_offset"], row["to_offset"]) if begun else None,
        next_offset=row["next_offset"] or 0,
        watermark=row["watermark"],
        broker_time=row["broker_time"],
    )
