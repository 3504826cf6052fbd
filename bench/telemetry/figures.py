"""What recording an event costs its caller, as figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.table import Table

from bench.killpath.trips import nearest_rank
from bench.results import Figure

BENCH = "telemetry"
SYSTEM = "tidegate"

_MICROSECOND = 1_000
_QUANTILES = {"p50": 0.5, "p99": 0.99, "max": 1.0}


@dataclass(frozen=True, slots=True)
class Round:
    """Calls at one rate: their durations in ns, and the CPU seconds of the whole process."""

    rate: int
    calls: Sequence[int]
    cpu_seconds: float
    accepted: int

    @property
    def workload(self) -> str:
        return f"{self.rate}/s" if self.rate else "burst"

    @property
    def mean(self) -> float:
        """In microseconds."""
        return sum(self.calls) / len(self.calls) / _MICROSECOND

    @property
    def cpu_per_event(self) -> float:
        """In microseconds, the sending thread's included."""
        return self.cpu_seconds / len(self.calls) * 1e6

    def quantile(self, q: float) -> float:
        """In microseconds, by nearest rank."""
        return nearest_rank(self.calls, q) / _MICROSECOND


@dataclass(frozen=True, slots=True)
class Overhead:
    """What the benchmark found, one round for each rate."""

    rounds: Sequence[Round]

    def figures(self) -> list[Figure]:
        found = []
        for each in self.rounds:
            named = [(f"call_{name}_us", each.quantile(q), "µs") for name, q in _QUANTILES.items()]
            named += [
                ("call_mean_us", each.mean, "µs"),
                ("cpu_per_event", each.cpu_per_event, "µs"),
                ("events", len(each.calls), "events"),
                ("accepted", each.accepted, "events"),
            ]
            found += [Figure(BENCH, each.workload, SYSTEM, name, round(v, 3), unit) for name, v, unit in named]
        return found

    def table(self, title: str) -> Table:
        note = "Microseconds that a call takes its caller; CPU: of the whole process, the sending thread included."
        shown = Table(title=title, title_justify="left", caption=note, caption_justify="left")
        for heading in ("calls", "events", "accepted", "mean", *_QUANTILES, "CPU µs/event"):
            shown.add_column(heading, justify="right", no_wrap=True)
        for each in self.rounds:
            quantiles = (f"{each.quantile(q):,.1f}" for q in _QUANTILES.values())
            counts = (f"{len(each.calls):,}", f"{each.accepted:,}")
            shown.add_row(each.workload, *counts, f"{each.mean:,.1f}", *quantiles, f"{each.cpu_per_event:,.1f}")
        return shown
