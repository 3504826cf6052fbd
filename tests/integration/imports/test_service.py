"""Background and real-time imports by the whole product, on real Postgres."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from examples.imports.domain.planning import Priority
from examples.imports.importer import READ_ONLY, ImportCancelledError, Importer, ImportRequest
from examples.imports.queue import Cancellation, JobQueue, NewJob
from examples.imports.service import SYSTEM_ERROR, BreakableQueue, FellBack, ImportService, Queued
from shared.postgres import Pool


class _Breaker:
    down = False

    def is_down(self) -> bool:
        return self.down


@pytest.fixture
def breaker() -> _Breaker:
    return _Breaker()


@pytest.fixture
def service(pool: Pool, breaker: _Breaker) -> ImportService:
    queue = JobQueue(pool, "test", workers=2)
    return ImportService(Importer(pool), queue, BreakableQueue(queue, breaker.is_down), workers=2)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "airlines.csv"
    file.write_text("carrier,name\nAA,American\nUA,United\n,Nameless\n", encoding="utf-8")
    return file


def _ignore(processed: int, total: int) -> None:
    """Nobody watches."""


def _job(job_id: str, path: Path) -> NewJob:
    return NewJob(ImportRequest(job_id, path, "airlines"), "user", Priority.HIGH, estimated_ms=1_000)


async def _queued(service: ImportService, job: NewJob) -> Queued:
    result = await service.start_background(job, _ignore)
    assert isinstance(result, Queued)
    return result


async def _staged(pool: Pool, job_id: str) -> int:
    count: int = await pool.fetchval("SELECT count(*) FROM imports.staging_airlines WHERE job_id = $1", job_id)
    return count


async def test_background_imports_end_with_their_outcomes(pool: Pool, service: ImportService, path: Path) -> None:
    async with service.running():
        jobs = [await _queued(service, _job(f"bg-{number}", path)) for number in range(10)]
        outcomes = await asyncio.wait_for(asyncio.gather(*(job.ended for job in jobs)), 20)
    assert all(o is not None and o.records_successful == 2 for o in outcomes)
    assert [await _staged(pool, f"bg-{number}") for number in range(10)] == [2] * 10
    assert await pool.fetchval("SELECT count(*) FROM imports.jobs WHERE state = 'done'") == 10


async def test_jobs_queued_before_a_restart_are_done_after_it(pool: Pool, service: ImportService, path: Path) -> None:
    waiting = await _queued(service, _job("survivor", path))
    assert not waiting.ended.done()
    async with service.running():
        outcome = await asyncio.wait_for(waiting.ended, 20)
    assert outcome is not None
    assert await _staged(pool, "survivor") == 2


async def test_with_the_queue_down_the_import_runs_at_once(
    service: ImportService, breaker: _Breaker, pool: Pool, path: Path
) -> None:
    breaker.down = True
    result = await service.start_background(_job("fallback", path), _ignore)
    assert isinstance(result, FellBack)
    assert "refused" in result.reason
    assert result.outcome.final_status == "partial_success"
    assert await _staged(pool, "fallback") == 2


async def test_a_cancelled_background_import_ends_without_outcome_and_records(
    service: ImportService, pool: Pool, path: Path
) -> None:
    job = await _queued(service, _job("unwanted", path))
    assert await service.cancel("unwanted") is Cancellation.CANCELLED
    assert await job.ended is None
    async with service.running():
        other = await _queued(service, _job("wanted", path))
        await asyncio.wait_for(other.ended, 20)
    assert await _staged(pool, "unwanted") == 0


async def test_a_user_who_gives_up_stops_a_real_time_import(service: ImportService, pool: Pool, path: Path) -> None:
    def give_up(processed: int, total: int) -> None:
        raise ImportCancelledError

    with pytest.raises(ImportCancelledError):
        await service.run_realtime(ImportRequest("impatient", path, "airlines"), give_up)
    assert await _staged(pool, "impatient") == 0
    assert service.active == 0


async def test_a_job_whose_file_is_gone_fails_after_its_retries(
    service: ImportService, pool: Pool, tmp_path: Path
) -> None:
    async with service.running():
        job = await _queued(service, _job("gone", tmp_path / "gone.csv"))
        outcome = await asyncio.wait_for(job.ended, 30)
    assert outcome is not None
    assert (outcome.final_status, outcome.error_categories) == ("failed", (SYSTEM_ERROR,))
    assert await pool.fetchval("SELECT attempts FROM imports.jobs WHERE id = 'gone'") == 4


async def test_a_background_import_fails_for_good_while_the_target_takes_no_writes(pool: Pool, path: Path) -> None:
    queue = JobQueue(pool, "refused", workers=1)
    service = ImportService(Importer(pool, read_only=lambda: True), queue, queue, workers=1)
    async with service.running():
        outcome = await asyncio.wait_for((await _queued(service, _job("refused", path))).ended, 20)
    assert outcome is not None
    assert (outcome.final_status, outcome.error_categories) == ("failed", (READ_ONLY,))
    assert await pool.fetchval("SELECT state FROM imports.jobs WHERE id = 'refused'") == "done"
