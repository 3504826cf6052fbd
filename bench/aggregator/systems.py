"""The systems that are compared: how each is run and measured, and what it guarantees."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from bench.aggregator.counted import cursors
from bench.aggregator.peers.protocol import Done, Progress, Started, Task, read_line
from bench.processes import Measured, Usage, measured
from bench.progress import Completed
from deploy.local.ports import is_free, random_candidates
from deploy.local.readiness import is_ready

_POLL_SECONDS = 0.01
_START_SECONDS = 60.0
_STALL_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Site:
    """What stands ready before any system starts: the topic with all events, the migrated database, a core."""

    kafka: str
    postgres: str
    topic: str
    ends: dict[int, int]
    """Partition → offset after its last record; the first one is 0."""
    core: int | None
    directory: Path

    @property
    def events(self) -> int:
        return sum(self.ends.values())


@dataclass(frozen=True, slots=True)
class Run:
    """`events` took `seconds`, in which the process used `cpu_seconds`; `peak_memory` (bytes) is since its start."""

    events: int
    seconds: float
    cpu_seconds: float
    peak_memory: int


@dataclass(frozen=True, slots=True)
class System:
    """`at_most` bounds the events that a slow system is given."""

    name: str
    guarantee: str
    run: Callable[[Site, int, Completed], Awaitable[Run]]
    at_most: int | None = None

    def events_of(self, site: Site) -> int:
        return site.events if self.at_most is None else min(self.at_most, site.events - 1)


async def run_worker(site: Site, events: int, completed: Completed) -> Run:
    """The aggregator's real worker, from its own word that it is ready to the commit of the last batch."""
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
            return _run(events, time.perf_counter() - began, before, worker.usage())
    finally:
        await connection.close()


def program(module: str) -> Callable[[Site, int, Completed], Awaitable[Run]]:
    """Runs one of `bench.aggregator.peers`, which measures its own time."""

    async def run(site: Site, events: int, completed: Completed) -> Run:
        task = Task(site.kafka, site.topic, len(site.ends), events)
        argv = ("-m", f"bench.aggregator.peers.{module}", *task.arguments())
        async with measured(module, argv, core=site.core, env={}, directory=site.directory) as peer:
            return await _follow(peer, completed)

    return run


async def _follow(peer: Measured, completed: Completed) -> Run:
    before = Usage(0.0, 0)
    lines = peer.lines()
    while True:
        try:
            async with asyncio.timeout(_STALL_SECONDS):
                line = read_line(await anext(lines))
        except TimeoutError:
            raise peer.failure(f"has not moved for {_STALL_SECONDS:g} s") from None
        match line:
            case Started():
                before = peer.usage()
            case Progress(events):
                completed(events)
            case Done(events, seconds):
                completed(events)
                return _run(events, seconds, before, peer.usage())


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


def _run(events: int, seconds: float, before: Usage, after: Usage) -> Run:
    return Run(events, seconds, after.cpu_seconds - before.cpu_seconds, after.peak_memory)


TIDEGATE = "tidegate"
PLAIN_FAUST = "plain-faust"

SYSTEMS = {
    system.name: system
    for system in (
        System("floor", "nothing is computed: reading alone, with the same client", program("floor")),
        System(TIDEGATE, "every event counts exactly once in Postgres, through any crash", run_worker),
        System(
            PLAIN_FAUST,
            "none: the totals are in memory, a crash loses them",
            program("plain_faust"),
            at_most=100_000,
        ),
        System(
            f"{PLAIN_FAUST}-tables",
            "at least once: a crash counts events twice",
            program("plain_faust_tables"),
            at_most=10_000,
        ),
    )
}
"""In the order in which they run. Everyone reads the same records, one system at a time."""
