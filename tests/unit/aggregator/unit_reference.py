"""What units of experiments add up to, worked out from all events at once: by hand, unit after unit.

Takes what `reference` says that each event gives, in any order, and knows nothing of batches, rows or differences.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from tests.unit.aggregator.reference import Metric, Outcome

_DAY = 86_400_000_000
_TOLERANCE = 5_000_000

Place = tuple[str, str, str, str]
"""Experiment, metric ('' for exposures), component, variant."""


@dataclass
class UnitTotals:
    """Over units that were seen in one variant."""

    units: int = 0
    unit_sum: int = 0
    unit_sum_squares: int = 0
    other_sum: int = 0
    other_sum_squares: int = 0
    cross_sum: int = 0
    conflicted: int = 0


@dataclass
class UnitOutcome:
    states: dict[tuple[str, str], tuple[int, str, bool, str]] = field(default_factory=dict)
    """(Experiment, unit) → first exposure, its variant, whether there is another variant, and its context."""
    rows: dict[tuple[str, str, str], tuple[int, int, int, int]] = field(default_factory=dict)
    """(Experiment, metric, unit) → n, Σ, and those of the denominator or covariate."""
    totals: dict[Place, UnitTotals] = field(default_factory=dict)
    events: dict[Place, list[int]] = field(default_factory=dict)
    """Values of units that were seen in one variant, and of results without unit."""
    astray: dict[tuple[str, str, str], list[int]] = field(default_factory=dict)
    """(Experiment, metric, component) → values of conflicted units: which variant has them depends on the order."""
    waiting: int = 0

    def of(self, *place: str) -> UnitTotals:
        return self.totals.setdefault(place, UnitTotals())  # type: ignore[arg-type]  # four names


def unit_reference(outcomes: Sequence[Outcome], metrics: Iterable[Metric]) -> UnitOutcome:
    """`outcomes`: what each partition's log gave."""
    result = UnitOutcome()
    specs = {(m.key, str(m.version)): m.spec for m in metrics}
    exposures = defaultdict(list)
    for outcome in outcomes:
        for experiment, unit, variant, time, context in outcome.exposures:
            exposures[experiment, unit].append((time, variant, context))
        for experiment, metric, variant, value in outcome.unitless:
            result.events.setdefault((experiment, metric, "value", variant), []).append(value)
    for (experiment, unit), seen in exposures.items():
        first, variant, context = min(seen)
        conflicted = len({v for _, v, _ in seen}) > 1
        result.states[experiment, unit] = first, variant, conflicted, context
        of_variant = result.of(experiment, "", "value", variant)
        of_variant.units += not conflicted
        of_variant.conflicted += conflicted
    given: dict[tuple[str, str, str], list[tuple[str, int, int]]] = defaultdict(list)
    keys = {}
    for outcome in outcomes:
        for experiment, (_, metric, version, component, scale), unit, time, value in outcome.unit_values:
            given[experiment, metric, unit].append((component, time, value))
            keys[experiment, metric, unit] = version, int(scale)
    for (experiment, metric, unit), values in given.items():
        version, scale = keys[experiment, metric, unit]
        _unit(result, (experiment, metric, unit), values, specs.get((metric, version), {}), scale)
    return result


def _unit(
    result: UnitOutcome,
    key: tuple[str, str, str],
    values: list[tuple[str, int, int]],
    spec: dict[str, object],
    scale: int,
) -> None:
    experiment, metric, unit = key
    if (experiment, unit) not in result.states:
        result.waiting += len(values)
        return
    first, variant, conflicted, _ = result.states[experiment, unit]
    counted = [(component, value) for component, time, value in values if time >= first - _TOLERANCE]
    earlier = [(time, value) for _, time, value in values if time < first - _TOLERANCE]
    result.waiting += len(earlier)
    for component, value in counted:
        if conflicted:
            result.astray.setdefault((experiment, metric, component), []).append(value)
        else:
            result.events.setdefault((experiment, metric, component, variant), []).append(value)
    x = [value for component, value in counted if component != "denominator"]
    y = [value for component, value in counted if component == "denominator"]
    days = spec.get("covariate_days", 0)
    assert isinstance(days, int)
    if days:
        y = [value for time, value in earlier if time >= first - days * _DAY]
    if not x and not y:
        return
    streak = spec.get("type") == "streak"
    if streak:
        x = [0 for _ in x]  # these are endings, no amounts
    result.rows[key] = len(x), sum(x), len(y), sum(y)
    if conflicted:
        return
    limits = spec.get("winsorise", {})
    assert isinstance(limits, dict)
    clipped = sum(x)
    if x:
        clipped = max(clipped, limits.get("lower", -(10**9)) * 10**scale)
        clipped = min(clipped, limits.get("upper", 10**9) * 10**scale)
    ratio = spec.get("type") == "ratio"
    leading = "numerator" if ratio else "streak" if streak else "value"
    totals = result.of(experiment, metric, leading, variant)
    totals.units += bool(x)
    totals.unit_sum += clipped
    totals.unit_sum_squares += clipped**2
    totals.other_sum += sum(y)
    totals.other_sum_squares += sum(y) ** 2
    totals.cross_sum += clipped * sum(y)
    if ratio:
        totals = result.of(experiment, metric, "denominator", variant)
        totals.units += bool(y)
        totals.unit_sum += sum(y)
        totals.unit_sum_squares += sum(y) ** 2
