"""Runs the aggregator's real worker."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import asyncpg

from bench.aggregator.counted import cursors
from bench.aggregator.site import Run, Site
from bench.processes import Measured, measured
from bench.progress import Completed
from deploy.local.ports import is_free, random_candidates
from deploy.local.readiness import is_ready

_POLL_SECONDS = 0.01
_START_SECONDS = 60.0
_STALL_SECONDS = 60.0


async def run_worker(site: Site, events: int, completed: Completed) -> Sequence[Run]:
    """From its own word that it is ready to the commit of the last batch. Raises BenchError."""
    port = next(port for port in random_candidates() if is_free(port))
    environment = {
        "TIDEGATE_KAFKA": site.kafka,
        "TIDEGATE_POSTGRES": site.postgres,
        "TIDEGATE_PORT": str(port),
    }
    connection = await asyncpg.connect(site.postgres)
    try:
        async with measured(
            "tidegate",
            ("-m", "services.aggregator", "worker"),
            core=site.core,
            env=environment,
            directory=site.directory,
        ) as worker:
            await _until_ready(worker, port)
            before, began = worker.usage(), time.perf_counter()
            await _until_folded(worker, connection, site.ends, completed)
            seconds, after = time.perf_counter() - began, worker.usage()
            return (Run(events, seconds, after.cpu_seconds - before.cpu_seconds, after.peak_memory),)
    finally:
        await connection.close()


async def _until_ready(worker: Measured, port: int) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while not await _says_ready(port):
        if worker.has_ended:
            raise await worker.death()
        if time.monotonic() > deadline:
            raise worker.failure(f"is not ready after {_START_SECONDS:g} s")
        await asyncio.sleep(_POLL_SECONDS)


async def _says_ready(port: int) -> bool:
    try:
        return await is_ready(port)
    except OSError:
        return False


async def _until_folded(
    worker: Measured, connection: asyncpg.Connection, ends: dict[int, int], completed: Completed
) -> None:
    moved, moved_at = 0, time.monotonic()
    while (found := await cursors(connection)) != ends:
        if worker.has_ended:
            raise await worker.death()
        folded = sum(found.values())
        if folded > moved:
            moved, moved_at = folded, time.monotonic()
            completed(folded)
        elif time.monotonic() > moved_at + _STALL_SECONDS:
            raise worker.failure(f"stands at {found} of {ends} for {_STALL_SECONDS:g} s")
        await asyncio.sleep(_POLL_SECONDS)
    completed(sum(ends.values()))
