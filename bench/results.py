"""What a benchmark found, for people and for programs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
from rich.table import Table

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Measurement:
    """One system on one workload. `peak_memory` is in bytes, `cpu_seconds` those of the system's own process."""

    bench: str
    workload: str
    system: str
    guarantee: str
    events: int
    seconds: float
    cpu_seconds: float
    peak_memory: int

    @property
    def events_per_s(self) -> float:
        return self.events / self.seconds


@dataclass(frozen=True, slots=True)
class Figure:
    """A row of `tidegate bench --json`."""

    bench: str
    workload: str
    system: str
    metric: str
    value: float
    unit: str


def figures(measurement: Measurement) -> list[Figure]:
    """Rate, cost and memory, and on how many events they were measured."""
    m = measurement
    named = [
        ("events_per_s", round(m.events_per_s, 1), "events/s"),
        ("cpu_per_event", round(m.cpu_seconds / m.events * 1e6, 3), "µs"),
        ("peak_memory", round(m.peak_memory / MIB, 1), "MiB"),
        ("events", m.events, "events"),
    ]
    return [Figure(m.bench, m.workload, m.system, metric, value, unit) for metric, value, unit in named]


def write_json(path: Path, measurements: Sequence[Measurement]) -> None:
    """Replaces the file. Raises OSError."""
    rows = [figure for measurement in measurements for figure in figures(measurement)]
    path.write_bytes(msgspec.json.format(msgspec.json.encode(rows), indent=1) + b"\n")


def table(title: str, measurements: Sequence[Measurement], *, baseline: str) -> Table:
    """The measurements side by side, each rate also as a multiple of `baseline`'s; below, what each guarantees."""
    base = next((m.events_per_s for m in measurements if m.system == baseline), None)
    notes = [f"×: multiple of {baseline}'s rate", *(f"{m.system}: {m.guarantee}" for m in measurements)]
    shown = Table(title=title, title_justify="left", caption="\n".join(notes), caption_justify="left")
    shown.add_column("system", no_wrap=True)
    for heading in ("events", "events/s", "×", "CPU µs/event", "peak MiB"):
        shown.add_column(heading, justify="right", no_wrap=True)
    for m in measurements:
        shown.add_row(
            m.system,
            f"{m.events:,}",
            f"{m.events_per_s:,.0f}",
            "" if base is None else f"{m.events_per_s / base:.1f}",
            f"{m.cpu_seconds / m.events * 1e6:.2f}",
            f"{m.peak_memory / MIB:.0f}",
        )
    return shown
