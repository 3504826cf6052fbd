"""Every benchmark by name."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from bench.aggregator.run import BENCH as AGGREGATOR
from bench.aggregator.run import run_aggregator
from bench.aggregator.systems import PLAIN_FAUST, SYSTEMS
from bench.killpath.run import BENCH as KILLPATH
from bench.killpath.run import RATES, SYSTEM, run_killpath
from bench.progress import Bars
from bench.results import Comparison, Findings
from shared.clock import Clock


@dataclass(frozen=True, slots=True)
class Order:
    """What to measure; each benchmark takes from it what concerns it. `rates` are events/s in the background."""

    systems: Sequence[str]
    events: int = 1_000_000
    trips: int = 100
    rates: Sequence[int] = RATES
    seed: int = 1


class RunBench(Protocol):
    def __call__(self, order: Order, *, cache: Path, clock: Clock, bars: Bars) -> Awaitable[Findings]:
        """Runs what is ordered. `cache` is where Kafka's jars are kept. Raises BenchError."""


@dataclass(frozen=True, slots=True)
class Bench:
    """`baseline` is the system that the others are compared with."""

    name: str
    summary: str
    systems: tuple[str, ...]
    baseline: str
    run: RunBench


async def _aggregator(order: Order, *, cache: Path, clock: Clock, bars: Bars) -> Findings:
    measurements = await run_aggregator(
        events=order.events, systems=order.systems, seed=order.seed, cache=cache, clock=clock, bars=bars
    )
    return Comparison(measurements, PLAIN_FAUST)


async def _killpath(order: Order, *, cache: Path, clock: Clock, bars: Bars) -> Findings:
    return await run_killpath(
        trips=order.trips, rates=order.rates, seed=order.seed, cache=cache, clock=clock, bars=bars
    )


BENCHES = {
    bench.name: bench
    for bench in (
        Bench(
            AGGREGATOR,
            "a backlog of events to windows of three metrics, on one core each",
            tuple(SYSTEMS),
            PLAIN_FAUST,
            _aggregator,
        ),
        Bench(
            KILLPATH,
            "the event that trips a breaker to the changed answer of its flag",
            (SYSTEM,),
            SYSTEM,
            _killpath,
        ),
    )
}
