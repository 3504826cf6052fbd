"""The systems that are compared: what each guarantees, on which workloads and how it is run."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from bench.aggregator.environments import HEAP, import_path, kafka_streams, virtual_environment
from bench.aggregator.metrics import WORKLOADS
from bench.aggregator.peers.protocol import Done, Progress, Started, Task, read_line
from bench.aggregator.site import Run, Runner, Site
from bench.aggregator.worker import run_worker
from bench.processes import Measured, Usage, measured
from bench.progress import Completed

_STALL_SECONDS = 60.0
_EVERY = tuple(WORKLOADS)
_W1 = ("W1",)
_HEAP_PER_ID = 256
"""Bytes: about twice what an id takes in Kafka Streams' in-memory window store."""


@dataclass(frozen=True, slots=True)
class System:
    """`prepare` makes what the system runs on, and raises NotHereError where that cannot be had.

    `at_most` bounds the events that a slow system is given.
    """

    name: str
    guarantee: str
    prepare: Callable[[Site], Awaitable[Runner]]
    workloads: tuple[str, ...] = _W1
    at_most: int | None = None

    def events_of(self, site: Site) -> int:
        return site.events if self.at_most is None else min(self.at_most, site.events)


async def _worker(_: Site) -> Runner:
    return run_worker


def _program(module: str) -> Callable[[Site], Awaitable[Runner]]:
    """One of `bench.aggregator.peers` that runs in our own environment."""

    async def prepare(_: Site) -> Runner:
        return _peer(module, (sys.executable, "-m", f"bench.aggregator.peers.{module}"))

    return prepare


def _isolated(name: str) -> Callable[[Site], Awaitable[Runner]]:
    """One that runs in an environment of its own."""

    async def prepare(site: Site) -> Runner:
        interpreter = await virtual_environment(name, site.cache)
        only_bench = {"PYTHONPATH": str(import_path(site.directory))}
        return _peer(name, (str(interpreter), "-m", f"bench.aggregator.peers.{name}_program"), only_bench)

    return prepare


def _streams(api: str, guarantee: str, heap_per_event: int = 0) -> Callable[[Site], Awaitable[Runner]]:
    """`heap_per_event` is for what is kept of each event, in bytes."""

    async def prepare(site: Site) -> Runner:
        java = await kafka_streams(site.cache, site.directory, HEAP + heap_per_event * site.events)
        name = f"kafka-streams-{api}-{guarantee}"
        return _peer(name, (*java, str(site.directory / name), api, guarantee))

    return prepare


def _peer(name: str, command: tuple[str, ...], environment: Mapping[str, str] | None = None) -> Runner:
    """A program that speaks the protocol and measures its own time."""

    async def run(site: Site, events: int, completed: Completed) -> Sequence[Run]:
        task = Task(site.kafka, site.topic, len(site.ends), events)
        program, *argv = (*command, *task.arguments())
        async with measured(
            name, argv, core=site.core, env=environment or {}, directory=site.directory, program=program
        ) as peer:
            return await follow(peer, completed)

    return run


async def follow(peer: Measured, completed: Completed) -> Sequence[Run]:
    """What a program that speaks the protocol says of each of its runs. Raises BenchError."""
    runs: list[Run] = []
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
            case Done(events, seconds, totals, again):
                completed(events)
                after, warm_up = peer.usage(), sum(run.events for run in runs)
                cpu_seconds = after.cpu_seconds - before.cpu_seconds
                runs.append(Run(events, seconds, cpu_seconds, after.peak_memory, totals, warm_up))
                if not again:
                    return runs


FLOOR = "floor"
TIDEGATE = "tidegate"

SYSTEMS = {
    system.name: system
    for system in (
        System(FLOOR, "nothing is computed: reading alone, with the same client", _program("floor"), _EVERY),
        System(TIDEGATE, "every event counts exactly once in Postgres, through any crash", _worker, _EVERY),
        System(
            "kafka-streams-papi",
            "at least once: a crash may count events twice",
            _streams("papi", "at_least_once"),
        ),
        System(
            "kafka-streams-papi-eos",
            "exactly once in Kafka: state and offsets in one Kafka transaction",
            _streams("papi", "exactly_once_v2"),
        ),
        System(
            "kafka-streams-papi-eos-dedup",
            "exactly once in Kafka, and an event that is resent within 36 minutes counts once",
            _streams("papi-dedup", "exactly_once_v2", heap_per_event=_HEAP_PER_ID),
        ),
        System(
            "kafka-streams-dsl",
            "at least once: a crash may count events twice",
            _streams("dsl", "at_least_once"),
        ),
        System("bytewax", "none: windows are in memory, a crash starts over", _isolated("bytewax")),
        System("quix", "none: the totals are in memory, a crash loses them", _isolated("quix"), at_most=1_000_000),
        System(
            "plain-faust",
            "none: the totals are in memory, a crash loses them",
            _program("plain_faust"),
            at_most=100_000,
        ),
        System(
            "plain-faust-tables",
            "at least once: a crash counts events twice",
            _program("plain_faust_tables"),
            at_most=10_000,
        ),
    )
}
"""In the order in which they run. Everyone reads the same records, one system at a time."""
