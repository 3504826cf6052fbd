"""W1: what a shop's web site sends in half an hour, and what three metrics must make of it.

Everything follows from the seed and the start. Amounts are whole cents and durations whole milliseconds, so that the
truth is a matter of integers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from shared.clock import MINUTE, SECOND
from shared.messages import Event

NAME = "W1"
ORGANISATION = "default"
SPAN = 30 * MINUTE
"""Event time from the first to the last event; the order is right but for a few seconds."""
DISORDER = 3 * SECOND

EVENT_TYPES = ("page_viewed", "product_viewed", "search", "cart_updated", "checkout_started", "purchase")
_WEIGHTS = (0.40, 0.22, 0.12, 0.11, 0.05, 0.10)
PURCHASE = EVENT_TYPES.index("purchase")
VARIANTS = ("control", "treatment")
_NETWORKS = ("wifi", "4g", "5g")
USERS = 50_000

COUNTS = "bench_events"
AMOUNTS = "bench_purchase_amount"
DURATIONS = "bench_duration"
METRICS: dict[str, dict[str, Any]] = {
    COUNTS: {"type": "count", "group_by": ["event_type", "properties.variant"]},
    AMOUNTS: {
        "type": "value",
        "event": "purchase",
        "value": "properties.amount",
        "aggregations": ["count", "sum", "avg", "min", "max"],
        "group_by": ["properties.variant"],
    },
    DURATIONS: {
        "type": "value",
        "value": "properties.durationMs",
        "aggregations": ["avg", "p95"],
        "group_by": ["event_type"],
    },
}
"""Metric key → definition, all in one-minute windows."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """One event as drawn: `time` in µs, indices into EVENT_TYPES and VARIANTS, `cents` of a purchase else None."""

    number: int
    time: int
    event_type: int
    variant: int
    user: int
    cents: int | None
    milliseconds: int
    network: int
    id: int


def draw(events: int, *, seed: int, start: int) -> Iterator[Drawn]:
    """`events` events whose times lie in [start, start + SPAN), `start` in µs."""
    rng = np.random.default_rng(seed)
    chunk = 10_000
    for first in range(0, events, chunk):
        n = min(chunk, events - first)
        positions = (first + np.arange(n)) * SPAN // events
        times = np.clip(positions + rng.integers(-DISORDER, DISORDER, n), 0, SPAN - 1) + start
        kinds = rng.choice(len(EVENT_TYPES), n, p=_WEIGHTS).tolist()
        columns = zip(
            times.tolist(),
            kinds,
            rng.integers(0, USERS, n).tolist(),
            rng.lognormal(8.0, 0.8, n).astype(np.int64).tolist(),
            (1 + rng.lognormal(5.5, 1.0, n)).astype(np.int64).tolist(),
            rng.integers(0, len(_NETWORKS), n).tolist(),
            rng.integers(0, 1 << 62, n).tolist(),
            strict=True,
        )
        for i, (time, kind, user, cents, milliseconds, network, identity) in enumerate(columns, start=first):
            paid = cents + 1 if kind == PURCHASE else None
            yield Drawn(i, time, kind, user & 1, user, paid, milliseconds, network, identity)


def as_event(drawn: Drawn) -> Event:
    """The message as ingest would publish it: about 250 bytes of JSON."""
    properties: dict[str, Any] = {"variant": VARIANTS[drawn.variant], "durationMs": drawn.milliseconds}
    if drawn.cents is not None:
        properties["amount"] = drawn.cents / 100
    return Event(
        organisation=ORGANISATION,
        event_id=f"{drawn.number:08x}{drawn.id:016x}",
        event_type=EVENT_TYPES[drawn.event_type],
        time=drawn.time,
        received_at=drawn.time + 40_000,
        user_id=f"u-{drawn.user:05d}",
        context={"networkType": _NETWORKS[drawn.network]},
        properties=properties,
    )
