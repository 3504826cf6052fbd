"""A metric by variant, as the API shows it: one item a variant, and part and segment where there are such."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction
from typing import Any

from services.aggregator.domain.kinds.funnel import Funnel
from services.aggregator.domain.kinds.journey import Journey
from services.aggregator.domain.kinds.kind import aggregate, percentile_of
from services.aggregator.domain.kinds.unique import Unique
from services.aggregator.domain.metrics import Definition
from services.aggregator.domain.paths import parse_path
from services.aggregator.domain.states import DistinctSet
from services.aggregator.experiment_queries import ExperimentQueries, StateTotals, VariantTotals
from services.aggregator.queries import TOTAL
from shared.definition_error import DefinitionError
from shared.http import Problem

AGGREGATIONS = ("count", "sum", "avg", "min", "max")


async def variant_items(
    queries: ExperimentQueries,
    organisation: str,
    experiment: str,
    metric: str | None,
    definition: Definition | None,
    *,
    time_window: str | None,
    aggregation: str | None,
    segment: str | None,
) -> list[dict[str, Any]]:
    """Raises Problem where there is nothing to show, or nothing of that kind."""
    if metric is None:
        raise Problem(422, "metric_missing", "experiment needs a metric_name")
    if time_window not in (None, TOTAL):
        raise Problem(422, "window_unknown", f"an experiment's totals are of all time: time_window is {TOTAL}")
    if segment is not None:
        _check_path(segment)
    if definition is not None and isinstance(definition.kind, Journey | Funnel):
        if aggregation is not None:
            raise Problem(422, "aggregation_unknown", "by variant it is its units by state: no aggregation")
        states = await queries.states(organisation, experiment, metric, definition.version, segment)
        if not states:
            raise _nothing(metric, experiment)
        return _state_items(states, experiment, metric, definition.kind.scale, segment)
    if aggregation is not None:
        _check_aggregation(aggregation, definition)
    if segment is None:
        found = await queries.totals(organisation, experiment, metric)
    else:
        found = await queries.segments(organisation, experiment, metric, segment)
    if not found:
        raise _nothing(metric, experiment)
    return [_item(totals, experiment, metric, aggregation, segment) for totals in found]


def _nothing(metric: str, experiment: str) -> Problem:
    detail = f"nothing is counted of {metric!r} in an experiment {experiment!r}"
    return Problem(404, "experiment_metric_not_found", detail)


def _check_aggregation(aggregation: str, definition: Definition | None) -> None:
    if definition is not None and isinstance(definition.kind, Unique):
        if not definition.kind.can_read(aggregation):
            raise Problem(422, "aggregation_unknown", f"it has {', '.join(definition.kind.readable)}")
    elif percentile_of(aggregation) is not None:
        if definition is not None and not definition.kind.can_read(aggregation):
            hint = "percentiles need a histogram: add one to the aggregations of a value metric"
            raise Problem(422, "aggregation_unknown", f"there is no {aggregation!r}; {hint}")
    elif aggregation not in AGGREGATIONS:
        raise Problem(422, "aggregation_unknown", f"by variant there are {', '.join(AGGREGATIONS)} and percentiles")


def _check_path(segment: str) -> None:
    try:
        parse_path(segment, "segment")
    except DefinitionError as error:
        raise Problem(422, "segment_invalid", str(error)) from None


def _item(
    t: VariantTotals, experiment: str, metric: str, aggregation: str | None, segment: str | None
) -> dict[str, Any]:
    """`count` to `variance` are over events, what begins with `unit_` over units' sums; so is a `ratio`."""
    one, m = 10**t.scale, t.moments
    item: dict[str, Any] = {
        "metric_name": metric,
        "time_window": TOTAL,
        "window_start": None,
        "window_end": None,
        "experiment": experiment,
        "variant": t.variant,
        "component": t.component,
        "part": t.part or None,
        "segment": None if segment is None else {segment: t.segment},
        "count": t.events.n,
        "sum": _quotient(t.events.sum, one),
        "mean": _quotient(t.events.sum, t.events.n * one),
        "min": aggregate(t.events, "min", t.scale),
        "max": aggregate(t.events, "max", t.scale),
        "variance": _spread(t.events.n, t.events.sum, t.events.sum, t.events.sum_squares, one)
        if t.squares_known
        else None,
        "includes_conflicted": segment is None,
        "exposed": t.exposed,
        "conflicted": t.conflicted,
        "units": m.units,
        "unit_sum": _quotient(m.sum, one),
        "unit_mean": _quotient(m.sum, m.units * one),
        "unit_variance": _spread(m.units, m.sum, m.sum, m.sum_squares, one),
    }
    state = t.events.state
    if isinstance(state, DistinctSet):
        item["unique"] = state.values.estimate()
        item["error"] = state.values.error
    if t.component == "numerator":
        item["ratio"] = _quotient(m.sum, m.other_sum)
    if m.other_sum or m.other_sum_squares:
        n = t.exposed
        item["other"] = {
            "of": "denominator" if t.component == "numerator" else "before_exposure",
            "mean": _quotient(m.other_sum, n * one),
            "variance": _spread(n, m.other_sum, m.other_sum, m.other_sum_squares, one),
            "covariance": _spread(n, m.sum, m.other_sum, m.cross_sum, one),
        }
    if aggregation is not None:
        item["aggregation_type"] = aggregation
        own = aggregation == "unique"
        item["metric_value"] = item.get("unique") if own else aggregate(t.events, aggregation, t.scale)
    return item


def _state_items(
    states: list[StateTotals], experiment: str, metric: str, scale: int, segment: str | None
) -> list[dict[str, Any]]:
    """One a variant and state; `share` is of the variant's units, `mean` and `variance` are of durations."""
    one = 10**scale
    whole = Counter[tuple[str, str | None]]()
    for s in states:
        whole[s.variant, s.segment] += s.n
    return [
        {
            "metric_name": metric,
            "time_window": TOTAL,
            "window_start": None,
            "window_end": None,
            "experiment": experiment,
            "variant": s.variant,
            "part": s.state,
            "segment": None if segment is None else {segment: s.segment},
            "count": s.n,
            "share": _quotient(s.n, whole[s.variant, s.segment]),
            "mean": _quotient(s.duration, s.timed * one),
            "variance": _spread(s.timed, s.duration, s.duration, s.duration_squares, one),
            "includes_conflicted": False,
            "conflicted": s.conflicted,
        }
        for s in states
    ]


def _quotient(numerator: int, denominator: int) -> float | None:
    return float(Fraction(numerator, denominator)) if denominator else None


def _spread(n: int, x: int, y: int, products: int, one: int) -> float | None:
    """The sample covariance of n pairs (the variance, if both are the same) from Σx, Σy and Σxy."""
    return _quotient(n * products - x * y, n * (n - 1) * one * one)
