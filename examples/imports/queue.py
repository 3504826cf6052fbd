"""The durable queue of background imports, in Postgres: claimed with SKIP LOCKED, leased, retried three times."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from datetime import timedelta
from enum import Enum
from pathlib import Path

import msgspec

from examples.imports.domain.events import ImportOutcome
from examples.imports.domain.planning import Priority, estimated_completion_ms, retry_delay_seconds
from examples.imports.importer import SCHEMA, ImportCancelledError, ImportRequest
from shared.postgres import RETRYABLE, Connection, Pool

RETRIES = 3
LEASE = timedelta(seconds=60)


class QueueUnavailableError(Exception):
    """The queue cannot take a job now; its text says why."""


class Failure(Enum):
    """What follows a failed attempt."""

    RETRIED = "queued"
    DEAD = "dead"
    TAKEN = "taken"
    """It was cancelled, or another worker has it."""


class Cancellation(Enum):
    """What a cancelled job was, or that it was too late."""

    CANCELLED = "cancelled"
    TOO_LATE = "too_late"


@dataclass(frozen=True, slots=True)
class NewJob:
    """`estimated_ms` is the import alone, without waiting."""

    request: ImportRequest
    user_id: str
    priority: Priority
    estimated_ms: int


@dataclass(frozen=True, slots=True)
class Claim:
    """A job that this worker holds until its lease ends; `attempt` counts from 1."""

    request: ImportRequest
    user_id: str
    attempt: int


class JobQueue:
    """Jobs of one queue `name`. `workers` is how many serve it, for the estimate."""

    def __init__(self, pool: Pool, name: str, *, workers: int) -> None:
        self._pool = pool
        self._name = name
        self._workers = workers

    async def enqueue(self, job: NewJob) -> int:
        """Milliseconds from now until the job should be done. Raises QueueUnavailableError.

        Enqueueing a job again that is there already changes nothing.
        """
        async with self._unavailable(), self._pool.acquire() as connection, connection.transaction():
            ahead = await connection.fetchrow(
                f"""SELECT count(*) FILTER (WHERE state IN ('queued', 'running') AND priority <= $2) AS waiting,
                           coalesce(avg((outcome->>'total_ms')::float8) FILTER (WHERE state = 'done'), 0) AS mean_ms
                    FROM {SCHEMA}.jobs WHERE queue = $1""",
                self._name,
                job.priority.value,
            )
            await connection.execute(
                f"""INSERT INTO {SCHEMA}.jobs (id, queue, user_id, priority, state, path, dataset, estimated_ms)
                    VALUES ($1, $2, $3, $4, 'queued', $5, $6, $7) ON CONFLICT (id) DO NOTHING""",
                job.request.job_id,
                self._name,
                job.user_id,
                job.priority.value,
                str(job.request.path),
                job.request.dataset,
                job.estimated_ms,
            )
        return estimated_completion_ms(
            job.estimated_ms, waiting=ahead["waiting"], workers=self._workers, mean_job_ms=ahead["mean_ms"]
        )

    async def claim(self) -> Claim | None:
        """The most urgent job that is due, or whose worker let its lease run out."""
        async with self._unavailable():
            row = await self._pool.fetchrow(
                f"""UPDATE {SCHEMA}.jobs SET state = 'running', attempts = attempts + 1, lease_until = now() + $2
                    WHERE id = (SELECT id FROM {SCHEMA}.jobs
                                WHERE queue = $1 AND (state = 'queued' AND run_at <= now()
                                                      OR state = 'running' AND lease_until < now())
                                ORDER BY priority, run_at LIMIT 1 FOR UPDATE SKIP LOCKED)
                    RETURNING id, user_id, path, dataset, attempts""",
                self._name,
                LEASE,
            )
        if row is None:
            return None
        request = ImportRequest(row["id"], Path(row["path"]), row["dataset"])
        return Claim(request, row["user_id"], row["attempts"])

    async def finish(self, connection: Connection, claim: Claim, outcome: ImportOutcome) -> None:
        """Marks the job done inside the import's own transaction. Raises ImportCancelledError if it no longer is
        this worker's to finish, which rolls the import back."""
        done = await connection.fetchval(
            f"""UPDATE {SCHEMA}.jobs SET state = 'done', finished_at = now(), outcome = $3
                WHERE id = $1 AND state = 'running' AND attempts = $2 RETURNING id""",
            claim.request.job_id,
            claim.attempt,
            asdict(outcome),
        )
        if done is None:
            raise ImportCancelledError(claim.request.job_id)

    async def fail(self, claim: Claim, error: str) -> Failure | ImportOutcome:
        """Queues the job again, or gives it up after `RETRIES` retries; the outcome if it turns out to be done."""
        verdict = Failure.RETRIED if claim.attempt <= RETRIES else Failure.DEAD
        async with self._unavailable():
            failed = await self._pool.fetchval(
                f"""UPDATE {SCHEMA}.jobs SET state = $3, last_error = $4, run_at = now() + $5,
                           finished_at = CASE WHEN $3 = 'dead' THEN now() END
                    WHERE id = $1 AND state = 'running' AND attempts = $2 RETURNING id""",
                claim.request.job_id,
                claim.attempt,
                verdict.value,
                error,
                timedelta(seconds=retry_delay_seconds(claim.attempt)),
            )
            if failed is not None:
                return verdict
            outcome = await self._pool.fetchval(
                f"SELECT outcome FROM {SCHEMA}.jobs WHERE id = $1 AND state = 'done'", claim.request.job_id
            )
        return Failure.TAKEN if outcome is None else msgspec.convert(outcome, ImportOutcome)

    async def cancel(self, job_id: str) -> Cancellation:
        """Takes back a job that is not done yet; a running one is rolled back when it tries to finish."""
        async with self._unavailable():
            cancelled = await self._pool.fetchval(
                f"""UPDATE {SCHEMA}.jobs SET state = 'cancelled', finished_at = now()
                    WHERE id = $1 AND state IN ('queued', 'running') RETURNING id""",
                job_id,
            )
        return Cancellation.TOO_LATE if cancelled is None else Cancellation.CANCELLED

    async def depth(self) -> int:
        """Jobs that wait or run."""
        async with self._unavailable():
            depth: int = await self._pool.fetchval(
                f"SELECT count(*) FROM {SCHEMA}.jobs WHERE queue = $1 AND state IN ('queued', 'running')", self._name
            )
        return depth

    @asynccontextmanager
    async def _unavailable(self) -> AsyncIterator[None]:
        try:
            yield
        except RETRYABLE as error:
            raise QueueUnavailableError(f"{type(error).__name__}: {error}") from error
