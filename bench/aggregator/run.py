"""`tidegate bench aggregator`: one Kafka, one Postgres, one backlog; the systems one after the other.

start ─► draw and produce ─► floor ─► tidegate ─► its totals = the truth? ─► plain Faust ─► figures
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import asyncpg

from bench.aggregator.backlog import produce
from bench.aggregator.counted import result
from bench.aggregator.systems import SYSTEMS, TIDEGATE, Site
from bench.aggregator.truth import Truth, differences
from bench.aggregator.workload import METRICS, NAME, ORGANISATION, SPAN, as_event, draw
from bench.processes import BenchError, spare_core
from bench.progress import Bars, Completed
from bench.results import Measurement
from deploy.local.migrations import migrate
from deploy.local.stack import LocalStack
from shared.clock import MINUTE, Clock
from shared.kafka import Publisher, create_topics
from shared.messages import Event, Metric
from shared.topics import EVENTS
from shared.topics import METRICS as METRIC_DEFINITIONS

BENCH = "aggregator"
_TOLD = 10
_PROGRESS_EVERY = 1_000


async def run_aggregator(
    *,
    events: int,
    systems: Sequence[str],
    seed: int,
    cache: Path,
    clock: Clock,
    bars: Bars,
) -> list[Measurement]:
    """Everything it starts is ended and everything it writes removed. `cache` is where Kafka's jars are kept.

    Raises BenchError when a system fails, or when the aggregator's totals are not the truth.
    """
    with tempfile.TemporaryDirectory(prefix="tidegate-bench-") as directory:
        root = Path(directory)
        infrastructure = LocalStack(root / "state", processes="infrastructure", cache=cache)
        async with AsyncExitStack() as stack:
            with bars.showing("Starting Kafka and PostgreSQL"):
                await stack.enter_async_context(infrastructure)
            site, truth = await _prepare(infrastructure, root, events=events, seed=seed, clock=clock, bars=bars)
            measurements = []
            for name in systems:
                measurements.append(await _measure(name, site, bars))
                if name == TIDEGATE:
                    await _check(site, truth)
            return measurements


async def _prepare(
    infrastructure: LocalStack, directory: Path, *, events: int, seed: int, clock: Clock, bars: Bars
) -> tuple[Site, Truth]:
    """Topics, tables, definitions and the whole backlog, before anything is measured."""
    kafka, postgres = infrastructure.kafka, infrastructure.postgres
    await create_topics(kafka)
    await migrate(postgres, cwd=directory)
    await _define_metrics(kafka)
    truth = Truth()
    start = clock() // MINUTE * MINUTE - SPAN
    with bars.showing(f"Producing {events:,} events of {NAME}", events) as completed:
        ends = await produce(kafka, _events(truth, events, seed=seed, start=start, completed=completed))
    return Site(kafka, postgres, EVENTS.name, ends, spare_core(), directory), truth


async def _define_metrics(kafka: str) -> None:
    publisher = Publisher(kafka)
    await publisher.start()
    try:
        for key, spec in METRICS.items():
            metric = Metric(organisation=ORGANISATION, key=key, version=1, spec=spec)
            await publisher.publish(METRIC_DEFINITIONS, metric)
    finally:
        await publisher.stop()


def _events(truth: Truth, events: int, *, seed: int, start: int, completed: Completed) -> Iterator[Event]:
    for drawn in draw(events, seed=seed, start=start):
        truth.add(drawn)
        yield as_event(drawn)
        if not truth.events % _PROGRESS_EVERY:
            completed(truth.events)


async def _measure(name: str, site: Site, bars: Bars) -> Measurement:
    system = SYSTEMS[name]
    events = system.events_of(site)
    with bars.showing(f"Measuring {name} on {events:,} events", events) as completed:
        run = await system.run(site, events, completed)
    return Measurement(BENCH, NAME, name, system.guarantee, run.events, run.seconds, run.cpu_seconds, run.peak_memory)


async def _check(site: Site, truth: Truth) -> None:
    connection = await asyncpg.connect(site.postgres)
    try:
        wrong = list(differences(truth, await result(connection)))
    finally:
        await connection.close()
    if wrong:
        told = "\n".join(wrong[:_TOLD])
        raise BenchError(f"the aggregator's totals are not the truth, in {len(wrong)} places:\n{told}")
