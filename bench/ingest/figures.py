"""What ingest and its peers achieved, as figures and as a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich import box
from rich.table import Table

from bench.ingest.load import Told
from bench.results import MIB, Figure

BENCH = "ingest"
TIDEGATE = "tidegate"
FLOOR = "floor"


@dataclass(frozen=True, slots=True)
class Cost:
    """Of all processes of a system: CPU seconds while the load at its peak ran, and the most memory in bytes."""

    cpu_seconds: float
    peak_memory: int


@dataclass(frozen=True, slots=True)
class Round:
    """One system under one workload, `half` at half the rate of `peak`; of what others started `cost` is unknown."""

    workload: str
    system: str
    events_per_request: int
    peak: Told
    half: Told | None = None
    cost: Cost | None = None

    @property
    def requests_per_s(self) -> float:
        return self.peak.answers / self.peak.seconds

    @property
    def events_per_s(self) -> float:
        return self.requests_per_s * self.events_per_request

    @property
    def refused(self) -> int:
        return sum(self.peak.refused.values()) + (sum(self.half.refused.values()) if self.half else 0)

    def figures(self) -> list[tuple[str, float, str]]:
        """Metric, value and unit."""
        found = [("events_per_s", self.events_per_s, "events/s")]
        if self.system == FLOOR:  # has no requests
            return found
        found += [
            ("requests_per_s", self.requests_per_s, "requests/s"),
            ("peak_p50_ms", self.peak.p50, "ms"),
            ("peak_p99_ms", self.peak.p99, "ms"),
            ("refused", self.refused, "requests"),
        ]
        if self.half is not None:
            found += [
                ("half_p50_ms", self.half.p50, "ms"),
                ("half_p99_ms", self.half.p99, "ms"),
                ("half_max_ms", self.half.max, "ms"),
            ]
        if self.cost is not None:
            cpu = self.cost.cpu_seconds / self.peak.accepted * 1e6
            found += [
                ("cpu_per_event", cpu, "µs"),
                ("peak_memory", self.cost.peak_memory / MIB, "MiB"),
            ]
        return found


@dataclass(frozen=True, slots=True)
class Rates:
    """What the benchmark found; rates also as multiples of ours on the same workload."""

    rounds: Sequence[Round]

    def figures(self) -> list[Figure]:
        found = []
        for each in self.rounds:
            named = each.figures()
            ratio = self._ratio(each)
            if ratio is not None:
                named.append((f"ratio_to_{TIDEGATE}", ratio, "×"))
            found += [Figure(BENCH, each.workload, each.system, name, round(v, 3), unit) for name, v, unit in named]
        return found

    def table(self, title: str) -> Table:
        note = (
            "×: multiple of tidegate's rate. Latencies in ms: at the peak from the sending of a request, at half the "
            "peak from the moment when it was due, to the end of its answer, which comes after all replicas have the "
            "events."
        )
        shown = Table(
            title=title,
            title_justify="left",
            caption=note,
            caption_justify="left",
            box=box.SIMPLE_HEAD,
            show_edge=False,
            padding=(0, 0),
        )
        for heading in ("work-\nload", "system"):
            shown.add_column(heading, no_wrap=True)
        for heading in (
            "requests\n/s",
            "events/s",
            "×",
            "p99\npeak",
            "p50\nhalf",
            "p99\nhalf",
            "CPU µs\n/event",
            "peak\nMiB",
        ):
            shown.add_column(heading, justify="right", no_wrap=True)
        for each in self.rounds:
            ratio = self._ratio(each)
            shown.add_row(
                each.workload,
                each.system,
                "" if each.system == FLOOR else f"{each.requests_per_s:,.0f}",
                f"{each.events_per_s:,.0f}",
                "" if ratio is None else f"{ratio:.2f}",
                "" if each.system == FLOOR else f"{each.peak.p99:.1f}",
                "" if each.half is None else f"{each.half.p50:.1f}",
                "" if each.half is None else f"{each.half.p99:.1f}",
                "" if each.cost is None else f"{each.cost.cpu_seconds / each.peak.accepted * 1e6:.2f}",
                "" if each.cost is None else f"{each.cost.peak_memory / MIB:.0f}",
            )
        return shown

    def _ratio(self, one: Round) -> float | None:
        for other in self.rounds:
            if (other.workload, other.system) == (one.workload, TIDEGATE):
                return one.events_per_s / other.events_per_s
        return None
