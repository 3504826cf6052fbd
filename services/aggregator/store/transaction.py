"""The sink's rule: one Postgres transaction a batch applies its deltas and moves the shard's cursor.

    lock the shard's row → compare its cursor → facts → windows, streaks → units → ids → move the cursor → COMMIT

Before COMMIT nothing happened, after it the cursor says so; a writer that lost its partition finds the cursor moved.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from services.aggregator.domain.batch import Batch, Verdicts
from services.aggregator.domain.deltas import Deltas
from services.aggregator.domain.known import Learned
from services.aggregator.domain.seen import digest
from services.aggregator.store import backfills, counters, experiments, facts, groups, links, shards, streaks, windows
from services.aggregator.store.amendments import count_amendments
from services.aggregator.store.clocks import load_clock
from services.aggregator.store.experiments import TotalsState
from services.aggregator.store.progress import advance_shard
from services.aggregator.store.series import SeriesIds
from services.aggregator.store.shards import ShardRow, next_revision
from services.aggregator.store.streaks import StreakState
from services.aggregator.store.windows import WindowState
from shared.postgres import Connection, Pool


class CursorMovedError(Exception):
    """The shard's row is not where this writer left it: somebody else folds the partition, or has folded on."""

    def __init__(self, row: ShardRow | None) -> None:
        super().__init__(f"expected another cursor than {row}")
        self.row = row


@dataclass(frozen=True, slots=True)
class Applied:
    """The rows that a transaction changed, as they are after it, and the shard's new row."""

    shard: ShardRow
    windows: list[WindowState] = field(default_factory=list)
    totals: list[TotalsState] = field(default_factory=list)
    streaks: list[StreakState] = field(default_factory=list)
    learned: Learned = field(default_factory=list)
    """What is now known of units: true once the transaction is committed."""


async def apply_batch(
    pool: Pool,
    row: ShardRow,
    batch: Batch,
    verdicts: Verdicts,
    deltas: Deltas,
    ids: SeriesIds,
    new_series: list[int],
    *,
    now: int,
) -> Applied:
    """Deadlines pass at the watermark after the batch, also those of metrics that are no longer defined.

    Raises CursorMovedError, what `shared.postgres.RETRYABLE` lists, or crashes.
    """
    shard = row.shard
    async with pool.acquire() as connection:
        await ids.register_units(connection, experiments.unit_series(deltas))
        async with connection.transaction():
            standing = await shards.lock_shard_with(connection, shard, verdicts.watermark)
            present = _unmoved(row, standing.row if standing else None)
            assert standing is not None  # or it would have moved
            revision = next_revision(present, now)
            # Not what we remember: maintenance may have rolled on.
            rolled_before = present.rolled_through
            rolled_through = max(rolled_before, windows.closed_through(verdicts.watermark))
            await counters.note_starts(connection, shard, batch.first_offset, new_series)
            of_units = facts.Applied()
            if deltas.facts or standing.due:
                of_units = await facts.apply_facts(
                    connection,
                    shard,
                    deltas.facts,
                    verdicts.watermark,
                    ids,
                    forgetting=bool(deltas.facts) and not await backfills.any_runs(connection),
                )
            if of_units.windows:
                await commit_durably(connection)
            added = [*deltas.windows, *of_units.windows]
            changed_windows = await windows.apply_windows(connection, shard, revision, added, ids)
            await windows.amend_rolls(connection, shard, added, rolled_before, ids)
            if rolled_through > rolled_before:
                await windows.roll_up(connection, shard, rolled_before, rolled_through)
            changed_streaks = await streaks.apply_streaks(connection, shard, revision, deltas.streaks, ids)
            changed_totals, exposed = await experiments.apply_units(connection, shard, revision, deltas, ids)
            if exposed:
                await commit_durably(connection)
            await links.store_links(connection, deltas.links)
            await groups.store_groups(connection, shard, deltas.groups, ids)
            after = ShardRow(
                shard=shard,
                next_offset=batch.next_offset,
                watermark=verdicts.watermark,
                rolled_through=rolled_through,
                generation=row.generation,
                last_timestamp=batch.last.broker_time,
                last_digest=record_digest(batch.last.value),
                published_revision=row.published_revision,
                revision=revision,
            )
            await count_amendments(connection, shard, standing.clock, added, ids)
            await advance_shard(
                connection,
                after,
                deltas.counters,
                deltas.organisations,
                digests_by_minute(batch, verdicts),
                ids,
                first_offset=batch.first_offset,
                dead_letters=len(batch.rejected),
            )
    return Applied(after, changed_windows, changed_totals, changed_streaks, of_units.learned)


async def apply_deadlines(pool: Pool, row: ShardRow, due_before: int, ids: SeriesIds, *, now: int) -> Applied | None:
    """Applies the deadlines (µs) of a shard that stands still, where its clock does not move by itself.

    None if none is due. Raises CursorMovedError, what `shared.postgres.RETRYABLE` lists, or crashes.
    """
    shard = row.shard
    async with pool.acquire() as connection:
        if not await facts.has_due(connection, shard, due_before):
            return None
        async with connection.transaction():
            present = await lock_cursor(connection, row)
            revision = next_revision(present, now)
            moved = (await facts.apply_facts(connection, shard, [], due_before, ids)).windows
            await commit_durably(connection)
            changed = await windows.apply_windows(connection, shard, revision, moved, ids)
            await windows.amend_rolls(connection, shard, moved, present.rolled_through, ids)
            await count_amendments(connection, shard, await load_clock(connection, shard), moved, ids)
            await shards.advance_revision(connection, shard, revision)
    return Applied(replace(present, revision=revision), changed)


async def lock_cursor(connection: Connection, row: ShardRow) -> ShardRow:
    """The shard's row, locked. Raises CursorMovedError.

    Also refused where only the revision is another: what others changed is not ours to count as published.
    """
    return _unmoved(row, await shards.lock_shard(connection, row.shard))


async def commit_durably(connection: Connection) -> None:
    """For what is no function of the shard's log alone: shards move journeys and expose units in any order.

    After a crash that took it back it could be done by another shard, and who was told of both would count both: the
    batch that is folded again finds it done, and so tells nothing of the row that it had changed. What values add to
    units depends on other shards too, but each of them changes its variant's totals again, which tells how they are.
    """
    await connection.execute("SET LOCAL synchronous_commit = on")


def digests_by_minute(batch: Batch, verdicts: Verdicts) -> dict[int, bytes]:
    """The batch's id digests, 16 bytes each, by broker minute."""
    minutes = verdicts.minutes
    if len(minutes) and minutes.min() == minutes.max():
        return {int(minutes[0]): np.ascontiguousarray(batch.digests).tobytes()}
    return {
        int(minute): np.ascontiguousarray(batch.digests[verdicts.minutes == minute]).tobytes()
        for minute in np.unique(verdicts.minutes)
    }


def record_digest(value: bytes | None) -> bytes:
    """Identifies a record's content, to recognise the log again."""
    return digest("", (value or b"").decode("latin-1"))


def _unmoved(row: ShardRow, present: ShardRow | None) -> ShardRow:
    """What is present, if it stands where `row` does. Raises CursorMovedError."""
    if present is None or (present.next_offset, present.revision) != (row.next_offset, row.revision):
        raise CursorMovedError(present)
    return present
