"""Every benchmark by name."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from bench.aggregator.metrics import WORKLOADS
from bench.aggregator.run import BENCH as AGGREGATOR
from bench.aggregator.run import run_aggregator
from bench.aggregator.systems import SYSTEMS, TIDEGATE
from bench.freshness.run import BENCH as FRESHNESS
from bench.freshness.run import RATES as FRESHNESS_RATES
from bench.freshness.run import run_freshness
from bench.ingest.peers import Peer
from bench.ingest.run import BENCH as INGEST
from bench.ingest.run import CHOICES as INGEST_WORKLOADS
from bench.ingest.run import SYSTEMS as INGEST_SYSTEMS
from bench.ingest.run import run_ingest
from bench.killpath.run import BENCH as KILLPATH
from bench.killpath.run import RATES, SYSTEM, run_killpath
from bench.progress import Bars
from bench.results import Findings
from bench.telemetry.run import BENCH as TELEMETRY
from bench.telemetry.run import SYSTEM as TELEMETRY_SYSTEM
from bench.telemetry.run import run_telemetry
from shared.clock import Clock

USUAL_WORKLOAD = next(iter(WORKLOADS))


@dataclass(frozen=True, slots=True)
class Order:
    """What to measure; each benchmark takes from it what concerns it. `rates` are events/s in the background."""

    systems: Sequence[str]
    workloads: Sequence[str] = ()
    events: int = 1_000_000
    trips: int = 100
    rates: Sequence[int] = RATES
    seed: int = 1
    peers: Sequence[Peer] = ()


class RunBench(Protocol):
    def __call__(self, order: Order, *, cache: Path, clock: Clock, bars: Bars) -> Awaitable[Findings]:
        """Runs what is ordered. `cache` keeps Kafka's jars and what peers run on. Raises BenchError."""


@dataclass(frozen=True, slots=True)
class Bench:
    """`baseline` is the system that the others are compared with, `usual` are the workloads if none is named."""

    name: str
    summary: str
    systems: tuple[str, ...]
    baseline: str
    run: RunBench
    workloads: tuple[str, ...] = ()
    usual: tuple[str, ...] = ()


async def _aggregator(order: Order, *, cache: Path, clock: Clock, bars: Bars) -> Findings:
    return await run_aggregator(
        events=order.events,
        workloads=order.workloads,
        systems=order.systems,
        seed=order.seed,
        cache=cache,
        clock=clock,
        bars=bars,
    )


async def _killpath(order: Order, *, cache: Path, clock: Clock, bars: Bars) -> Findings:
    return await run_killpath(
        trips=order.trips, rates=order.rates, seed=order.seed, cache=cache, clock=clock, bars=bars
    )


async def _freshness(order: Order, *, cache: Path, clock: Clock, bars: Bars) -> Findings:
    rates = FRESHNESS_RATES if order.rates == RATES else order.rates
    return await run_freshness(probes=order.trips, rates=rates, seed=order.seed, cache=cache, clock=clock, bars=bars)


async def _ingest(order: Order, *, cache: Path, clock: Clock, bars: Bars) -> Findings:
    return await run_ingest(
        systems=order.systems,
        peers=order.peers,
        workloads=order.workloads,
        seed=order.seed,
        cache=cache,
        bars=bars,
    )


async def _telemetry(order: Order, *, cache: Path, clock: Clock, bars: Bars) -> Findings:
    return await run_telemetry(cache=cache, bars=bars)


BENCHES = {
    bench.name: bench
    for bench in (
        Bench(
            AGGREGATOR,
            "a backlog of events to windows of metrics, on one core each",
            tuple(SYSTEMS),
            TIDEGATE,
            _aggregator,
            tuple(WORKLOADS),
            (USUAL_WORKLOAD,),
        ),
        Bench(
            KILLPATH,
            "the event that trips a breaker to the changed answer of its flag",
            (SYSTEM,),
            SYSTEM,
            _killpath,
        ),
        Bench(
            INGEST,
            "events over HTTP to acknowledged Kafka records, at the peak, at half of it and at a fixed rate",
            INGEST_SYSTEMS,
            TIDEGATE,
            _ingest,
            INGEST_WORKLOADS,
            INGEST_WORKLOADS,
        ),
        Bench(FRESHNESS, "an acknowledged event to its visible window", (SYSTEM,), SYSTEM, _freshness),
        Bench(
            TELEMETRY,
            "what a server's telemetry costs each call",
            (TELEMETRY_SYSTEM,),
            TELEMETRY_SYSTEM,
            _telemetry,
        ),
    )
}
