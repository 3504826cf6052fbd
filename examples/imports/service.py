"""The import product: background imports on a durable queue, real-time imports while the user waits."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Protocol

from examples.imports.domain.events import FAILED, ImportOutcome
from examples.imports.domain.planning import retry_delay_seconds
from examples.imports.importer import ImportCancelledError, Importer, ImportRequest, OnProgress
from examples.imports.queue import (
    RETRIES,
    Cancellation,
    Claim,
    Failure,
    JobQueue,
    NewJob,
    QueueUnavailableError,
)
from shared.postgres import RETRYABLE, Connection

logger = logging.getLogger(__name__)

_POLL_SECONDS = 0.25
SYSTEM_ERROR = "system_error"


class Enqueues(Protocol):
    """The part of the queue that a start needs; the driver's outages stand in for it."""

    async def enqueue(self, job: NewJob) -> int: ...


@dataclass(frozen=True, slots=True)
class Queued:
    """`estimated_completion_ms` from now. `ended` gives the outcome, or None for a cancelled job."""

    estimated_completion_ms: int
    ended: asyncio.Future[ImportOutcome | None]


@dataclass(frozen=True, slots=True)
class FellBack:
    """The queue was down, so the import ran while the user waited."""

    reason: str
    outcome: ImportOutcome


class ImportService:
    """Watches and results of background jobs live in this process; the jobs themselves in Postgres."""

    def __init__(self, importer: Importer, queue: JobQueue, entrance: Enqueues, *, workers: int) -> None:
        self._importer = importer
        self._queue = queue
        self._entrance = entrance
        self._workers = workers
        self._realtime = asyncio.Semaphore(workers)
        self._wake = asyncio.Event()
        self._watched: dict[str, tuple[OnProgress, asyncio.Future[ImportOutcome | None]]] = {}
        self.active = 0
        """Imports that are being processed."""

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """The workers work while the block lasts."""
        tasks = [asyncio.create_task(self._work(), name=f"import-worker-{n}") for n in range(self._workers)]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def start_background(self, job: NewJob, on_progress: OnProgress) -> Queued | FellBack:
        """Queues the job, or imports at once where the queue is down."""
        ended: asyncio.Future[ImportOutcome | None] = asyncio.get_running_loop().create_future()
        self._watched[job.request.job_id] = (on_progress, ended)
        try:
            completion = await self._entrance.enqueue(job)
        except QueueUnavailableError as error:
            logger.warning("background queue unavailable, falling back to synchronous processing: %s", error)
            del self._watched[job.request.job_id]
            return FellBack(str(error), await self.run_realtime(job.request, on_progress))
        self._wake.set()
        return Queued(completion, ended)

    async def run_realtime(self, request: ImportRequest, on_progress: OnProgress) -> ImportOutcome:
        """Imports while the caller waits. Raises ImportCancelledError where `on_progress` did."""
        async with self._realtime:
            for attempt in range(1, RETRIES + 2):
                tried = replace(request, again=attempt > 1)
                try:
                    return await self._import(self._importer.run(tried, on_progress))
                except RETRYABLE as error:
                    logger.warning("import %s, attempt %d: %r", request.job_id, attempt, error)
                    await asyncio.sleep(retry_delay_seconds(attempt))
        return _gave_up()

    async def cancel(self, job_id: str) -> Cancellation:
        """Takes a background job back. What the user sees afterwards is `ended` of the job. Raises
        QueueUnavailableError."""
        verdict = await self._queue.cancel(job_id)
        if verdict is Cancellation.CANCELLED:
            self._end(job_id, None)
        return verdict

    async def _work(self) -> None:
        while True:
            try:
                claim = await self._queue.claim()
            except QueueUnavailableError as error:
                logger.warning("queue: %s", error)
                await asyncio.sleep(1)
                continue
            if claim is not None:
                await self._process(claim)
                continue
            self._wake.clear()
            try:
                await asyncio.wait_for(self._wake.wait(), _POLL_SECONDS)
            except TimeoutError:
                continue  # a retry may be due, or a lease may have run out

    async def _process(self, claim: Claim) -> None:
        job_id = claim.request.job_id
        watched = self._watched.get(job_id)

        async def finish(connection: Connection, outcome: ImportOutcome) -> None:
            await self._queue.finish(connection, claim, outcome)

        try:
            on_progress: OnProgress = watched[0] if watched else _unwatched
            outcome = await self._import(self._importer.run(claim.request, on_progress, finish))
        except ImportCancelledError:
            return
        except RETRYABLE as error:
            await self._retry_or_bury(claim, error)
            return
        self._end(job_id, outcome)

    async def _retry_or_bury(self, claim: Claim, error: Exception) -> None:
        """Does not rest until the queue knows: the lease of a job that nobody works on would hold it up."""
        logger.warning("import %s, attempt %d: %r", claim.request.job_id, claim.attempt, error)
        while True:
            try:
                verdict = await self._queue.fail(claim, f"{type(error).__name__}: {error}")
                break
            except QueueUnavailableError:
                await asyncio.sleep(_POLL_SECONDS)
        if isinstance(verdict, ImportOutcome):  # its commit was done, only the answer was lost
            self._end(claim.request.job_id, verdict)
        elif verdict is Failure.DEAD:
            self._end(claim.request.job_id, _gave_up())

    async def _import(self, run: Awaitable[ImportOutcome]) -> ImportOutcome:
        self.active += 1
        try:
            return await run
        finally:
            self.active -= 1

    def _end(self, job_id: str, outcome: ImportOutcome | None) -> None:
        watched = self._watched.pop(job_id, None)
        if watched is not None and not watched[1].done():
            watched[1].set_result(outcome)


def _unwatched(processed: int, total: int) -> None:
    """Nobody in this process looks at the job: it was queued by another one."""


def _gave_up() -> ImportOutcome:
    return ImportOutcome(FAILED, 0, 0, 0, 0.0, (SYSTEM_ERROR,))


Outage = Callable[[], bool]


class BreakableQueue:
    """The queue's entrance with an outage on demand, for the driver's fallback experiment."""

    def __init__(self, queue: Enqueues, is_down: Outage) -> None:
        self._queue = queue
        self._is_down = is_down

    async def enqueue(self, job: NewJob) -> int:
        """Raises QueueUnavailableError during an outage, like the queue itself."""
        if self._is_down():
            raise QueueUnavailableError("connection to the job queue refused")
        return await self._queue.enqueue(job)
