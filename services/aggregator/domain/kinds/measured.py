"""Counts, values and ratios: one number per event, summed up.

A metric of type `count` or `value` is one measure (and one for each share under a limit), a `ratio` is two. A measure
says which events it takes (event types, filter) and which value of each (a path, an expression, or 1 for a count).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from services.aggregator.domain.elements import Elements
from services.aggregator.domain.expressions import Source, parse_source
from services.aggregator.domain.kinds.by_unit import FIELDS as BY_UNIT
from services.aggregator.domain.kinds.by_unit import NOTHING, ByUnit, parse_by_unit
from services.aggregator.domain.kinds.kind import (
    MOMENTS,
    PERCENTILE_ERROR,
    Cell,
    Component,
    Part,
    Reading,
    aggregate,
    percentile_of,
)
from services.aggregator.domain.specs import COMMON, Selector, parse_aggregations, parse_selector, refuse_unknown
from services.aggregator.domain.turns import Turn, share_of
from shared.definition_error import DefinitionError

SIMPLE_AGGREGATIONS = ("count", "sum", "avg", "min", "max")
_MEASURE = {"event", "filter", "value"}
_NUMBERS = {"aggregations", "scale"}


@dataclass(frozen=True, slots=True)
class Measure:
    """One number per matching event. `value` None counts 1 for each."""

    component: Component
    select: Selector
    value: Source | None
    sketched: bool = False
    """Whether a histogram is kept, for percentiles."""
    turn: Turn | None = None
    """What becomes of each value before it is summed up."""
    part: str = ""
    """Whose it is among the measures of a led component; they select the same events."""
    elements: Elements | None = None
    """Takes the event once for each of these, which lead its group."""
    exact_up_to: int | None = None
    """Keeps which values there are instead of summing them up: exactly up to so many."""


@dataclass(frozen=True, slots=True)
class Measured:
    """A metric that is made of measures."""

    scale: int
    aggregations: tuple[str, ...]
    measures: tuple[Measure, ...]
    by_unit: ByUnit = NOTHING

    @property
    def components(self) -> tuple[Component, ...]:
        return tuple(dict.fromkeys(m.component for m in self.measures))


@dataclass(frozen=True, slots=True)
class Count(Measured):
    type = "count"
    readable = ("count",)

    def can_read(self, aggregation: str) -> bool:
        return aggregation in self.readable

    def read(self, cells: Mapping[Part, Cell], wanted: Iterable[str]) -> list[Reading]:
        n = cells.get(("value", ""), Cell()).n
        return [Reading(a, n, n) for a in wanted]


@dataclass(frozen=True, slots=True)
class Value(Measured):
    type = "value"

    @property
    def readable(self) -> tuple[str, ...]:
        always = (*SIMPLE_AGGREGATIONS, *MOMENTS)
        return (*always, *(a for a in self.aggregations if a not in always))

    def can_read(self, aggregation: str) -> bool:
        """A histogram gives percentiles of any rank."""
        return aggregation in self.readable or (self._sketched and percentile_of(aggregation) is not None)

    @property
    def _sketched(self) -> bool:
        return self.measures[0].sketched

    def read(self, cells: Mapping[Part, Cell], wanted: Iterable[str]) -> list[Reading]:
        return [reading_of_value(cells, a, self.scale) for a in wanted]


def reading_of_value(cells: Mapping[Part, Cell], aggregation: str, scale: int) -> Reading:
    """Of one value, or of the share of it that lies under a limit."""
    if share_of(aggregation, scale):
        within = cells.get(("share", aggregation), Cell())
        return Reading(aggregation, aggregate(within, "avg", scale), within.n)
    cell = cells.get(("value", ""), Cell())
    error = PERCENTILE_ERROR if percentile_of(aggregation) is not None else None
    return Reading(aggregation, aggregate(cell, aggregation, scale), cell.n, error=error)


@dataclass(frozen=True, slots=True)
class Ratio(Measured):
    type = "ratio"
    readable = ("avg", "count")

    def can_read(self, aggregation: str) -> bool:
        return aggregation in self.readable

    def read(self, cells: Mapping[Part, Cell], wanted: Iterable[str]) -> list[Reading]:
        top, bottom = cells.get(("numerator", ""), Cell()), cells.get(("denominator", ""), Cell())
        return [Reading(a, bottom.n if a == "count" else self._quotient(top, bottom), bottom.n) for a in wanted]

    def _quotient(self, top: Cell, bottom: Cell) -> float | None:
        """Null on division by zero."""
        numerator, denominator = self.measures
        one = 10**self.scale
        upper = top.sum if numerator.value else top.n * one
        lower = bottom.sum if denominator.value else bottom.n * one
        return float(Decimal(upper) / Decimal(lower)) if lower else None


def parse_count(spec: Mapping[str, Any]) -> Count:
    """Raises DefinitionError, which names the faulty place."""
    if "value" in spec:
        raise DefinitionError("spec.value", "a count metric has no value; use type: value")
    refuse_unknown(spec, COMMON | _MEASURE | _NUMBERS | BY_UNIT, "spec")
    asked, scale = parse_aggregations(spec, ("count",), default=("count",)), parse_scale(spec)
    return Count(scale, asked, (_measure(spec, "value"),), parse_by_unit(spec, scale))


def parse_value(spec: Mapping[str, Any]) -> Value:
    """Raises DefinitionError, which names the faulty place."""
    refuse_unknown(spec, COMMON | _MEASURE | _NUMBERS | BY_UNIT, "spec")
    if spec.get("value") is None:
        raise DefinitionError("spec.value", "a value metric needs the path of its number, or an expression")
    scale = parse_scale(spec)
    asked = parse_aggregations(
        spec,
        (*SIMPLE_AGGREGATIONS, *MOMENTS),
        default=SIMPLE_AGGREGATIONS,
        family=lambda name: percentile_of(name) is not None or share_of(name, scale) is not None,
        more=", percentiles such as p95, or shares such as share<=300000",
    )
    whole = _measure(spec, "value", sketched=any(percentile_of(a) is not None for a in asked))
    shares = [
        replace(whole, component="share", sketched=False, turn=limit, part=a)
        for a in asked
        if (limit := share_of(a, scale))
    ]
    return Value(scale, asked, (whole, *shares), parse_by_unit(spec, scale))


def parse_ratio(spec: Mapping[str, Any]) -> Ratio:
    """Raises DefinitionError, which names the faulty place."""
    refuse_unknown(spec, COMMON | _NUMBERS | {"numerator", "denominator"}, "spec")
    measures = _part(spec.get("numerator"), "numerator"), _part(spec.get("denominator"), "denominator")
    return Ratio(parse_scale(spec), parse_aggregations(spec, ("avg", "count"), default=("avg",)), measures)


def _part(spec: object, component: Component) -> Measure:
    place = f"spec.{component}"
    if not isinstance(spec, Mapping):
        raise DefinitionError(place, "must be an object with event, filter and value, each optional")
    refuse_unknown(spec, _MEASURE, place)
    return _measure(spec, component, place)


def _measure(
    spec: Mapping[str, Any], component: Component, place: str = "spec", *, sketched: bool = False
) -> Measure:
    return Measure(
        component=component,
        select=parse_selector(spec, place),
        value=parse_source(spec["value"], f"{place}.value") if spec.get("value") is not None else None,
        sketched=sketched,
    )


def parse_scale(spec: Mapping[str, Any]) -> int:
    """Raises DefinitionError."""
    scale = spec.get("scale", 6)
    if type(scale) is not int or not 0 <= scale <= 9:
        raise DefinitionError("spec.scale", "must be an integer from 0 to 9: the decimal places that are kept")
    return scale
