"""What ingest and its peers achieved, as figures and as a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from rich.table import Table

from bench.ingest.load import Told
from bench.results import MIB, Figure, plain_table

BENCH = "ingest"
TIDEGATE = "tidegate"
FLOOR = "floor"
CONNECTIONS = "connections"
_KIB = 1024


@dataclass(frozen=True, slots=True)
class Cost:
    """Of all processes of a system: CPU seconds while the load at its peak ran, and the most memory in bytes."""

    cpu_seconds: float
    peak_memory: int


@dataclass(frozen=True, slots=True)
class Round:
    """One system under one workload: as fast as it answers, at half that rate, and at the rate that all have.

    Of what others started `cost` is unknown.
    """

    workload: str
    system: str
    peak: Told
    half: Told | None = None
    fixed: Told | None = None
    cost: Cost | None = None

    @property
    def requests_per_s(self) -> float:
        return self.peak.answers / self.peak.seconds

    @property
    def events_per_s(self) -> float:
        return self.peak.events / self.peak.seconds

    @property
    def load_cpu(self) -> float:
        """Percent of a core."""
        return 100 * self.peak.cpu_seconds / self.peak.seconds

    @property
    def cpu_per_event(self) -> float | None:
        """µs."""
        return None if self.cost is None else self.cost.cpu_seconds / self.peak.accepted * 1e6

    def figures(self) -> list[tuple[str, float, str]]:
        """Metric, value and unit."""
        found = [
            ("events_per_s", self.events_per_s, "events/s"),
            ("megabytes_per_s", self.peak.size / self.peak.seconds / 1e6, "MB/s"),
        ]
        if self.system == FLOOR:  # has no requests, and no load but itself
            return found
        phases = [phase for phase in (self.peak, self.half, self.fixed) if phase is not None]
        found += [
            ("requests_per_s", self.requests_per_s, "requests/s"),
            ("peak_p50_ms", self.peak.p50, "ms"),
            ("peak_p99_ms", self.peak.p99, "ms"),
            ("refused", sum(sum(phase.refused.values()) for phase in phases), "requests"),
            ("load_cpu", self.load_cpu, "%"),
        ]
        for name, told in (("half", self.half), ("fixed", self.fixed)):
            if told is not None:
                found += [
                    (f"{name}_per_s", told.answers / told.seconds, "requests/s"),
                    (f"{name}_p50_ms", told.p50, "ms"),
                    (f"{name}_p99_ms", told.p99, "ms"),
                    (f"{name}_max_ms", told.max, "ms"),
                ]
        if self.cost is not None and self.cpu_per_event is not None:
            found += [
                ("cpu_per_event", self.cpu_per_event, "µs"),
                ("peak_memory", self.cost.peak_memory / MIB, "MiB"),
            ]
        return found


@dataclass(frozen=True, slots=True)
class Gathering:
    """A system's memory (bytes, all its processes) before and after that many connections came to stay."""

    system: str
    connections: int
    before: int
    after: int

    @property
    def each(self) -> float:
        """Bytes."""
        return (self.after - self.before) / self.connections

    def figures(self) -> list[tuple[str, float, str]]:
        return [
            ("connections", self.connections, "connections"),
            ("memory_before", self.before / MIB, "MiB"),
            ("memory_after", self.after / MIB, "MiB"),
            ("memory_per_connection", self.each / _KIB, "KiB"),
        ]

    def __str__(self) -> str:
        return (
            f"{self.system}: {self.connections:,} open connections, {self.before / MIB:.0f} MiB before, "
            f"{self.after / MIB:.0f} after, {self.each / _KIB:.1f} KiB each"
        )


@dataclass(frozen=True, slots=True)
class Rates:
    """What the benchmark found; rates also as multiples of ours on the same workload.

    `left_out` says of systems and workloads that could not be measured why not.
    """

    rounds: Sequence[Round]
    gatherings: Sequence[Gathering] = ()
    left_out: Mapping[str, str] = field(default_factory=dict)

    def figures(self) -> list[Figure]:
        found = []
        for each in self.rounds:
            named = each.figures()
            ratio = self._ratio(each)
            if ratio is not None:
                named.append((f"ratio_to_{TIDEGATE}", ratio, "×"))
            found += [Figure(BENCH, each.workload, each.system, name, round(v, 3), unit) for name, v, unit in named]
        for one in self.gatherings:
            found += [
                Figure(BENCH, CONNECTIONS, one.system, name, round(v, 3), unit) for name, v, unit in one.figures()
            ]
        return found

    def table(self, title: str) -> Table:
        notes = [
            "×: multiple of tidegate's rate. Latencies in ms, to the end of an answer, which comes after Kafka has "
            "acknowledged the events: at the peak from the sending of the request; at half the peak, and at a rate "
            "that is the same for all, from the moment when it was due. load: percent of a core that the load takes.",
            *map(str, self.gatherings),
            *(f"{what} was left out: {why}" for what, why in self.left_out.items()),
        ]
        shown = plain_table(title, notes)
        for heading in ("work-\nload", "system"):
            shown.add_column(heading, no_wrap=True)
        for heading in (
            "events/s",
            "×",
            "p99\npeak",
            "p99\nhalf",
            "p99\nsame",
            "CPU µs\n/event",
            "peak\nMiB",
            "load\n%",
        ):
            shown.add_column(heading, justify="right", no_wrap=True)
        for each in self.rounds:
            is_floor = each.system == FLOOR
            half, fixed, cost = each.half, each.fixed, each.cost
            shown.add_row(
                each.workload,
                each.system,
                f"{each.events_per_s:,.0f}",
                _shown(self._ratio(each), 2),
                "" if is_floor else _shown(each.peak.p99, 1),
                _shown(half.p99 if half else None, 1),
                _shown(fixed.p99 if fixed else None, 1),
                _shown(each.cpu_per_event, 2),
                _shown(cost.peak_memory / MIB if cost else None, 0),
                "" if is_floor else _shown(each.load_cpu, 0),
            )
        return shown

    def _ratio(self, one: Round) -> float | None:
        for other in self.rounds:
            if (other.workload, other.system) == (one.workload, TIDEGATE):
                return one.events_per_s / other.events_per_s
        return None


def _shown(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:,.{digits}f}"
