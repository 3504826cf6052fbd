"""The truth beside what the platform counted: which figures must agree, and what to say where they do not."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from examples.imports.domain.ledger import Truth


@dataclass(frozen=True, slots=True)
class VariantCounted:
    """What the experiment's results say; the mean in milliseconds."""

    units: int
    completed: int
    mean_duration: float | None

    @property
    def abandoned(self) -> int:
        return self.units - self.completed


@dataclass(frozen=True, slots=True)
class Counted:
    """What the platform says about the events of one run."""

    counted: int
    late: int
    duplicates_dropped: int
    dead_lettered: int
    variants: Mapping[str, VariantCounted]


@dataclass(frozen=True, slots=True)
class Line:
    """One comparison. `decides` lines make the run fail; the others only show."""

    what: str
    expected: str
    found: str
    agrees: bool
    decides: bool


@dataclass(frozen=True, slots=True)
class Comparison:
    truth: Truth
    platform: Counted
    lines: tuple[Line, ...]

    @property
    def differences(self) -> tuple[Line, ...]:
        """The lines for which the run must be called a failure."""
        return tuple(line for line in self.lines if line.decides and not line.agrees)

    def to_json(self) -> dict[str, Any]:
        """The structure that `--json` writes."""
        truth, platform = self.truth, self.platform
        return {
            "events": {
                "accepted": truth.accepted,
                "counted": platform.counted,
                "late": platform.late,
                "duplicates_sent": truth.duplicates_sent,
                "duplicates_dropped": platform.duplicates_dropped,
                "malformed_sent": truth.malformed_sent,
                "dead_lettered": platform.dead_lettered,
            },
            "variants": {
                name: {
                    "units": counted.units,
                    "completed": counted.completed,
                    "abandoned": counted.abandoned,
                    "truth": {
                        "units": truth.variants[name].units,
                        "completed": truth.variants[name].completed,
                        "abandoned": truth.variants[name].abandoned,
                    },
                }
                for name, counted in platform.variants.items()
            },
        }


def compare(truth: Truth, platform: Counted) -> Comparison:
    """`platform` must hold every variant of `truth`; one that it lacks counts as empty."""
    filled = {name: platform.variants.get(name, VariantCounted(0, 0, None)) for name in truth.variants}
    whole = Counted(platform.counted, platform.late, platform.duplicates_dropped, platform.dead_lettered, filled)
    lines = [
        _equal("accepted = counted + late", truth.accepted, whole.counted + whole.late, decides=True),
        _equal("late (devices that were offline)", truth.offline, whole.late, decides=False),
        _between(truth, whole.duplicates_dropped),
        _equal("malformed, kept as dead letters", truth.malformed_sent, whole.dead_lettered, decides=False),
    ]
    if truth.unacknowledged:
        lines.append(_equal("events never acknowledged", 0, truth.unacknowledged, decides=False))
    for name, expected in truth.variants.items():
        found = filled[name]
        lines.append(_equal(f"{name}: units", expected.units, found.units, decides=True))
        lines.append(_equal(f"{name}: completed", expected.completed, found.completed, decides=True))
        lines.append(_equal(f"{name}: abandoned", expected.abandoned, found.abandoned, decides=True))
        lines.append(_same_mean(name, expected.mean_duration, found.mean_duration))
    return Comparison(truth, whole, tuple(lines))


def _equal(what: str, expected: int, found: int, *, decides: bool) -> Line:
    return Line(what, f"{expected:,}", f"{found:,}", expected == found, decides)


def _between(truth: Truth, dropped: int) -> Line:
    """A retry after an unknown outcome is a duplicate only if the first try had arrived."""
    low, high = truth.duplicates_certain, truth.duplicates_sent
    expected = f"{high:,}" if low == high else f"{low:,}–{high:,}"
    return Line("duplicates dropped", expected, f"{dropped:,}", low <= dropped <= high, decides=False)


def _same_mean(name: str, expected: float | None, found: float | None) -> Line:
    if expected is None or found is None:
        agrees = expected is found
    else:
        agrees = math.isclose(expected, found, rel_tol=1e-6, abs_tol=1e-3)
    return Line(f"{name}: mean duration", _milliseconds(expected), _milliseconds(found), agrees, decides=False)


def _milliseconds(value: float | None) -> str:
    return "–" if value is None else f"{value:,.1f} ms"
