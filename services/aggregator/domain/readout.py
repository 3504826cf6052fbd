"""From stored shard rows to the numbers people read: shards are added, then each aggregation is taken."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal

from services.aggregator.domain.journeys import Outcome
from services.aggregator.domain.metrics import STEP_PREFIX, Component, Definition, percentile_of
from services.aggregator.domain.streaks import Run
from shared.statistics import sketch


@dataclass(slots=True)
class Cell:
    """A window's total over shards. Sums, min and max are scaled integers."""

    n: int = 0
    sum: int = 0
    min: int | None = None
    max: int | None = None
    sketch: sketch.Counts = field(default_factory=dict)

    def add(self, n: int, total: int, low: int | None, high: int | None, raw_sketch: bytes) -> None:
        self.n += n
        self.sum += total
        self.min = min((v for v in (self.min, low) if v is not None), default=None)
        self.max = max((v for v in (self.max, high) if v is not None), default=None)
        if raw_sketch:
            sketch.merge(self.sketch, sketch.decode(raw_sketch))


@dataclass(frozen=True, slots=True)
class Reading:
    """One aggregation of one window. `value` is None where there is nothing to take it of."""

    aggregation: str
    value: float | int | None
    count: int


Part = tuple[Component, str]
"""Which of a window's cells: the component, and for journeys the outcome or step (else empty)."""


def read(definition: Definition, cells: dict[Part, Cell], wanted: Iterable[str]) -> list[Reading]:
    """The aggregations `wanted` of one window, whose parts' totals are `cells`."""
    if definition.journey is not None:
        return _read_journeys(definition, cells, wanted)
    if definition.type == "ratio":
        top, bottom = cells.get(("numerator", ""), Cell()), cells.get(("denominator", ""), Cell())
        return [Reading(a, _ratio(definition, top, bottom, a), bottom.n) for a in wanted]
    cell = cells.get(("value", ""), Cell())
    return [Reading(a, _aggregate(cell, a, definition.scale), cell.n) for a in wanted]


def read_streak(run: Run, wanted: Iterable[str]) -> list[Reading]:
    """Of a group's run over all shards."""
    return [Reading(a, run.n if a == "count" else len(run.failures), run.n) for a in wanted]


def _read_journeys(definition: Definition, cells: dict[Part, Cell], wanted: Iterable[str]) -> list[Reading]:
    """Rates are of resolved journeys, those completed or abandoned: what is in progress can still be either."""
    outcomes = {o: cells.get(("outcome", o.value), Cell()) for o in Outcome}
    completed = outcomes[Outcome.COMPLETED]
    abandoned = outcomes[Outcome.ABANDONED_AFTER_NAVIGATION].n + outcomes[Outcome.ABANDONED_TIMEOUT].n
    started = sum(cell.n for cell in outcomes.values())
    resolved = completed.n + abandoned
    values: dict[str, float | int | None] = {
        **{o.value: cell.n for o, cell in outcomes.items()},
        "started": started,
        "count": started,
        "abandoned": abandoned,
        "abandonment_rate": abandoned / resolved if resolved else None,
        "completion_rate": completed.n / resolved if resolved else None,
        "avg_duration": _aggregate(completed, "avg", definition.scale),
    }
    for (component, name), cell in cells.items():
        if component == "step":
            values[STEP_PREFIX + name] = cell.n
    return [Reading(a, values.get(a, 0), started) for a in wanted]


def _aggregate(cell: Cell, aggregation: str, scale: int) -> float | int | None:
    if aggregation == "count":
        return cell.n
    if aggregation == "sum":
        return _unscaled(cell.sum, scale)
    if not cell.n:
        return None
    if aggregation == "avg":
        return float(Decimal(cell.sum).scaleb(-scale) / cell.n)
    if aggregation == "min":
        return None if cell.min is None else _unscaled(cell.min, scale)
    if aggregation == "max":
        return None if cell.max is None else _unscaled(cell.max, scale)
    share = percentile_of(aggregation)
    assert share is not None
    found = sketch.quantile(cell.sketch, share)
    return None if found is None else found / 10**scale


def _ratio(definition: Definition, top: Cell, bottom: Cell, aggregation: str) -> float | int | None:
    if aggregation == "count":
        return bottom.n
    parts = {m.component: m for m in definition.measures}
    one = 10**definition.scale
    upper = top.sum if parts["numerator"].value else top.n * one
    lower = bottom.sum if parts["denominator"].value else bottom.n * one
    return float(Decimal(upper) / Decimal(lower)) if lower else None


def _unscaled(value: int, scale: int) -> float:
    return float(Decimal(value).scaleb(-scale))
