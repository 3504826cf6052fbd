"""Publishes changed rows as `metric-updates.v1`: at once, then at most five times a second a series, latest state.

    commit r1     r2   r3        r4
           │ 0 ms │    │         │
    send   r1 ────┼────┼── r3 ───┼──── r4 ──►      200 ms apart; between them the latest state wins

Only where something listens. Up to a shard's published revision everything is known to be with Kafka; a crash
republishes what lies above it, and consumers compare revisions.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

from aiokafka.errors import KafkaError

from services.aggregator.listeners import Listeners
from services.aggregator.store.shards import ShardRow, mark_published
from services.aggregator.store.transaction import Applied
from services.aggregator.telemetry import WorkerMetrics
from services.aggregator.update_messages import streak_update, totals_update, window_update
from shared import topics
from shared.clock import Clock
from shared.kafka import Publisher
from shared.messages import MetricUpdate
from shared.postgres import RETRYABLE, Pool

logger = logging.getLogger(__name__)

INTERVAL = 0.2
"""Seconds between two updates of one series."""
_MARK_EVERY = 1.0
_AT_ONCE = 500

_Key = tuple[int, object, object, object]
"""A row: shard, table, series, and its place in that."""


@dataclass(slots=True)
class _Change:
    """A row's latest state as a message (from the time of publication), and its earliest revision not published."""

    message: Callable[[int], MetricUpdate]
    since: int


@dataclass(slots=True)
class _Unsent:
    """What of a shard is still to be published; `pending` in order of `since`."""

    pending: dict[_Key, _Change] = field(default_factory=dict)
    in_flight: dict[_Key, _Change] = field(default_factory=dict)
    revision: int = 0
    marked: int = 0

    def published(self) -> int:
        """Up to this revision everything is with Kafka."""
        oldest = [change.since for change in self.in_flight.values()]
        oldest += [change.since for change in [next(iter(self.pending.values()), None)] if change is not None]
        return min(oldest, default=self.revision + 1) - 1

    def put_back(self, failed: dict[_Key, _Change]) -> None:
        for key, change in failed.items():
            newer = self.pending.pop(key, None)
            if newer is not None:
                change.message = newer.message
        self.pending = {**failed, **self.pending}


_Departing = tuple[_Key, _Unsent, _Change]


class Updates:
    """Collects what commits changed and publishes it in the background."""

    def __init__(
        self, publisher: Publisher, pool: Pool, clock: Clock, metrics: WorkerMetrics, listeners: Listeners
    ) -> None:
        self._publisher = publisher
        self._pool = pool
        self._clock = clock
        self._metrics = metrics
        self._listeners = listeners
        self._shards: dict[int, _Unsent] = {}
        self._ready: dict[_Key, None] = {}
        """What may be sent now, in order."""
        self._resting: deque[tuple[float, _Key]] = deque()
        """What was sent lately, and until when it rests, in that order."""
        self._rests: set[_Key] = set()
        self._wake = asyncio.Event()
        self._progress = asyncio.Condition()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> asyncio.Task[None]:
        self._task = asyncio.create_task(self._run(), name="updates")
        return self._task

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def offer(self, applied: Applied) -> None:
        """Takes what a committed transaction changed, or what must be published again."""
        row, heard = applied.shard, self._listeners
        shard = self._shards.setdefault(row.shard, _Unsent())
        shard.revision = row.revision
        for w in applied.windows:
            # Steps are for reports: no rule can name them.
            if w.series.component != "step" and heard.hears_metric(w.series.organisation, w.series.metric):
                self._put(shard, row, (row.shard, w.series, w.minute, w.group), partial(window_update, w, row))
        for k in applied.streaks:
            if heard.hears_metric(k.series.organisation, k.series.metric):
                self._put(shard, row, (row.shard, k.series, 0, k.group), partial(streak_update, k, row))
        for t in applied.totals:
            if heard.hears_everything(t.series.organisation):
                self._put(shard, row, (row.shard, t.series, 0, t.variant), partial(totals_update, t, row))
        if self._ready:
            self._wake.set()

    async def forget(self, shards: Iterable[int]) -> None:
        """Drops what is pending of shards that are no longer ours; the new owner republishes it.

        Returns when nothing of them is on its way, so that no old state follows the new owner's.
        """
        gone = [shard for number in shards if (shard := self._shards.pop(number, None)) is not None]
        for shard in gone:
            shard.pending.clear()
        async with self._progress:
            self._progress.notify_all()
            await self._progress.wait_for(lambda: not any(shard.in_flight for shard in gone))

    async def published(self, number: int, revision: int) -> bool:
        """Waits until everything of the shard up to `revision` is with Kafka; False if it is no longer ours."""
        shard = self._shards.get(number)
        if shard is None:
            return False
        async with self._progress:
            await self._progress.wait_for(
                lambda: self._shards.get(number) is not shard or shard.published() >= revision
            )
        return self._shards.get(number) is shard

    def _put(self, shard: _Unsent, row: ShardRow, key: _Key, message: Callable[[int], MetricUpdate]) -> None:
        known = shard.pending.get(key)
        if known is not None:
            known.message = message
            return
        shard.pending[key] = _Change(message, row.revision)
        if key not in self._rests:
            self._ready[key] = None

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._mark_now_and_then())
            while True:
                with suppress(TimeoutError):
                    async with asyncio.timeout_at(self._resting[0][0] if self._resting else None):
                        await self._wake.wait()
                self._wake.clear()
                self._end_rests()
                ready = [departing for key in self._ready if (departing := self._depart(key)) is not None]
                self._ready.clear()
                for start in range(0, len(ready), _AT_ONCE):
                    tasks.create_task(self._send(ready[start : start + _AT_ONCE]))

    def _end_rests(self) -> None:
        now = asyncio.get_running_loop().time()
        while self._resting and self._resting[0][0] <= now:
            _, key = self._resting.popleft()
            shard = self._shards.get(key[0])
            if shard is not None and key in shard.in_flight:
                self._resting.append((now + INTERVAL, key))  # its acknowledgement takes longer than that
                continue
            self._rests.discard(key)
            if shard is not None and key in shard.pending:
                self._ready[key] = None

    def _depart(self, key: _Key) -> _Departing | None:
        shard = self._shards.get(key[0])
        if shard is None or key not in shard.pending:
            return None
        change = shard.in_flight[key] = shard.pending.pop(key)
        self._rests.add(key)
        self._resting.append((asyncio.get_running_loop().time() + INTERVAL, key))
        return key, shard, change

    async def _send(self, departing: Sequence[_Departing]) -> None:
        now = self._clock()
        try:
            await asyncio.gather(
                *(self._publisher.publish(topics.METRIC_UPDATES, change.message(now)) for _, _, change in departing)
            )
        except (KafkaError, TimeoutError) as error:
            logger.warning("updates wait for Kafka", extra={"error": repr(error), "updates": len(departing)})
            self._put_back(departing)
        else:
            self._metrics.updates.inc(len(departing))
        for key, shard, _ in departing:
            del shard.in_flight[key]
        async with self._progress:
            self._progress.notify_all()

    def _put_back(self, departed: Sequence[_Departing]) -> None:
        """What may not have arrived is sent again, unless its shard is no longer ours."""
        failed: dict[int, dict[_Key, _Change]] = defaultdict(dict)
        for key, shard, change in departed:
            if self._shards.get(key[0]) is shard:
                failed[key[0]][key] = change
                if key not in self._rests:
                    self._ready[key] = None
        for number, changes in failed.items():
            self._shards[number].put_back(changes)
        self._wake.set()

    async def _mark_now_and_then(self) -> None:
        while True:
            await asyncio.sleep(_MARK_EVERY)
            reached = {number: shard.published() for number, shard in self._shards.items()}
            ahead = {
                number: revision for number, revision in reached.items() if revision > self._shards[number].marked
            }
            if not ahead:
                continue
            try:
                async with self._pool.acquire() as connection:
                    await mark_published(connection, ahead)
            except RETRYABLE as error:
                logger.warning("the published revision could not be stored", extra={"error": repr(error)})
                continue
            for number, revision in ahead.items():
                if (shard := self._shards.get(number)) is not None:
                    shard.marked = revision
