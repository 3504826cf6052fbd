"""Accounts of what was drawn, one class for each kind of thing that metrics are about."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import msgspec
import numpy as np

from bench.aggregator.metrics import QUANTILES, STAGES, Grouping, Part, Wanted
from bench.aggregator.workload import EVENT_TYPES, LEAD, MINUTES, USERS, VARIANTS, Columns, Ints
from shared.clock import MINUTE

_FAR = np.iinfo(np.int64).max
_RANKS = {"p50": 50, "p90": 90, "p95": 95, "p99": 99}

Place = tuple[str, str, int, str]
"""Metric, component, start of its minute in µs, group as a canonical JSON array."""


@dataclass(frozen=True, slots=True)
class Total:
    """One window of one group over all shards; sum, min and max as stored, absent where events are only counted."""

    n: int
    sum: int = 0
    min: int | None = None
    max: int | None = None


class Windows:
    """One component of a metric: its windows, by minute and group."""

    def __init__(self, wanted: Wanted, part: Part) -> None:
        self._wanted, self.part = wanted, part
        self._groups = [group(*values) for values in itertools.product(*(g.values for g in wanted.by))]
        size = MINUTES * len(self._groups)
        self._n, self._sum = np.zeros(size, np.int64), np.zeros(size, np.int64)
        self._min, self._max = np.full(size, _FAR), np.full(size, -_FAR)

    def add(self, columns: Columns, minutes: Ints) -> None:
        cells = minutes * len(self._groups) + _codes(self._wanted.by, columns)
        taken = slice(None) if self.part.where is None else self.part.where(columns)
        cells = cells[taken]
        np.add.at(self._n, cells, 1)
        if self.part.value is not None:
            values = self.part.value.of(columns)[taken]
            np.add.at(self._sum, cells, values)
            np.minimum.at(self._min, cells, values)
            np.maximum.at(self._max, cells, values)

    @property
    def counted(self) -> int:
        return int(self._n.sum())

    def totals(self, start: int) -> Iterator[tuple[Place, Total]]:
        for cell in np.flatnonzero(self._n).tolist():
            minute, code = divmod(cell, len(self._groups))
            place = (
                self._wanted.key,
                self.part.component,
                start - LEAD + minute * MINUTE,
                self._groups[code],
            )
            yield place, self._total(cell)

    def _total(self, cell: int) -> Total:
        n = int(self._n[cell])
        if self.part.value is None:
            return Total(n)
        unit = self.part.value.unit
        return Total(n, int(self._sum[cell]) * unit, int(self._min[cell]) * unit, int(self._max[cell]) * unit)


class Percentiles:
    """Every whole value of one metric, by event type."""

    def __init__(self) -> None:
        self._counts = np.zeros((len(EVENT_TYPES), 1), np.int64)

    def add(self, columns: Columns) -> None:
        most = int(columns.milliseconds.max())
        if most >= self._counts.shape[1]:
            self._counts = np.pad(self._counts, ((0, 0), (0, most + 1 - self._counts.shape[1])))
        np.add.at(self._counts, (columns.kinds, columns.milliseconds), 1)

    def values(self) -> dict[tuple[str, str], int]:
        """Group and percentile → the stored value at rank ⌈p·n⌉ over all windows."""
        (value,) = (part.value for part in QUANTILES.parts)
        assert value is not None
        found = {}
        for kind, counts in enumerate(self._counts):
            below = np.cumsum(counts)
            for name, rank in _RANKS.items() if below[-1] else ():
                nth = -(-rank * int(below[-1]) // 100)
                found[group(EVENT_TYPES[kind]), name] = int(np.searchsorted(below, nth)) * value.unit
        return found


class Uniques:
    """Which users were seen, by minute and event type."""

    def __init__(self) -> None:
        self._seen = np.zeros((MINUTES, len(EVENT_TYPES), USERS), np.bool_)

    def add(self, columns: Columns, minutes: Ints) -> None:
        self._seen[minutes, columns.kinds, columns.users] = True

    def by_minute(self, start: int) -> dict[tuple[int, str], int]:
        """Start of the minute and group → how many."""
        counts = self._seen.sum(axis=2)
        return {
            (start - LEAD + int(minute) * MINUTE, group(EVENT_TYPES[kind])): int(counts[minute, kind])
            for minute, kind in zip(*np.nonzero(counts), strict=True)
        }

    def overall(self) -> dict[str, int]:
        """Group → how many in all windows together."""
        counts = self._seen.any(axis=0).sum(axis=1)
        return {group(EVENT_TYPES[kind]): int(n) for kind, n in enumerate(counts) if n}


class Funnel:
    """Every user's times of each stage; how far each got is worked out at the end."""

    def __init__(self) -> None:
        self._users: list[list[Ints]] = [[] for _ in STAGES]
        self._times: list[list[Ints]] = [[] for _ in STAGES]

    def add(self, columns: Columns) -> None:
        for i, stage in enumerate(STAGES):
            taken = columns.kinds == EVENT_TYPES.index(stage)
            self._users[i].append(columns.users[taken])
            self._times[i].append(columns.times[taken])

    def reached(self) -> dict[str, int]:
        """Stage → how many users reached it after all stages before it.

        Of each stage the earliest event at or after the stage before: no way through gets further, because no window
        ends within the workload.
        """
        at = np.full(USERS, -1, np.int64)
        found = {}
        for stage, user_chunks, time_chunks in zip(STAGES, self._users, self._times, strict=True):
            users, times = np.concatenate(user_chunks), np.concatenate(time_chunks)
            after = times >= at[users]
            first = np.full(USERS, _FAR)
            np.minimum.at(first, users[after], times[after])
            at = first
            found[stage] = int((first < _FAR).sum())
        return found


@dataclass(frozen=True, slots=True)
class Moments:
    """Of one metric and variant in the experiment; sums as stored, squares of them too."""

    observations: int
    sum: int
    units: int
    unit_sum: int
    unit_sum_squares: int


class Units:
    """What each user gave to one metric of the experiment; all have been exposed before."""

    def __init__(self, part: Part) -> None:
        self._part = part
        self._n, self._sum = np.zeros(USERS, np.int64), np.zeros(USERS, np.int64)

    def add(self, columns: Columns) -> None:
        assert self._part.value is not None
        taken = slice(None) if self._part.where is None else self._part.where(columns)
        np.add.at(self._n, columns.users[taken], 1)
        np.add.at(self._sum, columns.users[taken], self._part.value.of(columns)[taken])

    def moments(self) -> dict[str, Moments]:
        """Variant → what its users come to; users are in the variant of their number."""
        assert self._part.value is not None
        unit, found = self._part.value.unit, {}
        for i, variant in enumerate(VARIANTS):
            n, sums = self._n[i :: len(VARIANTS)], self._sum[i :: len(VARIANTS)].tolist()
            total = sum(sums) * unit
            squares = sum(value * value for value in sums) * unit * unit
            found[variant] = Moments(int(n.sum()), total, int((n > 0).sum()), total, squares)
        return found


def group(*values: str) -> str:
    """A group's values as the store writes them."""
    return msgspec.json.encode(list(values)).decode()


def _codes(by: Iterable[Grouping], columns: Columns) -> Ints:
    """Each event's place in the product of the groupings' values."""
    code = np.zeros(len(columns), np.int64)
    for grouping in by:
        code = code * len(grouping.values) + grouping.of(columns)
    return code
