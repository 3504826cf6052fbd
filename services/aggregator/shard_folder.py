"""Folds one partition's batches, each exactly once: gather → decide → apply. In between, deadlines pass."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import ParamSpec, TypeVar

from aiokafka.errors import KafkaError

from services.aggregator.catalogue import Catalogue
from services.aggregator.dead_letters import dead_letter, publish_dead_letters
from services.aggregator.domain.batch import Batch, Rejected, Verdicts, judge, read_batch
from services.aggregator.domain.caps import KnownGroups, SeriesDay
from services.aggregator.domain.clocks import MARGIN
from services.aggregator.domain.deltas import Deltas
from services.aggregator.domain.event import reader_of
from services.aggregator.domain.fold import fold
from services.aggregator.domain.id_runs import NewFile
from services.aggregator.domain.known import KnownUnits
from services.aggregator.domain.plan import Plan
from services.aggregator.domain.records import Records
from services.aggregator.domain.seen import SeenIds
from services.aggregator.listeners import Listeners, Named
from services.aggregator.store.groups import read_groups
from services.aggregator.store.series import SeriesIds
from services.aggregator.store.shards import ShardRow, forget_digests, load_seen, load_shard
from services.aggregator.store.transaction import Applied, CursorMovedError, apply_batch, apply_deadlines
from services.aggregator.store.unpublished import load_present, load_unpublished
from services.aggregator.telemetry import WorkerMetrics
from services.aggregator.updates import Updates
from shared.clock import HOUR, SECOND, Clock
from shared.kafka import Publisher
from shared.postgres import RETRYABLE, Pool

logger = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

_HEARD = 25 * HOUR
"""Windows of the longest rule and a little more: what a new listener is told of."""
_FORGET_EVERY = 1_000
"""Batches between deletions of expired ids."""


class GapError(Exception):
    """Records between the cursor and the batch are missing: only a restart from the cursor is safe."""


@dataclass(frozen=True, slots=True)
class Tools:
    """What all shards of a worker share."""

    pool: Pool
    ids: SeriesIds
    catalogue: Catalogue
    publisher: Publisher
    updates: Updates
    listeners: Listeners
    metrics: WorkerMetrics
    clock: Clock
    topic: str
    new_file: NewFile
    """For ids that do not fit into memory."""
    decider: Executor = field(default_factory=partial(ThreadPoolExecutor, 1, "decider"))
    """Batches, also those of backfills, are decided one after the other: a core does no two at once, and while one is
    decided others commit. One thread also keeps the memory of one batch, not of one for each partition."""

    async def in_turn(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Does what takes long without holding up the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self.decider, partial(work, *args, **kwargs))


class ShardFolder:
    """Owns a partition's state in memory: its row and the ids it has seen. Batches must come one at a time."""

    def __init__(self, row: ShardRow, seen: SeenIds, tools: Tools) -> None:
        self.row = row
        self._seen = seen
        self._groups = KnownGroups(stored=True)
        self._tools = tools
        self._units = KnownUnits()
        self._begun: set[int] = set()
        self._batches = 0
        self._heard = 0
        self._caught_up: tuple[int, int] | None = None
        """A cursor at which nothing was left to fold, and when (µs)."""
        self._turn = asyncio.Lock()
        """Held while the shard's row may change: batches, deadlines and history take turns."""
        self._retired = False
        self.signs = 0
        """Rises with all that the shard does: what the watchdog looks at."""
        self.failures = 0
        """Attempts that failed and are repeated."""
        self._show()

    async def fold(self, fetched: Records) -> None:
        """Returns when the records are in Postgres. Raises GapError, or what nobody expected."""
        self.signs += 1
        async with self._turn:
            await self._fold(fetched)

    async def _fold(self, fetched: Records) -> None:
        await self._tell_new_listeners()
        # What lies below the cursor is folded already.
        records = fetched.beginning_at(self.row.next_offset)
        while records is not None:
            if records.first_offset != self.row.next_offset:
                raise GapError(
                    f"partition {self.row.shard}: offsets {self.row.next_offset} to {records.first_offset - 1} are "
                    "missing; if retention has deleted them, the next start says so"
                )
            plan = await self._plan(int(records.broker_times[-1]))
            batch, verdicts, deltas = await self._tools.in_turn(self._decide, records, plan)
            if deltas.groups.unread:
                await self._read_groups(deltas.groups.unread)
                continue
            await self._dead_letter(batch.rejected)
            if await self._store(batch, verdicts, deltas, plan):
                return
            # Somebody else folded some of it: decide anew about what is left.
            records = records.beginning_at(self.row.next_offset)

    async def rest(self) -> None:
        """Between batches: tells new listeners what stands; of a shard with nothing left to fold, deadlines pass."""
        async with self._turn:
            await self._rest()

    async def between_batches(self, work: Callable[[ShardRow], Awaitable[T]]) -> T:
        """Has `work` do a transaction on the shard as its row says. If it fails, the row is read anew."""
        async with self._turn:
            try:
                done = await work(self.row)
            except CursorMovedError as moved:
                if not self._retired:
                    await self._take_anew(moved)
                raise
            except RETRYABLE as error:
                if not self._retired:
                    await self._take_anew(error)
                raise
            self.signs += 1
            if isinstance(done, Applied):
                self.row = done.shard
                if not self._retired:
                    self._tools.updates.offer(done)
            return done

    def retire(self) -> None:
        """The shard goes to another worker: what is still under way is its to publish."""
        self._retired = True

    async def _rest(self) -> None:
        await self._tell_new_listeners()
        while self._caught_up is not None and self._caught_up[0] == self.row.next_offset:
            tools, now = self._tools, self._tools.clock()
            try:
                applied = await apply_deadlines(tools.pool, self.row, self._caught_up[1] - MARGIN, tools.ids, now=now)
            except CursorMovedError as moved:
                await self._take_anew(moved)
                return
            except RETRYABLE as error:
                # The COMMIT itself may have succeeded: then none is due any more, and what it changed is unsent.
                await self.wait_to_retry("deadlines", error)
                await self._take_anew(error)
                return
            if applied is None:
                return
            self.row = applied.shard
            self.signs += 1
            tools.updates.offer(applied)
            if not applied.windows:
                return

    def caught_up(self, asked_at: int) -> None:
        """All that the brokers had at `asked_at` (µs) is folded."""
        self._caught_up = (self.row.next_offset, asked_at)

    def _decide(self, records: Records, plan: Plan) -> tuple[Batch, Verdicts, Deltas]:
        began = time.perf_counter()
        batch = read_batch(records, reader_of(plan.projection))
        verdicts = judge(batch, self.row.watermark, self._seen)
        deltas = fold(batch, verdicts, plan, self._groups, self._units)
        self._tools.metrics.fold_seconds.observe(time.perf_counter() - began)
        return batch.without_events(), verdicts, deltas

    async def _plan(self, newest: int) -> Plan:
        while True:
            try:
                plan = await self._tools.catalogue.plan(newest)
                if not self._tools.ids.know_windows(plan.window_series()):
                    async with self._tools.pool.acquire() as connection:
                        await self._tools.ids.register_windows(connection, plan.window_series())
                return plan
            except (KafkaError, *RETRYABLE) as error:
                await self.wait_to_retry("definitions", error)

    async def _store(self, batch: Batch, verdicts: Verdicts, deltas: Deltas, plan: Plan) -> bool:
        """True once the batch is applied, by us; False if the cursor was moved, and the state is loaded anew."""
        tools = self._tools
        new_series = [i for s in plan.window_series() if (i := tools.ids.window(s)) not in self._begun]
        while True:
            began = time.perf_counter()
            try:
                applied = await apply_batch(
                    tools.pool,
                    self.row,
                    batch,
                    verdicts,
                    deltas,
                    tools.ids,
                    new_series,
                    now=tools.clock(),
                )
            except CursorMovedError as moved:
                await self._take_anew(moved)
                return False
            except RETRYABLE as error:
                # The COMMIT itself may have succeeded before the connection broke: then the next try finds the
                # cursor moved by ourselves, and the reload ends at the batch's end.
                await self.wait_to_retry("batch", error)
                continue
            tools.metrics.commit_seconds.observe(time.perf_counter() - began)
            self._begun.update(new_series)
            await tools.in_turn(self._seen.add, batch.digests, verdicts.minutes)
            self._units.learn(applied.learned)
            self._groups.add(deltas.groups)
            self._accept(applied, batch, verdicts, deltas)
            await self._forget_now_and_then()
            return True

    def _accept(self, applied: Applied, batch: Batch, verdicts: Verdicts, deltas: Deltas) -> None:
        self.row = applied.shard
        self.signs += 1
        self._tools.updates.offer(applied)
        metrics, shard = self._tools.metrics, str(self.row.shard)
        metrics.batch_records.observe(batch.next_offset - batch.first_offset)
        metrics.events.labels(shard, "counted").inc(int(verdicts.counted.sum()))
        metrics.events.labels(shard, "late").inc(int(verdicts.late.sum()))
        metrics.events.labels(shard, "duplicate").inc(int(verdicts.duplicate.sum()))
        metrics.events.labels(shard, "dead_letter").inc(len(batch.rejected))
        for series, counted in deltas.counters.items():
            if counted.invalid:
                metrics.count_invalid(series.organisation, series.metric, counted.invalid)
        metrics.invalid_experiment_events.inc(deltas.invalid_experiment_events)
        self._show()

    def _show(self) -> None:
        metrics, shard = self._tools.metrics, str(self.row.shard)
        metrics.next_offset.labels(shard).set(self.row.next_offset)
        metrics.watermark.labels(shard).set(self.row.watermark / SECOND)
        metrics.seen_ids.labels(shard).set(len(self._seen))
        metrics.seen_bytes.labels(shard).set(self._seen.memory_bytes)
        metrics.seen_disk_bytes.labels(shard).set(self._seen.disk_bytes)

    async def _take_anew(self, why: Exception) -> None:
        """Takes the shard as Postgres has it, and whatever another writer may have known of definitions."""
        self._tools.catalogue.ask_again()
        logger.warning("the shard is loaded anew", extra={"shard": self.row.shard, "why": str(why)})
        while True:
            try:
                async with self._tools.pool.acquire() as connection:
                    row = await load_shard(connection, self.row.shard)
                    seen = await load_seen(connection, self.row.shard, self._tools.new_file)
                break
            except RETRYABLE as error:
                await self.wait_to_retry("reload", error)
        if row is None:
            raise GapError(f"shard {self.row.shard} has vanished from the database")
        self.row, self._seen, self._groups = row, seen, KnownGroups(stored=True)
        self._units.clear()
        await self.republish()

    async def republish(self) -> None:
        """Offers what was committed but, as far as Postgres knows, never published; and all that rules name."""
        while True:
            try:
                async with self._tools.pool.acquire() as connection:
                    unpublished = await load_unpublished(connection, self.row, self._tools.clock() - _HEARD)
                break
            except RETRYABLE as error:
                await self.wait_to_retry("unpublished rows", error)
        self._tools.updates.offer(unpublished)
        self._heard = 0
        await self._tell_new_listeners()

    async def _tell_new_listeners(self) -> None:
        begun, heard = self._tools.listeners.begun_since(self._heard)
        if begun:
            self._tools.updates.offer(await self._present(begun))
        self._heard = heard

    async def _present(self, metrics: Sequence[Named]) -> Applied:
        since = self._tools.clock() - _HEARD
        while True:
            try:
                async with self._tools.pool.acquire() as connection:
                    return await load_present(connection, self.row, metrics, since)
            except RETRYABLE as error:
                await self.wait_to_retry("rows that a rule names", error)

    async def _read_groups(self, unread: Collection[SeriesDay]) -> None:
        tools = self._tools
        while True:
            try:
                async with tools.pool.acquire() as connection:
                    await read_groups(connection, self.row.shard, unread, self._groups, tools.ids)
                return
            except RETRYABLE as error:
                await self.wait_to_retry("groups", error)

    async def _dead_letter(self, rejected: Sequence[Rejected]) -> None:
        """Before the batch is stored: a crash in between repeats a dead letter under the same id."""
        letters = [dead_letter(self._tools.topic, self.row.shard, one) for one in rejected]
        await publish_dead_letters(self._tools.publisher, letters, partial(self.wait_to_retry, "dead letter"))

    async def _forget_now_and_then(self) -> None:
        self._batches += 1
        if self._batches % _FORGET_EVERY:
            return
        try:
            async with self._tools.pool.acquire() as connection:
                await forget_digests(connection, self.row.shard, self._seen.latest_minute)
        except RETRYABLE as error:
            logger.warning("expired ids stay for now", extra={"error": repr(error)})

    async def wait_to_retry(self, what: str, error: BaseException) -> None:
        """Says that `what` failed and is tried again, which counts as a sign of life."""
        self.failures += 1
        self._tools.metrics.retries.labels(str(self.row.shard)).inc()
        logger.warning("trying again", extra={"what": what, "shard": self.row.shard, "error": repr(error)})
        await asyncio.sleep(0.25)
