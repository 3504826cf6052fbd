"""What tests of alerting's domain are made of: definitions, updates and a clock that stands still."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from services.alerting.domain.breaker import Breaker, parse_breaker
from services.alerting.domain.metric import MetricShape, shape_of
from services.alerting.domain.rule import Rule, parse_rule
from services.alerting.domain.series import parse_series
from shared.clock import MINUTE
from shared.messages import MetricUpdate

NOW = 1_700_000_000_000_000 - 1_700_000_000_000_000 % MINUTE
"""The start of a minute."""

COUNT = shape_of(1, {"type": "count"})
RATIO = shape_of(1, {"type": "ratio", "numerator": {"filter": {}}, "denominator": {}})
STREAK = shape_of(1, {"type": "streak"})


def shape(**spec: Any) -> MetricShape:
    return shape_of(1, spec)


def rule(**spec: Any) -> Rule:
    return parse_rule("acme", "r", 1, {"metric": "m", "direction": "above", "window": "5m", **spec})


def breaker(**spec: Any) -> Breaker:
    return parse_breaker("acme", "b", 1, {"metric": "s", "flag": "f", **spec})


def update(
    component: str = "value",
    group: Sequence[str | None] = (),
    *,
    minute: int = 0,
    revision: int = 1,
    shard: int = 0,
    total: int = 0,
    streak: bool = False,
    **fields: Any,
) -> MetricUpdate:
    """Of the minute that starts `minute` minutes from NOW (streaks have none); `total` is the scaled sum."""
    return MetricUpdate(
        organisation="acme",
        subject_kind="metric",
        subject="m",
        version=1,
        series=msgspec.json.encode((component, msgspec.json.encode(tuple(group)).decode())).decode(),
        window_start=0 if streak else NOW + minute * MINUTE,
        shard=shard,
        revision=revision,
        watermark=NOW,
        published_at=NOW,
        sum=str(total),
        **fields,
    )


def series_of(message: MetricUpdate) -> Any:
    return parse_series(message.series)
