"""The durable queue on real Postgres."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from examples.imports.domain.events import ImportOutcome
from examples.imports.domain.planning import Priority
from examples.imports.importer import ImportCancelledError, ImportRequest
from examples.imports.queue import RETRIES, Cancellation, Claim, Failure, JobQueue, NewJob, QueueUnavailableError
from shared.postgres import Pool, create_pool

_OUTCOME = ImportOutcome("success", 1, 1, 0, 400.0, ())


def _job(job_id: str, priority: Priority = Priority.NORMAL) -> NewJob:
    return NewJob(ImportRequest(job_id, Path("/nowhere.csv"), "planes"), "user", priority, estimated_ms=1_000)


@pytest.fixture
def queue(pool: Pool) -> JobQueue:
    return JobQueue(pool, "test", workers=2)


async def _claimed(queue: JobQueue) -> Claim:
    claim = await queue.claim()
    assert claim is not None
    return claim


async def _finish(pool: Pool, queue: JobQueue, claim: Claim) -> None:
    async with pool.acquire() as connection, connection.transaction():
        await queue.finish(connection, claim, _OUTCOME)


async def test_jobs_are_claimed_by_priority_and_then_in_order(queue: JobQueue) -> None:
    for job in (_job("low", Priority.LOW), _job("n1"), _job("n2"), _job("high", Priority.HIGH)):
        await queue.enqueue(job)
    order = [(await _claimed(queue)).request.job_id for _ in range(4)]
    assert order == ["high", "n1", "n2", "low"]
    assert await queue.claim() is None


async def test_a_job_is_claimed_by_one_worker_only(queue: JobQueue) -> None:
    for number in range(20):
        await queue.enqueue(_job(f"job-{number}"))
    claims = await asyncio.gather(*(queue.claim() for _ in range(30)))
    ids = [claim.request.job_id for claim in claims if claim is not None]
    assert len(ids) == len(set(ids))
    while (claim := await queue.claim()) is not None:
        ids.append(claim.request.job_id)
    assert sorted(ids) == sorted(f"job-{number}" for number in range(20))


async def test_enqueueing_again_changes_nothing(queue: JobQueue) -> None:
    await queue.enqueue(_job("once"))
    await queue.enqueue(_job("once"))
    assert await queue.depth() == 1


async def test_queues_do_not_see_each_other(pool: Pool, queue: JobQueue) -> None:
    await JobQueue(pool, "another", workers=1).enqueue(_job("elsewhere"))
    assert await queue.claim() is None


async def test_the_estimate_grows_with_what_waits_ahead(pool: Pool, queue: JobQueue) -> None:
    assert await queue.enqueue(_job("first")) == 1_000
    await _finish(pool, queue, await _claimed(queue))
    await queue.enqueue(_job("second"))
    await queue.enqueue(_job("unimportant", Priority.LOW))
    # One job of the same priority waits; two workers share jobs of 400 ms.
    assert await queue.enqueue(_job("third")) == 1_200


async def test_a_job_is_retried_three_times_and_then_dead(pool: Pool, queue: JobQueue) -> None:
    await queue.enqueue(_job("doomed"))
    verdicts = []
    for _ in range(RETRIES + 1):
        verdicts.append(await queue.fail(await _claimed(queue), "disk full"))
        assert await queue.claim() is None, "a retry waits a while"
        await pool.execute("UPDATE imports.jobs SET run_at = now()")
    assert verdicts == [Failure.RETRIED] * RETRIES + [Failure.DEAD]
    assert await queue.claim() is None
    row = await pool.fetchrow("SELECT state, attempts, last_error FROM imports.jobs WHERE id = 'doomed'")
    assert dict(row) == {"state": "dead", "attempts": RETRIES + 1, "last_error": "disk full"}


async def test_a_job_whose_worker_died_is_claimed_again_and_the_dead_cannot_finish_it(
    pool: Pool, queue: JobQueue
) -> None:
    await queue.enqueue(_job("orphan"))
    first = await _claimed(queue)
    assert await queue.claim() is None
    await pool.execute("UPDATE imports.jobs SET lease_until = now() - interval '1 second'")
    second = await _claimed(queue)
    assert second.attempt == 2
    with pytest.raises(ImportCancelledError):
        await _finish(pool, queue, first)
    await _finish(pool, queue, second)


async def test_a_cancelled_job_cannot_be_finished_and_a_finished_one_not_cancelled(
    pool: Pool, queue: JobQueue
) -> None:
    await queue.enqueue(_job("a"))
    await queue.enqueue(_job("b"))
    a, b = await _claimed(queue), await _claimed(queue)
    assert await queue.cancel("a") is Cancellation.CANCELLED
    with pytest.raises(ImportCancelledError):
        await _finish(pool, queue, a)
    await _finish(pool, queue, b)
    assert await queue.cancel("b") is Cancellation.TOO_LATE


async def test_a_failure_reported_for_a_job_that_was_committed_gives_its_outcome(pool: Pool, queue: JobQueue) -> None:
    await queue.enqueue(_job("committed"))
    claim = await _claimed(queue)
    await _finish(pool, queue, claim)
    assert await queue.fail(claim, "the answer to COMMIT was lost") == _OUTCOME


async def test_a_failure_reported_for_a_cancelled_job_changes_nothing(pool: Pool, queue: JobQueue) -> None:
    await queue.enqueue(_job("gone"))
    claim = await _claimed(queue)
    await queue.cancel("gone")
    assert await queue.fail(claim, "disk full") is Failure.TAKEN
    assert await pool.fetchval("SELECT state FROM imports.jobs WHERE id = 'gone'") == "cancelled"


async def test_without_postgres_the_queue_says_that_it_is_unavailable(unused_tcp_port: int) -> None:
    pool = await create_pool(f"postgresql://u:p@127.0.0.1:{unused_tcp_port}/d", name="nowhere", size=1)
    try:
        with pytest.raises(QueueUnavailableError):
            await JobQueue(pool, "test", workers=1).enqueue(_job("x"))
    finally:
        await pool.close()
