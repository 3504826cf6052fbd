"""Publishes changed rows as `metric-updates.v1`: at once, then at most five times a second a metric, latest state.

    commit r1     r2   r3        r4
           │ 0 ms │    │         │
    send   r1 ────┼────┼── r3 ───┼──── r4 ──►      200 ms apart; between them the latest state wins

A metric's changed rows of a shard take their turn together, so that readers never see half of a commit for longer
than it takes to send: numerators go before the denominators that complete them, completed journeys before abandoned
ones. Only where something listens. Up to a shard's published revision everything is known to be with Kafka; a crash
republishes what lies above it, and consumers compare revisions.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

from services.aggregator.domain.kinds.kind import REPORTED
from services.aggregator.domain.outcomes import COMPLETED
from services.aggregator.domain.plan import UnitSeries, WindowSeries
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
"""Seconds between two turns of a metric, so between two updates of one series."""
MOST = 2_000
"""Rows that leave in one turn, the newest: what a new listener is told of holds up the present for no longer."""
_MARK_EVERY = 1.0
_AT_ONCE = 250

_Row = tuple[WindowSeries | UnitSeries, int, str]
"""Series, start of the minute (0: all time), and group or variant."""
_Message = Callable[[int], MetricUpdate]
"""A row's latest state as a message, from the time of publication."""


@dataclass(slots=True, eq=False)
class _Subject:
    """A metric or experiment of a shard, whose rows take their turn together."""

    shard: _Shard
    waiting: dict[_Row, _Message] = field(default_factory=dict)
    since: int = 0
    """The earliest revision of which something waits."""
    sent_since: int | None = None
    """The same of what is on its way; None if nothing is."""
    resting: bool = False

    def oldest(self) -> int | None:
        """The earliest revision of which something is not known to be published."""
        found = [self.since] if self.waiting else []
        return min(found if self.sent_since is None else [*found, self.sent_since], default=None)

    def put(self, row: _Row, message: _Message, revision: int) -> None:
        if not self.waiting:
            self.since = revision
        self.waiting[row] = message

    def take(self) -> list[tuple[_Row, _Message]]:
        """What leaves in this turn, in order."""
        self.sent_since = self.since
        rows = sorted(self.waiting, key=_order)[:MOST]
        return [(row, self.waiting.pop(row)) for row in rows]

    def put_back(self, failed: Iterable[tuple[_Row, _Message]], since: int) -> None:
        for row, message in failed:
            self.since = min(self.since, since) if self.waiting else since
            self.waiting.setdefault(row, message)


@dataclass(slots=True, eq=False)
class _Shard:
    """What of a shard is still to be published."""

    subjects: dict[tuple[str, str, str], _Subject] = field(default_factory=dict)
    """By kind, organisation and key."""
    revision: int = 0
    marked: int = 0

    def published(self) -> int:
        """Up to this revision everything is with Kafka."""
        unsent = [oldest for subject in self.subjects.values() if (oldest := subject.oldest()) is not None]
        return min(unsent, default=self.revision + 1) - 1

    def sending(self) -> bool:
        return any(subject.sent_since is not None for subject in self.subjects.values())


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
        self._shards: dict[int, _Shard] = {}
        self._touched: dict[_Subject, None] = {}
        """Whose turn may have come, in order."""
        self._resting: deque[tuple[float, _Subject]] = deque()
        """Who had a turn lately, and until when it rests, in that order."""
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
        shard = self._shards.setdefault(row.shard, _Shard())
        shard.revision = row.revision
        for w in applied.windows:
            if w.series.component not in REPORTED and heard.hears_metric(w.series.organisation, w.series.metric):
                self._put(
                    shard,
                    row,
                    "metric",
                    w.series.metric,
                    (w.series, w.minute, w.group),
                    partial(window_update, w, row),
                )
        for k in applied.streaks:
            if heard.hears_metric(k.series.organisation, k.series.metric):
                self._put(
                    shard, row, "metric", k.series.metric, (k.series, 0, k.group), partial(streak_update, k, row)
                )
        for t in applied.totals:
            if heard.hears_everything(t.series.organisation):
                self._put(
                    shard,
                    row,
                    "experiment",
                    t.series.experiment,
                    (t.series, 0, t.variant),
                    partial(totals_update, t, row),
                )
        self._wake.set()

    async def forget(self, shards: Iterable[int]) -> None:
        """Drops what is pending of shards that are no longer ours; the new owner republishes it.

        Returns when nothing of them is on its way, so that no old state follows the new owner's.
        """
        gone = [shard for number in shards if (shard := self._shards.pop(number, None)) is not None]
        async with self._progress:
            self._progress.notify_all()
            await self._progress.wait_for(lambda: not any(shard.sending() for shard in gone))

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

    def _put(self, shard: _Shard, row: ShardRow, kind: str, key: str, place: _Row, message: _Message) -> None:
        name = (kind, place[0].organisation, key)
        subject = shard.subjects.get(name)
        if subject is None:
            subject = shard.subjects[name] = _Subject(shard)
        subject.put(place, message, row.revision)
        self._touched[subject] = None

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._mark_now_and_then())
            while True:
                with suppress(TimeoutError):
                    async with asyncio.timeout_at(self._resting[0][0] if self._resting else None):
                        await self._wake.wait()
                self._wake.clear()
                async with self._progress:
                    self._progress.notify_all()
                self._end_rests()
                touched, self._touched = self._touched, {}
                for subject in touched:
                    if subject.waiting and not subject.resting and subject.sent_since is None and self._ours(subject):
                        self._resting.append((asyncio.get_running_loop().time() + INTERVAL, subject))
                        subject.resting = True
                        tasks.create_task(self._send(subject, subject.take()))

    def _ours(self, subject: _Subject) -> bool:
        return any(shard is subject.shard for shard in self._shards.values())

    def _end_rests(self) -> None:
        now = asyncio.get_running_loop().time()
        while self._resting and self._resting[0][0] <= now:
            _, subject = self._resting.popleft()
            subject.resting = False
            self._touched[subject] = None

    async def _send(self, subject: _Subject, departing: Sequence[tuple[_Row, _Message]]) -> None:
        """What may not have arrived waits for the next turn, unless its shard is no longer ours."""
        for start in range(0, len(departing), _AT_ONCE):
            failed = await self._publish(departing[start : start + _AT_ONCE])
            if not self._ours(subject):
                break
            if failed:
                assert subject.sent_since is not None
                subject.put_back([*failed, *departing[start + _AT_ONCE :]], subject.sent_since)
                break
        subject.sent_since = None
        self._touched[subject] = None
        self._wake.set()

    async def _publish(self, rows: Sequence[tuple[_Row, _Message]]) -> list[tuple[_Row, _Message]]:
        """Returns what Kafka has not acknowledged."""
        now = self._clock()
        answers = await self._publisher.publish_all(topics.METRIC_UPDATES, [message(now) for _, message in rows])
        failed = [row for row, answer in zip(rows, answers, strict=True) if answer is not None]
        if failed:
            why = next(answer for answer in answers if answer is not None)
            logger.warning("updates wait for Kafka", extra={"updates": len(failed), "error": repr(why)})
        self._metrics.updates.inc(len(rows) - len(failed))
        return failed

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


def _order(row: _Row) -> tuple[int, bool, str, str, bool]:
    """The present first; of what is read together, first what only its successor makes whole."""
    series, minute, group = row
    abandoned = series.component == "outcome" and not group.startswith(f'["{COMPLETED}"')
    return -minute, abandoned, group, series.metric, series.component == "denominator"
