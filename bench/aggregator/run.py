"""`tidegate bench aggregator`: for each workload one Kafka, Postgres and backlog, and one system after the other.

start ─► draw and produce ─► floor ─► tidegate ─► its totals = the truth? ─► a peer ─► the same question ─► … figures
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import asyncpg

from bench.aggregator.backlog import produce
from bench.aggregator.counted import result
from bench.aggregator.differences import differences, peer_differences
from bench.aggregator.environments import NotHereError
from bench.aggregator.metrics import BY_UNIT, EXPERIMENT_IN, WORKLOADS
from bench.aggregator.site import Run, Site
from bench.aggregator.systems import FLOOR, SYSTEMS, TIDEGATE
from bench.aggregator.truth import Truth
from bench.aggregator.workload import (
    EXPERIMENT,
    ORGANISATION,
    SPAN,
    VARIANTS,
    Record,
    Writer,
    draw,
    exposures,
)
from bench.processes import BenchError, spare_core
from bench.progress import Bars, Completed
from bench.results import Comparison, Measurement
from deploy.local.migrations import migrate
from deploy.local.stack import LocalStack
from shared.clock import MINUTE, Clock
from shared.kafka import Publisher, create_topics
from shared.messages import Experiment, Metric, Variant
from shared.topics import EVENTS, EXPERIMENTS
from shared.topics import METRICS as METRIC_DEFINITIONS

BENCH = "aggregator"
_TOLD = 10
_BUCKETS = 1_000_000


async def run_aggregator(
    *,
    events: int,
    workloads: Sequence[str],
    systems: Sequence[str],
    seed: int,
    cache: Path,
    clock: Clock,
    bars: Bars,
) -> Comparison:
    """Everything it starts is ended and everything it writes removed, but for what it keeps in `cache`: Kafka's jars
    and what the peers run on.

    Raises BenchError when a system fails, or when its totals are not the truth.
    """
    measurements: list[Measurement] = []
    left_out: dict[str, str] = {}
    for workload in workloads:
        able = [name for name in systems if workload in SYSTEMS[name].workloads]
        if able:
            one = _Workload(workload, events, seed, cache, clock, bars)
            measurements += await one.measure(able, left_out)
    if not measurements:
        raise BenchError("nothing was measured: " + _told(left_out, workloads))
    return Comparison(measurements, TIDEGATE, left_out)


class _Workload:
    """One workload on an infrastructure of its own."""

    def __init__(self, name: str, events: int, seed: int, cache: Path, clock: Clock, bars: Bars) -> None:
        self._name, self._events, self._seed = name, events, seed
        self._cache, self._clock, self._bars = cache, clock, bars
        self._with_experiment = name in EXPERIMENT_IN

    async def measure(self, systems: Sequence[str], left_out: dict[str, str]) -> list[Measurement]:
        """Adds to `left_out` which systems could not be measured, and why."""
        with tempfile.TemporaryDirectory(prefix="tidegate-bench-") as directory:
            root = Path(directory)
            infrastructure = LocalStack(root / "state", processes="infrastructure", cache=self._cache)
            async with AsyncExitStack() as stack:
                with self._bars.showing("Starting Kafka and PostgreSQL"):
                    await stack.enter_async_context(infrastructure)
                site, truth = await self._prepare(infrastructure, root)
                found: list[Measurement] = []
                for name in systems:
                    try:
                        found += await self._measure(name, site, truth)
                    except NotHereError as error:
                        left_out[name] = str(error)
                return found

    async def _prepare(self, infrastructure: LocalStack, directory: Path) -> tuple[Site, Truth]:
        """Topics, tables, definitions and the whole backlog, before anything is measured."""
        kafka, postgres = infrastructure.kafka, infrastructure.postgres
        await create_topics(kafka)
        await migrate(postgres, cwd=directory)
        await self._define(kafka)
        start = self._clock() // MINUTE * MINUTE - SPAN
        truth = Truth(WORKLOADS[self._name], start=start, experiment=self._with_experiment)
        with self._bars.showing(f"Producing {self._events:,} events of {self._name}", self._events) as completed:
            ends = await produce(kafka, self._records(truth, start, completed))
        site = Site(kafka, postgres, EVENTS.name, ends, spare_core(), directory, self._cache)
        return site, truth

    async def _define(self, kafka: str) -> None:
        publisher = Publisher(kafka)
        await publisher.start()
        try:
            for wanted in WORKLOADS[self._name]:
                metric = Metric(organisation=ORGANISATION, key=wanted.key, version=1, spec=wanted.definition)
                await publisher.publish(METRIC_DEFINITIONS, metric)
            if self._with_experiment:
                await publisher.publish(EXPERIMENTS, experiment())
        finally:
            await publisher.stop()

    def _records(self, truth: Truth, start: int, completed: Completed) -> Iterator[Record]:
        writer = Writer()
        first = exposures(seed=self._seed, start=start) if self._with_experiment else iter(())
        for columns in itertools.chain(first, draw(self._events, seed=self._seed, start=start)):
            truth.add(columns)
            yield from writer.records(columns)
            completed(truth.events)

    async def _measure(self, name: str, site: Site, truth: Truth) -> list[Measurement]:
        system = SYSTEMS[name]
        with self._bars.showing(f"Preparing {name}"):
            run_system = await system.prepare(site)
        events = system.events_of(site)
        with self._bars.showing(f"Measuring {name} on {events:,} events of {self._name}", events) as completed:
            runs = await run_system(site, events, completed)
        for run in runs:
            await _check(name, run, site, truth)
        return [
            Measurement(
                bench=BENCH,
                workload=self._name,
                system=name,
                guarantee=system.guarantee,
                events=run.events,
                seconds=run.seconds,
                cpu_seconds=run.cpu_seconds,
                peak_memory=run.peak_memory,
                warm_up=run.warm_up,
            )
            for run in runs
        ]


def experiment() -> Experiment:
    """Every user is in it, half in each variant, from the beginning of time."""
    share = _BUCKETS // len(VARIANTS)
    return Experiment(
        organisation=ORGANISATION,
        id=1,
        key=EXPERIMENT,
        name=EXPERIMENT,
        version=1,
        status="running",
        unit="user",
        salt=EXPERIMENT,
        variants=tuple(
            Variant(id=i, name=name, type="treatment" if i else "control", buckets=share)
            for i, name in enumerate(VARIANTS)
        ),
        metrics=tuple(wanted.key for wanted in BY_UNIT),
    )


async def _check(name: str, run: Run, site: Site, truth: Truth) -> None:
    if name == FLOOR:
        return
    if name == TIDEGATE:
        connection = await asyncpg.connect(site.postgres)
        try:
            wrong = list(differences(truth, await result(connection, truth)))
        finally:
            await connection.close()
    else:
        wrong = list(peer_differences(truth, run.events, run.totals))
    if wrong:
        told = "\n".join(wrong[:_TOLD])
        raise BenchError(f"the totals of {name} are not the truth, in {len(wrong)} places:\n{told}")


def _told(left_out: dict[str, str], workloads: Sequence[str]) -> str:
    return "; ".join(f"{name}: {why}" for name, why in left_out.items()) or (
        f"none of these systems does {', '.join(workloads)}"
    )
