"""The partitions this worker owns: each has a folder and a task that feeds it, batch by batch."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable, Mapping
from typing import Any

from aiokafka.errors import KafkaError

from services.aggregator.event_log import EventLog, LogEnds, LogVerdict, judge_log, what_is_wrong
from services.aggregator.record_batches import Gate, RecordBatch
from services.aggregator.shard_folder import ShardFolder, Tools
from services.aggregator.store.shards import ShardRow, create_shard, load_seen, load_shard
from shared.postgres import RETRYABLE

logger = logging.getLogger(__name__)

_REVOKE_SECONDS = 20
_IDLE_SECONDS = 0.5
"""A shard without a batch for this long looks whether something else is due."""


class LogRefusedError(Exception):
    """The log in Kafka is not the one that Postgres has folded: an operator must decide."""

    def __init__(self, row: ShardRow, ends: LogEnds, verdict: LogVerdict) -> None:
        super().__init__(
            f"partition {row.shard}: {what_is_wrong(row, ends, verdict)}; `tidegate adopt-log` shows what can be done"
        )


class Partitions:
    """Implements `record_batches.Positions`, and takes batches from the agent."""

    def __init__(self, tools: Tools, log: EventLog, gate: Gate, fail: Callable[[BaseException], None]) -> None:
        self._tools = tools
        self._log = log
        self._gate = gate
        self._fail = fail
        self._queues: dict[int, asyncio.Queue[RecordBatch]] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._folders: dict[int, ShardFolder] = {}
        self.ready = False

    async def assigned(self, partitions: Iterable[int]) -> Mapping[int, int]:
        wanted = list(partitions)
        await self.revoked(list(self._tasks))
        while True:
            try:
                positions = {p: await self._open(p, row) for p, row in (await self._rows(wanted)).items()}
                break
            except LogRefusedError as refused:
                self._fail(refused)
                raise
            except (KafkaError, *RETRYABLE) as error:
                logger.warning("cannot open partitions yet", extra={"error": repr(error)})
                await self.revoked(list(self._tasks))  # some may be open: two folders of one shard would contend
                await asyncio.sleep(0.25)
        self.ready = True
        self._tools.metrics.assignments.inc()
        logger.info("partitions assigned", extra={"positions": positions})
        return positions

    async def revoked(self, partitions: Iterable[int]) -> None:
        """Waits for transactions in flight; what waits behind them is dropped and read again by the next owner."""
        gone = [p for p in partitions if p in self._tasks]
        for p in gone:
            del self._queues[p]
        tasks = [self._tasks.pop(p) for p in gone]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=_REVOKE_SECONDS)
        for p in gone:
            self._folders.pop(p).retire()
        self._tools.metrics.forget(gone)
        await self._tools.updates.forget(gone)

    async def submit(self, batch: RecordBatch) -> None:
        """Queues a batch for its partition; one that is no longer ours, or is read again, is dropped."""
        queue = self._queues.get(batch.partition)
        if queue is not None and batch.epoch == self._gate.epoch:
            queue.put_nowait(batch)  # the gate bounds what can wait here

    def folder(self, shard: int) -> ShardFolder | None:
        """None if the shard is not ours."""
        return self._folders.get(shard)

    def positions(self) -> dict[int, int]:
        """Partition → offset up to which everything is in Postgres."""
        return {p: folder.row.next_offset for p, folder in self._folders.items()}

    def caught_up(self, ends: Mapping[int, int], asked_at: int) -> list[ShardRow]:
        """Tells each shard where its log ended when it was asked (µs), and returns where they stand by now."""
        for p, folder in self._folders.items():
            if folder.row.next_offset >= ends[p]:
                folder.caught_up(asked_at)
        return [folder.row for folder in self._folders.values()]

    def standing(self) -> list[tuple[ShardRow, int]]:
        """Each shard's row, and its signs of life: a number that rises with all that it does.

        Repeated attempts count for all shards: while one of them waits for Kafka or Postgres, others get no records.
        """
        failures = sum(folder.failures for folder in self._folders.values())
        return [(folder.row, folder.signs + failures) for folder in self._folders.values()]

    def waiting(self) -> dict[int, int]:
        """Partition → batches fetched and not begun."""
        return {p: queue.qsize() for p, queue in self._queues.items()}

    async def examine(self, partitions: Iterable[int]) -> None:
        """Raises LogRefusedError if a log of ours is not the one that was folded; else what `inspect` does."""
        rows = {p: folder.row for p in partitions if (folder := self._folders.get(p))}
        ends = await self._log.inspect({p: row.next_offset for p, row in rows.items()})
        for p, row in rows.items():
            verdict = judge_log(row, ends[p])
            if verdict is not LogVerdict.SAME:
                raise LogRefusedError(row, ends[p], verdict)

    async def _rows(self, partitions: list[int]) -> dict[int, ShardRow]:
        """Each partition's row, created where there is none, once its log is recognised."""
        async with self._tools.pool.acquire() as connection:
            stored = {p: await load_shard(connection, p) for p in partitions}
            ends = await self._log.inspect({p: row.next_offset if row else None for p, row in stored.items()})
            rows = {}
            for p in partitions:
                row = stored[p]
                if row is None:
                    await create_shard(connection, p, ends[p].begin, ends[p].generation)
                    row = await load_shard(connection, p)
                    assert row is not None
                verdict = judge_log(row, ends[p])
                if verdict is not LogVerdict.SAME:
                    raise LogRefusedError(row, ends[p], verdict)
                rows[p] = row
            return rows

    async def _open(self, partition: int, row: ShardRow) -> int:
        async with self._tools.pool.acquire() as connection:
            seen = await load_seen(connection, partition, self._tools.new_file)
        self._tools.catalogue.ask_again()
        folder = ShardFolder(row, seen, self._tools)
        await folder.republish()
        self._folders[partition] = folder
        queue: asyncio.Queue[RecordBatch] = asyncio.Queue()
        self._queues[partition] = queue
        task = asyncio.create_task(self._run(folder, queue), name=f"shard {partition}")
        self._tasks[partition] = task
        return row.next_offset

    async def _run(self, folder: ShardFolder, queue: asyncio.Queue[RecordBatch]) -> None:
        while True:
            try:
                async with asyncio.timeout(_IDLE_SECONDS):
                    batch = await queue.get()
            except TimeoutError:
                if not await self._unbroken(folder, folder.rest()):
                    return
                continue
            place = self._gate.place(batch.partition)
            if not await self._unbroken(folder, self._fold(folder, batch)):
                return
            if place is not None:
                place.release()

    async def _fold(self, folder: ShardFolder, batch: RecordBatch) -> None:
        """Reading began at the cursor: records from below it were folded by others, or are of another log."""
        while batch.records.first_offset < folder.row.next_offset:
            try:
                await self.examine([batch.partition])
                break
            except (KafkaError, *RETRYABLE) as error:
                await folder.wait_to_retry("the log", error)
        await folder.fold(batch.records)

    async def _unbroken(self, folder: ShardFolder, work: Coroutine[Any, Any, None]) -> bool:
        """Lets a transaction in flight end before a cancellation takes effect; False if the work failed for good."""
        working = asyncio.create_task(work)
        try:
            await asyncio.shield(working)
        except asyncio.CancelledError:
            await asyncio.wait([working], timeout=_REVOKE_SECONDS)
            working.cancel()
            raise
        except Exception as error:
            logger.exception("a shard cannot go on", extra={"shard": folder.row.shard})
            self._fail(error)
            return False
        return True
