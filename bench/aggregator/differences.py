"""Says in words where a result is not the truth; nothing when all is exact, or as near as was promised."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from bench.aggregator.accounts import Moments, Place, Total
from bench.aggregator.peers.protocol import GroupTotal
from bench.aggregator.truth import Truth

PERCENTILE_TOLERANCE = 0.01
"""What the sketch promises, relative to a value that was there."""
EXACT_UNIQUES = 10_000
UNIQUE_TOLERANCE = 4 * 0.0081
"""Up to so many distinct values are counted exactly; of more, four standard errors are allowed for."""
_ROUNDING = 1e-9
"""Peers add up in floating point."""


@dataclass(frozen=True, slots=True)
class Counted:
    """One component's counters over all shards."""

    counted: int
    late: int = 0
    duplicates: int = 0
    invalid: int = 0


@dataclass(frozen=True, slots=True)
class Result:
    """What the aggregator made of the events; `counters` by metric and component, the others as `Truth` has them."""

    totals: Mapping[Place, Total]
    counters: Mapping[tuple[str, str], Counted]
    percentiles: Mapping[tuple[str, str], float] = field(default_factory=dict)
    unique_minutes: Mapping[tuple[int, str], int] = field(default_factory=dict)
    uniques: Mapping[str, int] = field(default_factory=dict)
    reached: Mapping[str, int] = field(default_factory=dict)
    units: Mapping[str, Mapping[str, Moments]] = field(default_factory=dict)


def differences(truth: Truth, result: Result) -> Iterator[str]:
    """Of the aggregator, on all metrics of the workload."""
    yield from _unequal("", truth.totals(), result.totals)
    for place, windows in truth.windows.items():
        found, expected = result.counters.get(place), Counted(windows.counted)
        if found != expected:
            yield f"{place}: expected {expected}, found {found}"
    if truth.percentiles is not None:
        for asked, exact in truth.percentiles.values().items():
            estimate = result.percentiles.get(asked)
            if estimate is None or abs(estimate - exact) > PERCENTILE_TOLERANCE * exact:
                yield f"{asked}: the percentile is {exact}, found {estimate}"
    if truth.uniques is not None:
        yield from _far("unique users", truth.unique_minutes(), result.unique_minutes)
        yield from _far("unique users", truth.uniques.overall(), result.uniques)
    if truth.funnel is not None:
        yield from _unequal("funnel ", truth.funnel.reached(), result.reached)
    for metric, units in truth.units.items():
        yield from _unequal(f"{metric} by unit, ", units.moments(), result.units.get(metric, {}))


def peer_differences(truth: Truth, events: int, totals: Iterable[GroupTotal]) -> Iterator[str]:
    """Of a peer on W1. Which events the first `events` were only the peer knows, so then only their number counts."""
    found = {(total.event_type, total.variant): total for total in totals}
    if events < truth.events:
        n = sum(total.durations.n for total in found.values())
        if n < events:
            yield f"{events} events were to be counted, {n} were"
        return
    for place, expected in truth.groups().items():
        total = found.pop(place, None)
        if total is None:
            yield f"{place}: missing"
            continue
        if total.durations.n != expected.n:
            yield f"{place}: {expected.n} events, found {total}"
        if not math.isclose(total.durations.sum, expected.milliseconds, rel_tol=_ROUNDING):
            yield f"{place}: {expected.milliseconds} ms, found {total.durations.sum}"
    yield from (f"{place}: there is no such group" for place in found)


def _unequal(what: str, expected: Mapping[Any, object], found: Mapping[Any, object]) -> Iterator[str]:
    for place in sorted(expected.keys() | found.keys(), key=str):
        if expected.get(place) != found.get(place):
            yield f"{what}{place}: expected {expected.get(place)}, found {found.get(place)}"


def _far(what: str, expected: Mapping[Any, int], found: Mapping[Any, int]) -> Iterator[str]:
    """Where a number of distinct values is further off than was promised."""
    for place in sorted(expected.keys() | found.keys(), key=str):
        exact, estimate = expected.get(place, 0), found.get(place, 0)
        allowed = 0 if exact <= EXACT_UNIQUES else UNIQUE_TOLERANCE * exact
        if abs(estimate - exact) > allowed:
            yield f"{what} {place}: expected {exact}, found {estimate}"
