"""A metric by variant, as the API shows it: one item a variant, and part and segment where there are such."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import msgspec

from services.aggregator.domain.kinds.funnel import Funnel
from services.aggregator.domain.kinds.journey import Journey
from services.aggregator.domain.kinds.kind import aggregate, percentile_of
from services.aggregator.domain.kinds.streak import Streak
from services.aggregator.domain.kinds.unique import Unique
from services.aggregator.domain.metrics import Definition
from services.aggregator.domain.paths import parse_path
from services.aggregator.domain.states import DistinctSet, LatestRun
from services.aggregator.experiment_queries import ExperimentQueries, VariantTotals
from services.aggregator.queries import TOTAL
from services.aggregator.unit_items import unit_items
from shared.definition_error import DefinitionError
from shared.http import Problem
from shared.messages import Experiment

AGGREGATIONS = ("count", "sum", "avg", "min", "max")
_AMOUNTS = ("sum", "mean", "variance", "unit_sum", "unit_mean", "unit_variance")
"""What events that have no amount do not add up to."""


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
    known: Experiment | None = None,
) -> list[dict[str, Any]]:
    """Raises Problem where there is nothing to show, or nothing of that kind.

    `known`: the experiment's definition, if we have it.
    """
    if metric is None:
        raise Problem(422, "metric_missing", "experiment needs a metric_name")
    if time_window not in (None, TOTAL):
        raise Problem(422, "window_unknown", f"an experiment's totals are of all time: time_window is {TOTAL}")
    if segment is not None:
        _check_segment(segment, experiment, None if known is None else known.segments)
    if definition is not None and isinstance(definition.kind, Journey | Funnel):
        items = await unit_items(
            queries.units,
            organisation,
            experiment,
            definition,
            definition.kind,
            aggregation=aggregation,
            segment=segment,
            until=None if known is None else known.ended_at,
        )
        if not items:
            raise _nothing(metric, experiment)
        return items
    if aggregation is not None:
        _check_aggregation(aggregation, definition)
    if segment is None:
        found = await queries.totals(organisation, experiment, metric)
    else:
        found = await queries.segments(organisation, experiment, metric, segment)
    if not found:
        raise _nothing(metric, experiment)
    return [_item(totals, experiment, metric, definition, aggregation, segment) for totals in found]


def _nothing(metric: str, experiment: str) -> Problem:
    detail = f"nothing is counted of {metric!r} in an experiment {experiment!r}"
    return Problem(404, "experiment_metric_not_found", detail)


def _check_aggregation(aggregation: str, definition: Definition | None) -> None:
    if definition is not None and isinstance(definition.kind, Unique | Streak):
        if not definition.kind.can_read(aggregation):
            raise Problem(422, "aggregation_unknown", f"it has {', '.join(definition.kind.readable)}")
    elif percentile_of(aggregation) is not None:
        if definition is not None and not definition.kind.can_read(aggregation):
            hint = "percentiles need a histogram: add one to the aggregations of a value metric"
            raise Problem(422, "aggregation_unknown", f"there is no {aggregation!r}; {hint}")
    elif aggregation not in AGGREGATIONS:
        raise Problem(422, "aggregation_unknown", f"by variant there are {', '.join(AGGREGATIONS)} and percentiles")


def _check_segment(segment: str, experiment: str, listed: tuple[str, ...] | None) -> None:
    try:
        parse_path(segment, "segment")
    except DefinitionError as error:
        raise Problem(422, "segment_invalid", str(error)) from None
    if listed is not None and segment not in listed:
        hint = f"it has {', '.join(listed)}" if listed else "an experiment lists them before it starts"
        raise Problem(422, "segment_unknown", f"{experiment} has no segment {segment!r}; {hint}")


def _item(
    t: VariantTotals,
    experiment: str,
    metric: str,
    definition: Definition | None,
    aggregation: str | None,
    segment: str | None,
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
    if t.component == "streak":
        item |= {
            **dict.fromkeys(_AMOUNTS),
            "streak": len(state.run.failures) if isinstance(state, LatestRun) else None,
        }
        names = () if definition is None or definition.version != t.version else definition.group_by
        values: list[str | None] = msgspec.json.decode(t.part) if t.part else []
        if len(names) == len(values):
            item |= {"part": None, "group": {str(path): v for path, v in zip(names, values, strict=True)}}
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
        own = aggregation in ("unique", "streak")
        item["metric_value"] = item.get(aggregation) if own else aggregate(t.events, aggregation, t.scale)
    return item


def _quotient(numerator: int, denominator: int) -> float | None:
    return float(Fraction(numerator, denominator)) if denominator else None


def _spread(n: int, x: int, y: int, products: int, one: int) -> float | None:
    """The sample covariance of n pairs (the variance, if both are the same) from Σx, Σy and Σxy."""
    return _quotient(n * products - x * y, n * (n - 1) * one * one)
