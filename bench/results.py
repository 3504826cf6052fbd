"""What a benchmark found, for people and for programs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import msgspec
from rich import box
from rich.table import Table

MIB = 1024 * 1024
COLD = "cold_"
"""What the names of metrics begin with that are of a cold run, where the system also ran warm."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A row of `tidegate bench --json`."""

    bench: str
    workload: str
    system: str
    metric: str
    value: float
    unit: str


class Findings(Protocol):
    """What a benchmark returns."""

    def figures(self) -> list[Figure]: ...

    def table(self, title: str) -> Table: ...


@dataclass(frozen=True, slots=True)
class Measurement:
    """One system on one workload. `peak_memory` is in bytes, `cpu_seconds` those of the system's own process.

    `warm_up` is how many events that process had been through before: with none it is cold, else warm.
    """

    bench: str
    workload: str
    system: str
    guarantee: str
    events: int
    seconds: float
    cpu_seconds: float
    peak_memory: int
    warm_up: int = 0

    @property
    def events_per_s(self) -> float:
        return self.events / self.seconds

    @property
    def is_cold(self) -> bool:
        return self.warm_up == 0

    def figures(self) -> list[tuple[str, float, str]]:
        """Metric, value and unit: rate, cost and memory, and on how many events they were measured."""
        return [
            ("events_per_s", round(self.events_per_s, 1), "events/s"),
            ("cpu_per_event", round(self.cpu_seconds / self.events * 1e6, 3), "µs"),
            ("peak_memory", round(self.peak_memory / MIB, 1), "MiB"),
            ("events", self.events, "events"),
            ("warm_up", self.warm_up, "events"),
        ]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Several systems' throughput, each also as a multiple of `baseline`'s on the same workload.

    A system may have been measured twice in one process, cold and then warm. Its figures are those of the warm run,
    and those of the cold one have a prefix: who reads no further sees it at its best. `left_out` says of systems that
    could not be measured why not.
    """

    measurements: Sequence[Measurement]
    baseline: str
    left_out: Mapping[str, str] = field(default_factory=dict)

    def figures(self) -> list[Figure]:
        warm = {(m.workload, m.system) for m in self.measurements if not m.is_cold}
        found = []
        for m in self.measurements:
            prefix = COLD if m.is_cold and (m.workload, m.system) in warm else ""
            named, ratio = m.figures(), self._ratio(m)
            if ratio is not None:
                named.append((f"ratio_to_{self.baseline}", round(ratio, 4), "×"))
            place = (m.bench, m.workload, m.system)
            found += [Figure(*place, prefix + metric, value, unit) for metric, value, unit in named]
        return found

    def table(self, title: str) -> Table:
        """The measurements side by side; below, what each system guarantees."""
        guarantees = {m.system: m.guarantee for m in self.measurements}
        warm_ups = sorted({m.warm_up for m in self.measurements if not m.is_cold})
        notes = [
            f"×: multiple of {self.baseline}'s rate",
            "cold: the first events that the process ever folded",
            *(f"warm: after {n:,} others in the same process" for n in warm_ups),
            *(f"{system}: {guarantee}" for system, guarantee in guarantees.items()),
            *(f"{system} was left out: {why}" for system, why in self.left_out.items()),
        ]
        shown = plain_table(title, notes)
        for heading in ("work-\nload", "system", "run"):
            shown.add_column(heading, no_wrap=True)
        for heading in ("events", "events/s", "×", "CPU µs\n/event", "peak\nMiB"):
            shown.add_column(heading, justify="right", no_wrap=True)
        for m in self.measurements:
            ratio = self._ratio(m)
            shown.add_row(
                m.workload,
                m.system,
                "cold" if m.is_cold else "warm",
                f"{m.events:,}",
                f"{m.events_per_s:,.0f}",
                "" if ratio is None else f"{ratio:.2f}",
                f"{m.cpu_seconds / m.events * 1e6:.2f}",
                f"{m.peak_memory / MIB:.0f}",
            )
        return shown

    def _ratio(self, measurement: Measurement) -> float | None:
        for m in self.measurements:
            if (m.workload, m.system) == (measurement.workload, self.baseline):
                return measurement.events_per_s / m.events_per_s
        return None


def write_json(path: Path, figures: Iterable[Figure]) -> None:
    """Replaces the file. Raises OSError."""
    path.write_bytes(msgspec.json.format(msgspec.json.encode(list(figures)), indent=1) + b"\n")


def plain_table(title: str, notes: Sequence[str]) -> Table:
    """Without frames, narrow enough for a terminal; `notes` stand below, a paragraph each."""
    return Table(
        title=title,
        title_justify="left",
        caption="\n".join(notes),
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        padding=(0, 0),
    )
