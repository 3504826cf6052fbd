"""Experiments: what each variant's units add up to, by user (one partition each) and by session (across them)."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Literal

from shared.clock import SECOND
from tests.faults.aspects import compared
from tests.faults.drawn import Drawn, Fate
from tests.faults.reader import Reader

TOLERANCE = 5 * SECOND
"""A value may lie this long before the exposure and still belong to it."""
EXPOSURE = "experiment_exposure"
VARIANTS = ("control", "treatment")


@dataclass(slots=True)
class Units:
    """`metric` is the key of a value metric over `type`, whose values are whole cents."""

    key: str
    unit: Literal["user", "session"]
    metric: str
    type: str
    _exposures: defaultdict[str, list[tuple[int, str]]] = field(default_factory=lambda: defaultdict(list))
    _values: defaultdict[str, list[tuple[int, int]]] = field(default_factory=lambda: defaultdict(list))

    def metrics(self) -> dict[str, dict[str, Any]]:
        return {}

    def experiments(self) -> dict[str, dict[str, Any]]:
        return {
            self.key: {
                "unit": self.unit,
                "metrics": [self.metric],
                "variants": [
                    {"name": name, "type": "control" if name == "control" else "treatment", "traffic_percentage": 50}
                    for name in VARIANTS
                ],
                "status": "running",
            }
        }

    def add(self, event: Drawn) -> None:
        unit = event.user if self.unit == "user" else event.session
        if unit is None or event.fate is Fate.LATE:
            return
        if event.type == EXPOSURE and event.properties["experiment"] == self.key:
            self.expose(unit, event.properties["variant"], event.time)
        elif event.type == self.type and event.cents is not None:
            self._values[unit].append((event.time, event.cents))

    def expose(self, unit: str, variant: str, time: int) -> None:
        """`time` in µs; the earliest exposure decides."""
        self._exposures[unit].append((time, variant))

    async def differences(self, reader: Reader) -> list[str]:
        found = await reader.experiment(self.key)
        sums: dict[str, list[int]] = {variant: [] for variant in VARIANTS}
        sample = dict.fromkeys(VARIANTS, 0)
        conflicted, observed = 0, []
        for unit, exposures in self._exposures.items():
            first, variant = min(exposures)
            values = [cents for time, cents in self._values.get(unit, ()) if time >= first - TOLERANCE]
            observed += values
            if len({v for _, v in exposures}) > 1:
                conflicted += 1
                continue
            sample[variant] += 1
            if values:
                sums[variant].append(sum(values))
        wrong = compared(
            self.key,
            {"conflicted": conflicted, "observations": len(observed), "sum": sum(observed)},
            {
                "conflicted": sum(v["conflicted_units"] for v in found.values()),
                "observations": sum(self._metric(v)["count"] for v in found.values()),
                "sum": round(sum(Fraction(self._metric(v)["sum"]) for v in found.values()) * 100),
            },
        )
        for variant in VARIANTS:
            metric = self._metric(found[variant])
            read = {name: metric[name] for name in ("units", "unit_mean", "unit_variance")}
            read["sample_size"] = found[variant]["sample_size"]
            expected = {**_moments(sums[variant]), "sample_size": sample[variant]}
            wrong += compared(f"{self.key} {variant}", expected, read)
        return wrong

    def _metric(self, variant: dict[str, Any]) -> dict[str, Any]:
        none = {"count": 0, "sum": 0.0, "units": 0, "unit_mean": None, "unit_variance": None}
        found: dict[str, Any] = variant["metrics"].get(self.metric, none)
        return found


def _moments(cents: list[int]) -> dict[str, Any]:
    """Of units' sums: equal means and variances, rounded once, are equal Σx and Σx² for all that doubles can tell."""
    n, total, squares = len(cents), sum(cents), sum(c * c for c in cents)
    return {
        "units": n,
        "unit_mean": float(Fraction(total, n * 100)) if n else None,
        "unit_variance": float(Fraction(n * squares - total * total, n * (n - 1) * 10_000)) if n > 1 else None,
    }
