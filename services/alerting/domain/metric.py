"""What alerting must know of a metric: how to read a value out of the parts that the aggregator publishes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum
from typing import Any

from services.alerting.domain.window import Totals
from shared.statistics import sketch

_PERCENTILE = re.compile(r"p([0-9]{1,2}(?:\.[0-9]{1,2})?)")
_DEFAULT = {"count": "count", "value": "avg", "ratio": "avg", "journey": "abandonment_rate"}
_COMPLETED = ("completed",)
_ABANDONED = ("abandoned_after_navigation", "abandoned_timeout")
_JOURNEY_COUNTS: dict[str, tuple[str, ...]] = {
    "started": (*_COMPLETED, *_ABANDONED, "in_progress"),
    "count": (*_COMPLETED, *_ABANDONED, "in_progress"),
    "completed": _COMPLETED,
    "abandoned_after_navigation": ("abandoned_after_navigation",),
    "abandoned_timeout": ("abandoned_timeout",),
    "in_progress": ("in_progress",),
    "abandoned": _ABANDONED,
}
_JOURNEY_RATES = {"abandonment_rate": _ABANDONED, "completion_rate": _COMPLETED}
_READABLE: dict[str, tuple[str, ...]] = {
    "count": ("count",),
    "value": ("count", "sum", "avg", "min", "max"),
    "ratio": ("avg", "count"),
    "journey": (*_JOURNEY_COUNTS, *_JOURNEY_RATES, "avg_duration"),
}


class Unreadable(Enum):
    """Why a rule cannot be decided on a metric; the value says it to people."""

    UNKNOWN_METRIC = "the metric is not defined"
    UNKNOWN_TYPE = "the metric is of a type that alerting does not know"
    STREAK = "a streak is watched by a breaker, not by a rule"
    NO_STREAK = "a breaker watches a metric of type streak"
    AGGREGATION = "the metric has no such aggregation"
    NO_HISTOGRAM = "percentiles need a histogram: add one to the metric's aggregations"
    GROUP = "the metric is not grouped by that path"
    TOO_SHORT = "the metric's length is less than failure_threshold: so many failures are never known"


@dataclass(frozen=True, slots=True)
class MetricShape:
    """A metric definition as far as its updates must be understood."""

    version: int
    type: str
    scale: int
    group_by: tuple[str, ...]
    sums_numerator: bool
    """Ratios: whether the numerator adds values (else it counts events)."""
    sums_denominator: bool
    sketched: bool
    shares: tuple[str, ...] = ()
    """Values: the shares under a limit that are counted, as aggregations name them."""
    length: int = 20
    """Streaks: how many failures a shard keeps."""


@dataclass(frozen=True, slots=True)
class Value:
    """`value` None: nothing to take it of. `n` is the sample it was taken of, for the rule's minimum."""

    value: Decimal | None
    n: int
    empty: bool = False
    """Nothing at all happened in the window."""


def shape_of(version: int, spec: Mapping[str, Any]) -> MetricShape:
    """Reads a spec that its owner has checked; what is odd makes an unknown type, never an error."""
    group_by = spec.get("group_by") or ()
    aggregations = spec.get("aggregations") or ()
    scale = spec.get("scale", 6)
    length = spec.get("length")
    names = [str(a) for a in ([aggregations] if isinstance(aggregations, str) else aggregations)]
    return MetricShape(
        version=version,
        type=str(spec.get("type")),
        scale=scale if type(scale) is int and 0 <= scale <= 9 else 6,
        group_by=tuple(map(str, [group_by] if isinstance(group_by, str) else group_by)),
        sums_numerator=_has_value(spec.get("numerator")),
        sums_denominator=_has_value(spec.get("denominator")),
        sketched=any(percentile_of(name) is not None for name in names),
        shares=tuple(name for name in names if is_share(name)),
        length=length if type(length) is int and length > 0 else 20,
    )


def aggregation_of(shape: MetricShape, wanted: str | None) -> str | Unreadable:
    """The aggregation that a rule reads: the one it names, or the type's usual one."""
    if shape.type == "streak":
        return Unreadable.STREAK
    if shape.type not in _READABLE:
        return Unreadable.UNKNOWN_TYPE
    name = wanted or _DEFAULT[shape.type]
    if name in _READABLE[shape.type]:
        return name
    if shape.type == "value" and percentile_of(name) is not None:
        return name if shape.sketched else Unreadable.NO_HISTOGRAM
    if shape.type == "value" and name in shape.shares:
        return name
    return Unreadable.AGGREGATION


def percentile_of(aggregation: str) -> float | None:
    """`p95` → 0.95; None for what is no percentile strictly between 0 and 1."""
    match = _PERCENTILE.fullmatch(aggregation)
    share = float(f"{match[1]}e-2") if match else 0.0
    return share if 0 < share < 1 else None


def is_share(aggregation: str) -> bool:
    """`share<=300000`: the aggregator counts 1 or 0 for each value, in rows of their own."""
    return aggregation.startswith("share")


def needs_sketch(aggregation: str) -> bool:
    return percentile_of(aggregation) is not None


def read(shape: MetricShape, aggregation: str, parts: Mapping[str, Totals]) -> Value:
    """One aggregation over a window. `parts`: component → totals; of a journey: outcome → totals."""
    if all(totals.n == 0 for totals in parts.values()):
        return Value(None, 0, empty=True)
    if shape.type == "journey":
        return _journey(shape, aggregation, parts)
    if shape.type == "ratio":
        return _ratio(shape, aggregation, parts)
    totals = parts.get("share" if is_share(aggregation) else "value", _NOTHING)
    if aggregation == "count":
        return Value(Decimal(totals.n) if totals.n > 0 else None, totals.n)
    if totals.n <= 0:
        return Value(None, 0)
    return Value(_of_values(shape, aggregation, totals), totals.n)


_NOTHING = Totals()


def _of_values(shape: MetricShape, aggregation: str, totals: Totals) -> Decimal | None:
    if aggregation == "sum":
        return Decimal(totals.sum).scaleb(-shape.scale)
    if aggregation == "avg" or is_share(aggregation):
        return Decimal(totals.sum).scaleb(-shape.scale) / totals.n
    if aggregation in ("min", "max"):
        extreme = totals.min if aggregation == "min" else totals.max
        return None if extreme is None else Decimal(extreme).scaleb(-shape.scale)
    share = percentile_of(aggregation)
    assert share is not None, "checked by aggregation_of"
    found = sketch.quantile(totals.counts, share)
    return None if found is None else Decimal(repr(found)).scaleb(-shape.scale)


def _ratio(shape: MetricShape, aggregation: str, parts: Mapping[str, Totals]) -> Value:
    top, bottom = parts.get("numerator", _NOTHING), parts.get("denominator", _NOTHING)
    if bottom.n <= 0:
        return Value(None, 0)
    if aggregation == "count":
        return Value(Decimal(bottom.n), bottom.n)
    one = 10**shape.scale
    upper = top.sum if shape.sums_numerator else top.n * one
    lower = bottom.sum if shape.sums_denominator else bottom.n * one
    return Value(Decimal(upper) / Decimal(lower) if lower else None, bottom.n)


def _journey(shape: MetricShape, aggregation: str, parts: Mapping[str, Totals]) -> Value:
    def count(outcomes: tuple[str, ...]) -> int:
        return sum(parts[o].n for o in outcomes if o in parts)

    if aggregation in _JOURNEY_RATES:
        resolved = count((*_COMPLETED, *_ABANDONED))
        share = Decimal(count(_JOURNEY_RATES[aggregation])) / resolved if resolved > 0 else None
        return Value(share, max(0, resolved))
    if aggregation == "avg_duration":
        completed = parts.get("completed", _NOTHING)
        if completed.n <= 0:
            return Value(None, 0)
        return Value(Decimal(completed.sum).scaleb(-shape.scale) / completed.n, completed.n)
    started = count(_JOURNEY_COUNTS["started"])
    return Value(Decimal(count(_JOURNEY_COUNTS[aggregation])) if started > 0 else None, max(0, started))


def _has_value(part: object) -> bool:
    return isinstance(part, Mapping) and part.get("value") is not None
