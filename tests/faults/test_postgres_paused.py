"""Postgres stands still while events go on coming: the worker waits in bounded memory, then everything is exact."""

from __future__ import annotations

import asyncio

from shared.clock import system_clock
from tests.faults.faults import Pause
from tests.faults.generator import Generator
from tests.faults.progress import Progress
from tests.faults.run import Run, wait_until_folded
from tests.faults.settings import FaultSettings
from tests.faults.site import Site
from tests.faults.victims import resident_bytes

MOST_GROWTH = 150 * 1024 * 1024
"""Two batches a partition, and what has been fetched behind them."""
_PART = 5_000
_ENOUGH = 9 * _PART
"""Events that must come meanwhile, however slow the machine: fewer would not tell whether memory is bounded."""


async def test_memory_is_bounded_while_postgres_stands_still_and_then_all_is_exact(
    site: Site, fault_settings: FaultSettings, progress: Progress
) -> None:
    generator = Generator("paused", fault_settings.seed, system_clock())
    run = Run(site, generator, progress)
    await run.define()
    for _ in range(4):
        await run.send(generator.part(_PART))
    await wait_until_folded(site)
    (worker,) = site.workers
    before = _memory(worker.pid())
    peak = before
    pause = Pause(site.victim("postgres"), fault_settings.severity.postgres_away)
    progress.say(pause.name)
    until = asyncio.get_running_loop().time() + pause.seconds
    sent = 0
    await pause.start()
    try:
        while sent < _ENOUGH or asyncio.get_running_loop().time() < until:
            if sent < max(_ENOUGH, fault_settings.events):
                await run.send(generator.part(_PART))
                sent += _PART
            else:
                await asyncio.sleep(0.2)
            peak = max(peak, _memory(worker.pid()))
    finally:
        await pause.stop()
    progress.say(f"{sent:,} events came; the worker's memory grew by {_mb(peak - before)} from {_mb(before)} MB")
    assert peak - before < MOST_GROWTH
    await run.finish()
    await run.expect_truth()
    assert site.crashes() == []


def _mb(size: int) -> str:
    return f"{size / 1e6:.0f}"


def _memory(pid: int | None) -> int:
    return 0 if pid is None else resident_bytes(pid)
