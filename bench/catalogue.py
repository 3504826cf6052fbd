"""Every benchmark by name."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from bench.aggregator.run import BENCH, run_aggregator
from bench.aggregator.systems import PLAIN_FAUST, SYSTEMS
from bench.progress import Bars
from bench.results import Measurement
from shared.clock import Clock


class RunBench(Protocol):
    def __call__(
        self,
        *,
        events: int,
        systems: Sequence[str],
        seed: int,
        cache: Path,
        clock: Clock,
        bars: Bars,
    ) -> Awaitable[list[Measurement]]:
        """Runs the named systems. Raises BenchError."""


@dataclass(frozen=True, slots=True)
class Bench:
    """`baseline` is the system that the others' rates are compared with."""

    name: str
    summary: str
    systems: tuple[str, ...]
    baseline: str
    run: RunBench


BENCHES = {
    bench.name: bench
    for bench in (
        Bench(
            BENCH,
            "a backlog of events to windows of three metrics, on one core each",
            tuple(SYSTEMS),
            PLAIN_FAUST,
            run_aggregator,
        ),
    )
}
