"""Metric definitions: what users write (YAML or JSON), checked and turned into measures.

A metric of type `count` or `value` is one measure, a `ratio` is two. A measure says which events it takes (event
types, filter), which value of each (a path, or 1 for a count), and by what it is grouped. A `streak` or a `journey`
has no measures: it is about what happened after what.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from services.aggregator.domain.filters import Filter
from services.aggregator.domain.journeys import DURATION_SCALE, Journey, parse_journey
from services.aggregator.domain.paths import Path, parse_path
from services.aggregator.domain.specs import parse_group_by, parse_selector, refuse_unknown
from services.aggregator.domain.streaks import Streak, parse_streak
from shared.definition_error import DefinitionError

MetricType = Literal["count", "value", "ratio", "streak", "journey"]
Component = Literal["value", "numerator", "denominator", "streak", "outcome", "step"]
"""Which rows of a metric: of a measure, of a streak, of journeys by outcome, of journeys by step reached."""

SIMPLE_AGGREGATIONS = ("count", "sum", "avg", "min", "max")
STREAK_AGGREGATIONS = ("streak", "count")
JOURNEY_AGGREGATIONS = (
    "started",
    "completed",
    "abandoned_after_navigation",
    "abandoned_timeout",
    "in_progress",
    "abandoned",
    "abandonment_rate",
    "completion_rate",
    "avg_duration",
    "count",
)
STEP_PREFIX = "reached:"
"""`reached:upload` is how many journeys reached the step `upload`."""
_PERCENTILE = re.compile(r"p([0-9]{1,2}(?:\.[0-9]{1,2})?)")
_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,127}")

_COMMON = {"type", "description", "aggregations", "group_by", "scale"}
_MEASURE = {"event", "filter", "value"}


@dataclass(frozen=True, slots=True)
class Measure:
    """One number per matching event. `value` None counts 1 for each."""

    component: Component
    events: frozenset[str] | None
    """Event types; None takes all."""
    where: Filter | None
    value: Path | None


@dataclass(frozen=True, slots=True)
class Definition:
    """A checked metric definition of one version."""

    organisation: str
    key: str
    version: int
    type: MetricType
    measures: tuple[Measure, ...]
    aggregations: tuple[str, ...]
    group_by: tuple[Path, ...]
    scale: int
    streak: Streak | None = None
    journey: Journey | None = None

    @property
    def components(self) -> tuple[Component, ...]:
        """The series that the metric keeps, the leading one first."""
        if self.streak is not None:
            return ("streak",)
        if self.journey is not None:
            return ("outcome", "step") if self.journey.steps else ("outcome",)
        return tuple(m.component for m in self.measures)

    @property
    def sketched(self) -> bool:
        """Whether percentiles are asked for, which need a histogram."""
        return any(percentile_of(a) is not None for a in self.aggregations)


def percentile_of(aggregation: str) -> float | None:
    """`p95` → 0.95; None for what is no percentile strictly between 0 and 1."""
    match = _PERCENTILE.fullmatch(aggregation)
    share = float(f"{match[1]}e-2") if match else 0.0
    return share if 0 < share < 1 else None


def parse_definition(organisation: str, key: str, version: int, spec: object) -> Definition:
    """Checks `spec` and returns what it means. Raises DefinitionError, which names the faulty place."""
    if not _KEY.fullmatch(key):
        raise DefinitionError(
            "key", "1 to 128 letters, digits, '_', '.', ':' or '-', starting with a letter or digit"
        )
    if not isinstance(spec, Mapping):
        raise DefinitionError("spec", "must be an object")
    kind = spec.get("type")
    if kind == "streak":
        return _sequence(organisation, key, version, spec, streak=parse_streak(spec))
    if kind == "journey":
        return _sequence(organisation, key, version, spec, journey=parse_journey(spec))
    measures: tuple[Measure, ...]
    default: tuple[str, ...]
    allowed: tuple[str, ...]
    if kind == "ratio":
        refuse_unknown(spec, _COMMON | {"numerator", "denominator"}, "spec")
        measures = (
            _measure(spec.get("numerator"), "numerator", "spec.numerator"),
            _measure(spec.get("denominator"), "denominator", "spec.denominator"),
        )
        default, allowed = ("avg",), ("avg", "count")
    elif kind in ("count", "value"):
        refuse_unknown(spec, _COMMON | _MEASURE, "spec")
        if kind == "value" and "value" not in spec:
            raise DefinitionError("spec.value", "a value metric needs the path of its number")
        if kind == "count" and "value" in spec:
            raise DefinitionError("spec.value", "a count metric has no value; use type: value")
        measures = (_measure({k: spec[k] for k in _MEASURE if k in spec}, "value", "spec"),)
        default, allowed = (("count",), ("count",)) if kind == "count" else (SIMPLE_AGGREGATIONS, SIMPLE_AGGREGATIONS)
    else:
        raise DefinitionError("spec.type", "must be count, value, ratio, streak or journey")
    return Definition(
        organisation=organisation,
        key=key,
        version=version,
        type=kind,
        measures=measures,
        aggregations=_aggregations(spec.get("aggregations", default), allowed, percentiles=kind == "value"),
        group_by=parse_group_by(spec.get("group_by", ())),
        scale=_scale(spec.get("scale", 6)),
    )


def _sequence(
    organisation: str,
    key: str,
    version: int,
    spec: Mapping[str, Any],
    *,
    streak: Streak | None = None,
    journey: Journey | None = None,
) -> Definition:
    return Definition(
        organisation=organisation,
        key=key,
        version=version,
        type="streak" if journey is None else "journey",
        measures=(),
        aggregations=STREAK_AGGREGATIONS
        if journey is None
        else (*JOURNEY_AGGREGATIONS, *(STEP_PREFIX + step.name for step in journey.steps)),
        group_by=parse_group_by(spec.get("group_by", ())),
        scale=0 if journey is None else DURATION_SCALE,
        streak=streak,
        journey=journey,
    )


def _measure(spec: object, component: Component, place: str) -> Measure:
    if not isinstance(spec, Mapping):
        raise DefinitionError(place, "must be an object with event, filter and value, each optional")
    refuse_unknown(spec, _MEASURE, place)
    select = parse_selector(spec, place)
    return Measure(
        component=component,
        events=select.events,
        where=select.where,
        value=parse_path(spec["value"], f"{place}.value") if spec.get("value") is not None else None,
    )


def _aggregations(spec: object, allowed: tuple[str, ...], *, percentiles: bool) -> tuple[str, ...]:
    if isinstance(spec, str):
        spec = [spec]
    if not isinstance(spec, list | tuple) or not spec:
        raise DefinitionError("spec.aggregations", "must be a list")
    for name in spec:
        is_percentile = percentiles and isinstance(name, str) and percentile_of(name) is not None
        if name not in allowed and not is_percentile:
            more = ", or percentiles such as p95" if percentiles else ""
            raise DefinitionError("spec.aggregations", f"{name!r} is none of {', '.join(allowed)}{more}")
    return tuple(dict.fromkeys(spec))


def _scale(spec: object) -> int:
    if type(spec) is not int or not 0 <= spec <= 9:
        raise DefinitionError("spec.scale", "must be an integer from 0 to 9: the decimal places that are kept")
    return spec


def canonical(spec: Any) -> Any:
    """The spec without noise of notation: equal meaning in the ways users vary gives equal values."""
    if isinstance(spec, Mapping):
        return {k: canonical(v) for k, v in sorted(spec.items()) if v is not None and k != "description"}
    if isinstance(spec, list | tuple):
        return [canonical(v) for v in spec]
    if isinstance(spec, bool):
        return "true" if spec else "false", bool  # true is not 1, though Python says so
    return spec
