"""How old an event is when anybody can see that it counts, and many of such ages as figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.table import Table

from bench.killpath.trips import nearest_rank
from bench.results import Figure

BENCH = "freshness"
SYSTEM = "tidegate"

_MILLISECOND = 1_000
_QUANTILES = {"p50": 0.5, "p99": 0.99, "max": 1.0}


@dataclass(frozen=True, slots=True)
class Round:
    """All probes at one background load: µs from ingest's answer to REST's first one that counts the probe."""

    rate: int
    accepted_per_s: float
    ages: Sequence[int]

    @property
    def workload(self) -> str:
        return f"{self.rate}/s"

    def quantile(self, q: float) -> float:
        """In milliseconds, by nearest rank."""
        return nearest_rank(self.ages, q) / _MILLISECOND


@dataclass(frozen=True, slots=True)
class Freshness:
    """What the benchmark found, one round for each load."""

    rounds: Sequence[Round]

    def figures(self) -> list[Figure]:
        found = []
        for each in self.rounds:
            named = [(f"acknowledged_to_visible_{n}_ms", each.quantile(q), "ms") for n, q in _QUANTILES.items()]
            named += [
                ("background_accepted_per_s", each.accepted_per_s, "events/s"),
                ("probes", len(each.ages), "probes"),
            ]
            found += [Figure(BENCH, each.workload, SYSTEM, name, round(v, 3), unit) for name, v, unit in named]
        return found

    def table(self, title: str) -> Table:
        note = "Milliseconds from ingest's answer until the window over REST counts the event."
        shown = Table(title=title, title_justify="left", caption=note, caption_justify="left")
        for heading in ("background", "accepted/s", "probes", *_QUANTILES):
            shown.add_column(heading, justify="right", no_wrap=True)
        for each in self.rounds:
            ages = (f"{each.quantile(q):,.0f}" for q in _QUANTILES.values())
            shown.add_row(each.workload, f"{each.accepted_per_s:,.0f}", str(len(each.ages)), *ages)
        return shown
