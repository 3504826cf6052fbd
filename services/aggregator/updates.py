"""Publishes changed rows as `metric-updates.v1`: the latest state of each series, at most five times a second.

    commit r1, r2, r3 (revision 30) ─► pending: latest state per key ─► publish ─► acks ─► published_revision = 30

A crash before the last step republishes what lies above the stored revision; consumers compare revisions.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable

import msgspec
from aiokafka.errors import KafkaError

from services.aggregator.domain.plan import UnitSeries, WindowSeries
from services.aggregator.store.experiments import TotalsState
from services.aggregator.store.shards import ShardRow, mark_published
from services.aggregator.store.transaction import Applied
from services.aggregator.store.windows import WindowState
from services.aggregator.telemetry import WorkerMetrics
from shared import topics
from shared.clock import Clock
from shared.kafka import Publisher
from shared.messages import MetricUpdate
from shared.postgres import RETRYABLE, Pool

logger = logging.getLogger(__name__)

INTERVAL = 0.2
_AT_ONCE = 500


class Updates:
    """Collects what commits changed and publishes it in the background."""

    def __init__(self, publisher: Publisher, pool: Pool, clock: Clock, metrics: WorkerMetrics) -> None:
        self._publisher = publisher
        self._pool = pool
        self._clock = clock
        self._metrics = metrics
        self._pending: dict[str, MetricUpdate] = {}
        self._revisions: dict[int, int] = {}
        """Shard → revision up to which all changes are pending or published."""
        self._flushing = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> asyncio.Task[None]:
        self._task = asyncio.create_task(self._run(), name="updates")
        return self._task

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def offer(self, applied: Applied) -> None:
        """Takes what a committed batch changed."""
        shard = applied.shard
        for window in applied.windows:
            self._put(window_update(window, shard, self._clock()))
        for totals in applied.totals:
            self._put(totals_update(totals, shard, self._clock()))
        self._revisions[shard.shard] = shard.next_offset

    async def forget(self, shards: Iterable[int]) -> None:
        """Drops what is pending of shards that are no longer ours; the new owner republishes it.

        Returns when nothing of them is on its way, so that no old state follows the new owner's.
        """
        gone = set(shards)
        async with self._flushing:
            self._pending = {k: u for k, u in self._pending.items() if u.shard not in gone}
            for shard in gone:
                self._revisions.pop(shard, None)

    def _put(self, update: MetricUpdate) -> None:
        self._pending[topics.series_key(update)] = update

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(INTERVAL)
            async with self._flushing:
                await self._flush()

    async def _flush(self) -> None:
        taken, self._pending = self._pending, {}
        revisions = dict(self._revisions)
        try:
            updates = list(taken.values())
            for start in range(0, len(updates), _AT_ONCE):
                part = updates[start : start + _AT_ONCE]
                await asyncio.gather(*(self._publisher.publish(topics.METRIC_UPDATES, u) for u in part))
                self._metrics.updates.inc(len(part))
        except (KafkaError, TimeoutError) as error:
            logger.warning("updates wait for Kafka", extra={"error": repr(error), "pending": len(taken)})
            self._pending = {**taken, **self._pending}
            return
        await self._mark(revisions)

    async def _mark(self, revisions: dict[int, int]) -> None:
        for shard, revision in revisions.items():
            if self._revisions.get(shard) == revision:
                del self._revisions[shard]
            try:
                async with self._pool.acquire() as connection:
                    await mark_published(connection, shard, revision)
            except RETRYABLE as error:
                logger.warning("the published revision could not be stored", extra={"error": repr(error)})


def window_update(state: WindowState, shard: ShardRow, now: int) -> MetricUpdate:
    s: WindowSeries = state.series
    return MetricUpdate(
        organisation=s.organisation,
        subject_kind="metric",
        subject=s.metric,
        version=s.version,
        series=_series_text(s.component, state.group),
        window_start=state.minute,
        shard=shard.shard,
        revision=shard.next_offset,
        watermark=shard.watermark,
        published_at=now,
        scale=s.scale,
        n=state.n,
        sum=str(state.sum),
        sum_squares=str(state.sum_squares),
        min=state.min,
        max=state.max,
        sketch=state.sketch,
    )


def totals_update(state: TotalsState, shard: ShardRow, now: int) -> MetricUpdate:
    s: UnitSeries = state.series
    return MetricUpdate(
        organisation=s.organisation,
        subject_kind="experiment",
        subject=s.experiment,
        version=s.version,
        series=_series_text(s.metric, s.component, state.variant),
        window_start=0,
        shard=shard.shard,
        revision=shard.next_offset,
        watermark=shard.watermark,
        published_at=now,
        scale=s.scale,
        n=state.observations,
        sum=str(state.unit_sum),
        sum_squares=str(state.unit_sum_squares),
        min=state.min,
        max=state.max,
        units=state.units,
    )


def _series_text(*parts: str) -> str:
    return msgspec.json.encode(parts).decode()
