"""What each workload wants of the events, and beside each definition, in terms of columns, what it must come to.

W1: one metric in windows of a minute. W2: and percentiles and unique users. W3: and an experiment of 50,000 users
with exact moments of two metrics by user, and a funnel. W4: twenty metrics of the simple types.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.aggregator.workload import EVENT_TYPES, NETWORKS, VARIANTS, Columns, Ints

Mask = NDArray[np.bool_]
Where = Callable[[Columns], Mask]


@dataclass(frozen=True, slots=True)
class Value:
    """A whole number of each event: where it stands, and how many of the stored 10⁻⁶ one of it is."""

    path: str
    of: Callable[[Columns], Ints]
    unit: int


AMOUNT = Value("properties.amount", lambda c: c.cents, 10_000)
DURATION = Value("properties.durationMs", lambda c: c.milliseconds, 1_000_000)


@dataclass(frozen=True, slots=True)
class Grouping:
    """A property that metrics are grouped by: its path, its values, and which of them each event has."""

    path: str
    values: tuple[str, ...]
    of: Callable[[Columns], Ints]


BY_TYPE = Grouping("event_type", EVENT_TYPES, lambda c: c.kinds)
BY_VARIANT = Grouping("properties.variant", VARIANTS, lambda c: c.variants)
BY_NETWORK = Grouping("context.networkType", NETWORKS, lambda c: c.networks)


@dataclass(frozen=True, slots=True)
class Part:
    """One component of a metric: which events it takes (None: all), and of which value (None: they are counted)."""

    component: str = "value"
    where: Where | None = None
    value: Value | None = None


@dataclass(frozen=True, slots=True)
class Wanted:
    """A metric: its definition without `group_by`, and the truth's view of it."""

    key: str
    spec: Mapping[str, Any]
    parts: tuple[Part, ...] = ()
    by: tuple[Grouping, ...] = ()

    @property
    def definition(self) -> dict[str, Any]:
        return {**self.spec, **({"group_by": [g.path for g in self.by]} if self.by else {})}


@dataclass(frozen=True, slots=True)
class Taken:
    """Which events a measure takes: as a definition says it, and as columns say it."""

    spec: Mapping[str, Any] = field(default_factory=dict)
    where: Where | None = None


def of_type(*names: str) -> Taken:
    known = np.isin(np.arange(len(EVENT_TYPES)), [EVENT_TYPES.index(name) for name in names])
    return Taken({"event": list(names)}, lambda c: known[c.kinds])


def filtered(taken: Taken, path: str, op: str, value: object, where: Where) -> Taken:
    """Those of `taken` that also fulfil a condition."""
    before = taken.where
    both: Where = where if before is None else lambda c: before(c) & where(c)
    return Taken({**taken.spec, "filter": {"path": path, "op": op, "value": value}}, both)


def counted(key: str, taken: Taken, *by: Grouping) -> Wanted:
    return Wanted(key, {"type": "count", **taken.spec}, (Part(where=taken.where),), by)


def summed(key: str, value: Value, taken: Taken, *by: Grouping, percentiles: Sequence[str] = ()) -> Wanted:
    aggregations = list(percentiles) or ["count", "sum", "min", "max"]
    spec = {"type": "value", "value": value.path, "aggregations": aggregations, **taken.spec}
    return Wanted(key, spec, (Part(where=taken.where, value=value),), by)


def divided(key: str, top: Taken, bottom: Taken, *by: Grouping, value: Value | None = None) -> Wanted:
    """A ratio of `value` (None: of events) to events."""
    numerator = {**top.spec, **({"value": value.path} if value else {})}
    return Wanted(
        key,
        {"type": "ratio", "numerator": numerator, "denominator": dict(bottom.spec)},
        (Part("numerator", top.where, value), Part("denominator", bottom.where)),
        by,
    )


EVERYTHING = Taken()
BOUGHT = of_type("purchase")
VIEWED = of_type("page_viewed")
BIG = filtered(BOUGHT, "properties.amount", "ge", 50, lambda c: c.cents >= 5_000)
SLOW = filtered(EVERYTHING, "properties.durationMs", "gt", 1_000, lambda c: c.milliseconds > 1_000)
ON_WIFI = filtered(EVERYTHING, "context.networkType", "eq", "wifi", lambda c: c.networks == 0)
MOBILE_PURCHASE = filtered(BOUGHT, "context.networkType", "in", ["4g", "5g"], lambda c: c.networks > 0)
TREATED_SEARCH = filtered(of_type("search"), "properties.variant", "eq", "treatment", lambda c: c.variants == 1)

COUNTS = counted("bench_events", EVERYTHING, BY_TYPE, BY_VARIANT)
AMOUNTS = summed("bench_purchase_amount", AMOUNT, BOUGHT, BY_VARIANT)
DURATIONS = summed("bench_duration", DURATION, EVERYTHING, BY_TYPE, BY_VARIANT)
PERCENTILES = ("p50", "p90", "p95", "p99")
QUANTILES = summed("bench_duration_quantiles", DURATION, EVERYTHING, BY_TYPE, percentiles=PERCENTILES)
USERS_SEEN = Wanted("bench_users", {"type": "unique", "of": "user_id"}, by=(BY_TYPE,))
STAGES = ("page_viewed", "product_viewed", "cart_updated", "checkout_started", "purchase")
FUNNEL = Wanted(
    "bench_checkout_funnel",
    {
        "type": "funnel",
        "unit": "user",
        "stages": [{"name": stage, "event": stage} for stage in STAGES],
        "window": "1h",  # longer than the workload
    },
)
BY_UNIT = (AMOUNTS, DURATIONS)
"""W3's metrics of the experiment."""

_W1 = (DURATIONS,)
_W2 = (*_W1, QUANTILES, USERS_SEEN)
_W3 = (*_W2, AMOUNTS, FUNNEL)
_W4 = (
    *_W1,
    COUNTS,
    AMOUNTS,
    counted("bench_views", VIEWED, BY_NETWORK),
    counted("bench_wifi_events", ON_WIFI, BY_VARIANT),
    counted("bench_slow_events", SLOW, BY_TYPE),
    counted("bench_cart_and_checkout", of_type("cart_updated", "checkout_started"), BY_VARIANT, BY_NETWORK),
    counted("bench_big_purchases", BIG, BY_VARIANT),
    counted("bench_treated_searches", TREATED_SEARCH),
    summed("bench_revenue", AMOUNT, BOUGHT),
    summed("bench_mobile_amount", AMOUNT, MOBILE_PURCHASE, BY_VARIANT, BY_NETWORK),
    summed("bench_big_amount", AMOUNT, BIG, BY_NETWORK),
    summed("bench_view_duration", DURATION, VIEWED, BY_VARIANT),
    summed("bench_search_duration", DURATION, of_type("search"), BY_NETWORK),
    summed("bench_total_duration", DURATION, EVERYTHING),
    QUANTILES,
    divided("bench_conversion", BOUGHT, VIEWED, BY_VARIANT),
    divided("bench_order_value", BOUGHT, BOUGHT, BY_VARIANT, value=AMOUNT),
    divided("bench_slow_share", SLOW, EVERYTHING, BY_TYPE),
    divided("bench_revenue_per_event", BOUGHT, EVERYTHING, BY_NETWORK, value=AMOUNT),
)

WORKLOADS = {"W1": _W1, "W2": _W2, "W3": _W3, "W4": _W4}
"""Name → metrics, all in one-minute windows."""
EXPERIMENT_IN = frozenset({"W3"})
"""Workloads whose log begins with an exposure of every user."""
