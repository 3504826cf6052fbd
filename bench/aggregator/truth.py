"""What the metrics must show, known from the drawing of the events alone, and how a result differs from it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import msgspec

from bench.aggregator.workload import AMOUNTS, COUNTS, DURATIONS, EVENT_TYPES, VARIANTS, Drawn
from shared.clock import MINUTE

_PER_CENT = 10_000
_PER_MILLISECOND = 1_000_000
"""Stored sums are integers in units of 10⁻⁶."""

Place = tuple[str, int, str]
"""Metric, start of its minute in µs, group as a canonical JSON array."""


@dataclass(frozen=True, slots=True)
class Total:
    """One window of one group over all shards; sum, min and max as stored, absent where a metric only counts."""

    n: int
    sum: int = 0
    min: int | None = None
    max: int | None = None


@dataclass(slots=True)
class Truth:
    """Takes every event as it is drawn; totals are worked out when they are asked for."""

    events: int = 0
    _counts: defaultdict[tuple[int, int, int], int] = field(default_factory=lambda: defaultdict(int))
    _amounts: defaultdict[tuple[int, int], list[int]] = field(default_factory=lambda: defaultdict(list))
    _durations: defaultdict[tuple[int, int], list[int]] = field(default_factory=lambda: defaultdict(list))

    def add(self, drawn: Drawn) -> None:
        minute = drawn.time - drawn.time % MINUTE
        self.events += 1
        self._counts[minute, drawn.event_type, drawn.variant] += 1
        self._durations[minute, drawn.event_type].append(drawn.milliseconds)
        if drawn.cents is not None:
            self._amounts[minute, drawn.variant].append(drawn.cents)

    def totals(self) -> dict[Place, Total]:
        """Every window of every metric that has any event."""
        found = {
            (COUNTS, minute, group(EVENT_TYPES[kind], VARIANTS[variant])): Total(n)
            for (minute, kind, variant), n in self._counts.items()
        }
        for (minute, variant), cents in self._amounts.items():
            found[AMOUNTS, minute, group(VARIANTS[variant])] = _total(cents, _PER_CENT)
        for (minute, kind), milliseconds in self._durations.items():
            found[DURATIONS, minute, group(EVENT_TYPES[kind])] = _total(milliseconds, _PER_MILLISECOND)
        return found

    def matching(self) -> dict[str, int]:
        """Metric → how many events it takes, over all windows."""
        return {
            COUNTS: self.events,
            AMOUNTS: sum(map(len, self._amounts.values())),
            DURATIONS: self.events,
        }

    def percentile_95(self) -> dict[str, int]:
        """Group of the duration metric → the stored value at rank ⌈0.95·n⌉ over all windows."""
        by_kind: defaultdict[int, list[int]] = defaultdict(list)
        for (_, kind), milliseconds in self._durations.items():
            by_kind[kind].extend(milliseconds)
        return {
            group(EVENT_TYPES[kind]): sorted(values)[-(-95 * len(values) // 100) - 1] * _PER_MILLISECOND
            for kind, values in by_kind.items()
        }


@dataclass(frozen=True, slots=True)
class Result:
    """What a system made of the events. `late`, `duplicates` and `invalid` are over all metrics."""

    totals: Mapping[Place, Total]
    counted: Mapping[str, int]
    late: int
    duplicates: int
    invalid: int
    percentile_95: Mapping[str, float]


PERCENTILE_TOLERANCE = 0.01
"""What the sketch promises, relative to a value that was there."""


def differences(truth: Truth, result: Result) -> Iterator[str]:
    """Says in words where the result is not the truth; nothing when all is exact (percentiles: within 1 %)."""
    expected = truth.totals()
    for place in sorted(expected.keys() | result.totals.keys()):
        wanted, found = expected.get(place), result.totals.get(place)
        if wanted != found:
            yield f"{place}: expected {wanted}, found {found}"
    for metric, n in truth.matching().items():
        if result.counted.get(metric) != n:
            yield f"{metric}: {n} events match, {result.counted.get(metric)} were counted"
    for name, n in (("late", result.late), ("duplicate", result.duplicates), ("invalid", result.invalid)):
        if n:
            yield f"{n} events were taken for {name}, there are none"
    for place_group, exact in truth.percentile_95().items():
        estimate = result.percentile_95.get(place_group)
        if estimate is None or abs(estimate - exact) > PERCENTILE_TOLERANCE * exact:
            yield f"{DURATIONS} {place_group}: the 95th percentile is {exact}, found {estimate}"


def group(*values: str) -> str:
    """A group's values as the store writes them."""
    return msgspec.json.encode(list(values)).decode()


def _total(values: list[int], unit: int) -> Total:
    return Total(len(values), sum(values) * unit, min(values) * unit, max(values) * unit)
