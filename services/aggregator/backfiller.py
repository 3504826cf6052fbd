"""Folds the history of metrics defined late, in the background: each worker does the shares of the shards it owns.

    log ──► decode, judge (own ids, own watermark) ──► fold this metric only ──► Postgres, with the share's progress
                                                                                 between two live batches of the shard

One batch at a time for the whole worker, with a rest after each: live events have most of the time.
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from aiokafka.errors import KafkaError

from services.aggregator.domain.backfill import (
    Placing,
    only_from,
    pause_after,
    placing_of,
    remembers_from,
)
from services.aggregator.domain.batch import Batch, Record, Verdicts, judge, read_batch
from services.aggregator.domain.caps import KnownGroups
from services.aggregator.domain.deltas import Deltas
from services.aggregator.domain.fold import fold
from services.aggregator.domain.known import KnownUnits
from services.aggregator.domain.metrics import parse_definition
from services.aggregator.domain.plan import Plan, WindowSeries, make_plan
from services.aggregator.domain.seen import SeenIds
from services.aggregator.history_log import HistoryLog, HistoryLostError
from services.aggregator.shard_folder import ShardFolder, Tools
from services.aggregator.store import backfills
from services.aggregator.store.backfills import Share, ShareMovedError
from services.aggregator.store.groups import read_groups
from services.aggregator.store.history import apply_history, begin_share
from services.aggregator.store.series import SeriesIds
from services.aggregator.store.transaction import CursorMovedError
from shared.clock import MINUTE
from shared.definition_error import DefinitionError
from shared.postgres import RETRYABLE

logger = logging.getLogger(__name__)

_LOOK_EVERY = 1.0
"""Seconds between looks for work while there is none."""


class Owned(Protocol):
    """The shards of this worker."""

    def folder(self, shard: int) -> ShardFolder | None: ...

    def positions(self) -> dict[int, int]: ...

    def waiting(self) -> dict[int, int]: ...


@dataclass(slots=True)
class _Work:
    """A share being folded, and what its next batch is judged by."""

    share: Share
    plan: Plan
    placing: Placing
    ids: SeriesIds
    seen: SeenIds
    groups: KnownGroups
    units: KnownUnits


class Backfiller:
    def __init__(self, tools: Tools, owned: Owned, kafka: str) -> None:
        self._tools = tools
        self._owned = owned
        self._kafka = kafka

    async def run(self) -> None:
        """Until cancelled. What goes wrong with Kafka or Postgres is tried again from where Postgres stands."""
        while True:
            worked = False
            try:
                if shares := await self._shares():
                    worked = await self._advance_all(shares)
            except (ShareMovedError, CursorMovedError) as moved:
                logger.info("a backfill is looked at anew", extra={"why": str(moved)})
            except (KafkaError, *RETRYABLE) as error:
                logger.warning("a backfill is tried again", extra={"error": repr(error)})
            if not worked:
                await asyncio.sleep(_LOOK_EVERY)

    async def _advance_all(self, shares: list[Share]) -> bool:
        """True if anything was done."""
        log = await HistoryLog.open(self._kafka, self._tools.topic)
        try:
            return any([await self._advance(share, log) for share in shares])
        finally:
            await log.close()

    async def _shares(self) -> list[Share]:
        owned = list(self._owned.positions())
        if not owned:
            return []
        async with self._tools.pool.acquire() as connection:
            return await backfills.open_shares(connection, owned)

    async def _advance(self, share: Share, log: HistoryLog) -> bool:
        """Folds the share to its end, or until the shard goes to another worker. True if anything was done."""
        log.turn_to(share.shard)
        began = time.perf_counter()
        try:
            definition = parse_definition(share.organisation, share.metric, share.version, share.spec)
        except DefinitionError as error:
            await self._fail(share, str(error))
            return False
        plan, placing = make_plan([definition], []), placing_of(definition.kind)
        if share.span is None:
            begun = await self._begin(share, plan.window_series(), log)
            if begun is None:
                return False
            share = begun
        ids = self._tools.ids if placing is Placing.MERGED else SeriesIds(share.backfill)
        async with self._tools.pool.acquire() as connection:
            await ids.register_windows(connection, plan.window_series())
        try:
            seen = await self._remember(share, log)
            work = _Work(share, plan, placing, ids, seen, KnownGroups(stored=True), KnownUnits())
            while not _done(work.share) and await self._step(work, log):
                pass
        except HistoryLostError as lost:
            await self._fail(share, str(lost))
            return False
        logger.info(
            "history is counted",
            extra={
                "metric": share.metric,
                "shard": share.shard,
                "records": work.share.next_offset - share.next_offset,
                "seconds": round(time.perf_counter() - began, 3),
            },
        )
        return True

    async def _begin(self, share: Share, series: list[WindowSeries], log: HistoryLog) -> Share | None:
        """None while the worker's plan does not hold the metric yet, or the shard is no longer ours."""
        tools, folder = self._tools, self._owned.folder(share.shard)
        plan = await tools.catalogue.plan(tools.clock())
        if folder is None or not set(series) <= set(plan.window_series()):
            return None
        log_begin = await log.begin()
        since = None if share.since is None else await log.offset_at(share.since)
        return await folder.between_batches(
            lambda row: begin_share(tools.pool, row, share, series, tools.ids, log_begin=log_begin, since=since)
        )

    async def _remember(self, share: Share, log: HistoryLog) -> SeenIds:
        """The ids that matter to what comes next, from the records before it. Leaves the log at the next offset."""
        seen = SeenIds(self._tools.new_file)
        assert share.span is not None
        if share.next_offset > share.span.begin and not _done(share):
            first = max(share.span.begin, await log.offset_at(remembers_from(share.broker_time)))
            log.seek(first)
            while first < share.next_offset:
                if records := await log.read(share.next_offset):
                    batch = await self._tools.in_turn(read_batch, records)
                    await self._tools.in_turn(
                        seen.add, batch.digests, (batch.broker_times // MINUTE).astype(np.int32)
                    )
                    first = records[-1].offset + 1
        log.seek(share.next_offset)
        return seen

    async def _step(self, work: _Work, log: HistoryLog) -> bool:
        """One batch. False if the shard is no longer ours."""
        share, tools = work.share, self._tools
        assert share.span is not None
        records = await log.read(share.span.to)
        folder = self._owned.folder(share.shard)
        if folder is None:
            return False
        if not records:
            return True
        began = time.perf_counter()
        batch, verdicts, deltas = await tools.in_turn(_decide, work, records)
        after = replace(
            share,
            next_offset=batch.next_offset,
            watermark=verdicts.watermark,
            broker_time=batch.last.broker_time,
        )
        while deltas.groups.unread:
            async with tools.pool.acquire() as connection:
                await read_groups(connection, share.shard, deltas.groups.unread, work.groups, work.ids)
            batch, verdicts, deltas = await tools.in_turn(_decide, work, records)
        applied = await folder.between_batches(
            lambda row: apply_history(
                tools.pool, row, share, after, batch, verdicts, deltas, work.placing, work.ids, now=tools.clock()
            )
        )
        work.share = after
        work.groups.add(deltas.groups)
        work.units.learn(applied.learned)
        await tools.in_turn(work.seen.add, batch.digests, verdicts.minutes)
        await asyncio.sleep(pause_after(time.perf_counter() - began, any(self._owned.waiting().values())))
        return True

    async def _fail(self, share: Share, reason: str) -> None:
        logger.error("a backfill has failed", extra={"metric": share.metric, "reason": reason})
        async with self._tools.pool.acquire() as connection:
            await backfills.fail(connection, share.backfill, reason)


def _done(share: Share) -> bool:
    return share.span is not None and share.next_offset >= share.span.to


def _decide(work: _Work, records: list[Record]) -> tuple[Batch, Verdicts, Deltas]:
    """Verdicts as they were when the events came: by the partition's own watermark and ids along the log."""
    assert work.share.span is not None
    batch = read_batch(records)
    verdicts = judge(batch, work.share.watermark, work.seen)
    counting = only_from(verdicts, batch.offsets, work.share.span.counted_from)
    return batch, verdicts, fold(batch, counting, work.plan, work.groups, work.units)
