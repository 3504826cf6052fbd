"""The truth beside what the platform counted: which figures must agree, and what to say where they do not."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from examples.imports.domain.journeys import NO_JOURNEYS, Journeys
from examples.imports.domain.ledger import Truth
from examples.imports.domain.valve import Valve

JOURNEY_WORDS = {
    "started": "started",
    "completed": "completed",
    "abandoned_after_navigation": "abandoned after navigating away",
    "abandoned_timeout": "abandoned by timeout",
    "in_progress": "in progress",
}
"""Each figure of a variant's journeys, in words for people."""


@dataclass(frozen=True, slots=True)
class VariantCounted:
    """What the experiment's results say (the mean in milliseconds), and what its imports' journeys came to."""

    units: int
    completed: int
    mean_duration: float | None
    journeys: Journeys = NO_JOURNEYS

    @property
    def abandoned(self) -> int:
        return self.journeys.abandoned


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
    valve: Valve
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
            **self.valve.to_json(),
        }


def compare(truth: Truth, platform: Counted, valve: Valve) -> Comparison:
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
        lines.extend(_journey_lines(name, expected.journeys, found.journeys))
    lines.extend(_valve_lines(valve))
    return Comparison(truth, whole, valve, tuple(lines))


def _journey_lines(variant: str, expected: Journeys, found: Journeys) -> list[Line]:
    return [
        _equal(f"{variant}: journeys, {what}", getattr(expected, field), getattr(found, field), decides=True)
        for field, what in JOURNEY_WORDS.items()
    ]


def _valve_lines(valve: Valve) -> list[Line]:
    report, wanted = valve.report, valve.wanted_openings
    lines = [
        _equal("breaker: openings, as users saw it", valve.seen_openings, report.openings, decides=True),
        _equal("breaker: closings, as users saw it", valve.seen_closings, report.closings, decides=True),
        Line("breaker: in the end", "closed", report.state, report.state == "closed", decides=True),
        Line(
            "breaker: openings in a run this long",
            f"≥ {wanted}",
            f"{report.openings}",
            report.openings >= wanted,
            decides=True,
        ),
    ]
    told = report.openings + report.closings
    for channel, count in valve.messages.items():
        enough = count >= max(1, told)
        lines.append(Line(f"messages on {channel}", f"≥ {told}", f"{count}", enough, decides=count == 0))
    return lines


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
