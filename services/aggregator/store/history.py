"""One transaction adds a batch of history and moves its share of the backfill: before COMMIT nothing happened.

It holds the shard's row, as the transactions of live batches do, so minutes are rolled up by one writer at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from services.aggregator.domain.backfill import Placing, span_of
from services.aggregator.domain.batch import Batch, Verdicts
from services.aggregator.domain.deltas import Deltas, WindowDelta
from services.aggregator.domain.known import Learned
from services.aggregator.domain.plan import WindowSeries
from services.aggregator.store import backfills, counters, facts, groups, shards, streaks, windows
from services.aggregator.store.backfills import Share
from services.aggregator.store.series import SeriesIds
from services.aggregator.store.shards import ShardRow, next_revision
from services.aggregator.store.transaction import Applied, commit_durably, lock_cursor
from shared.postgres import Pool


async def begin_share(
    pool: Pool,
    row: ShardRow,
    share: Share,
    series: Sequence[WindowSeries],
    live: SeriesIds,
    *,
    log_begin: int,
    since: int | None,
) -> Share:
    """Fixes which offsets the share is about, once the worker's plan holds the live `series`.

    Where no batch has come under it yet, history ends at the cursor: whatever comes next is folded as it comes.
    Raises CursorMovedError, ShareMovedError, or what `shared.postgres.RETRYABLE` lists.
    """
    async with pool.acquire() as connection:
        await live.register_windows(connection, series)
        series_ids = [live.window(s) for s in series]
        async with connection.transaction():
            present = await lock_cursor(connection, row)
            await backfills.lock_share(connection, share, last=True)
            await counters.note_starts(connection, row.shard, present.next_offset, series_ids)
            live_from: int = await connection.fetchval(
                "SELECT min(first_offset) FROM series_starts WHERE shard = $1 AND series_id = ANY($2::int[])",
                row.shard,
                series_ids,
            )
            span = span_of(log_begin, since, live_from)
            begun = replace(share, span=span, next_offset=span.begin)
            await backfills.save_share(connection, begun)
    return begun


async def apply_history(
    pool: Pool,
    row: ShardRow,
    share: Share,
    after: Share,
    batch: Batch,
    verdicts: Verdicts,
    deltas: Deltas,
    placing: Placing,
    ids: SeriesIds,
    *,
    now: int,
) -> Applied:
    """Adds what the batch's deltas say of windows, streaks, units and counters, and moves the share to `after`.

    What is hidden changes nothing that is published. History is no amendment, though its minutes are closed.
    Raises CursorMovedError, ShareMovedError, or what `shared.postgres.RETRYABLE` lists.
    """
    assert after.span is not None
    shard = row.shard
    async with pool.acquire() as connection, connection.transaction():
        present = await lock_cursor(connection, row)
        await backfills.lock_share(connection, share, last=after.next_offset >= after.span.to)
        revision = next_revision(present, now)
        added: list[WindowDelta] = list(deltas.windows)
        learned: Learned = []
        if placing is Placing.MERGED:
            of_units = await facts.apply_facts(
                connection, shard, deltas.facts, verdicts.watermark, ids, forgetting=False
            )
            if of_units.windows:
                await commit_durably(connection)
            added += of_units.windows
            learned = of_units.learned
        changed_windows = await windows.apply_windows(connection, shard, revision, added, ids)
        await windows.amend_rolls(connection, shard, added, present.rolled_through, ids)
        changed_streaks = await streaks.apply_streaks(connection, shard, revision, deltas.streaks, ids)
        await groups.store_groups(connection, shard, deltas.groups, ids)
        await counters.count_series(connection, shard, deltas.counters, ids)
        await backfills.save_share(connection, after)
        await shards.advance_revision(connection, shard, revision)
    changed = replace(present, revision=revision)
    if placing is Placing.APART:
        return Applied(changed)
    return Applied(changed, changed_windows, streaks=changed_streaks, learned=learned)
