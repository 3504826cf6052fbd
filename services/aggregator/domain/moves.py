"""How units move between windows when more is known of them: what stood is taken back, what stands is added."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

import msgspec
import numpy as np

from services.aggregator.domain.deltas import WindowDelta
from services.aggregator.domain.kinds.kind import Component
from services.aggregator.domain.plan import WindowSeries
from services.aggregator.domain.states import Histogram
from services.aggregator.domain.tracks import Share
from shared.statistics import sketch

_Place = tuple[Component, int, str]


Moved = tuple[list[Share], list[Share]]
"""What is taken back, and what is added."""


@dataclass(slots=True)
class _Sum:
    n: int = 0
    sum: int = 0
    sum_squares: int = 0
    buckets: dict[int, int] = field(default_factory=dict)


@dataclass(slots=True)
class Moves:
    """Collects the moves of one metric's units; those that cancel out leave nothing."""

    _cells: defaultdict[_Place, _Sum] = field(default_factory=lambda: defaultdict(_Sum))

    def move(self, before: Iterable[Share], after: Iterable[Share]) -> None:
        """From where a unit counted to where it counts now."""
        for share in before:
            self._count(share, -1)
        for share in after:
            self._count(share, 1)

    def add(self, component: Component, minute: int, group: str, n: int, total: int, squares: int) -> None:
        """So many units at once, whose values are not sketched."""
        cell = self._cells[component, minute, group]
        cell.n += n
        cell.sum += total
        cell.sum_squares += squares

    def deltas(self, leading: WindowSeries) -> list[WindowDelta]:
        """As what is added to the windows of the metric that `leading` is a series of."""
        return [
            WindowDelta(
                series_of(leading, component),
                minute,
                group,
                cell.n,
                cell.sum,
                cell.sum_squares,
                None,
                None,
                Histogram(buckets) if buckets else None,
            )
            for (component, minute, group), cell in self._cells.items()
            if (buckets := _present(cell.buckets)) or cell.n or cell.sum or cell.sum_squares
        ]

    def _count(self, share: Share, sign: int) -> None:
        cell = self._cells[share.component, share.minute, share.group]
        cell.n += sign
        if share.value is None:
            return
        cell.sum += sign * share.value
        cell.sum_squares += sign * share.value * share.value
        if share.sketched:
            # Clocks gone wrong make times of decades: they stand with the longest that there is a bucket for.
            bucket = int(sketch.buckets_of(np.array([min(share.value, sketch.MAX_SCALED)]))[0])
            cell.buckets[bucket] = cell.buckets.get(bucket, 0) + sign


def series_of(leading: WindowSeries, component: Component) -> WindowSeries:
    """Another component's series of the same metric."""
    return WindowSeries(leading.organisation, leading.metric, leading.version, component, leading.scale)


def moved(before: list[Share], after: list[Share]) -> Moved:
    """Only what differs."""
    return [s for s in before if s not in after], [s for s in after if s not in before]


class Deadline(msgspec.Struct, frozen=True, array_like=True):
    """What a deadline does: the state that it leads to, what moves, and the duration that belongs to that state.

    What the first release wrote ends without the duration.
    """

    state: str | None
    moved: Moved
    duration: int | None = None


_DEADLINE = msgspec.msgpack.Decoder(Deadline)


def encode_deadline(deadline: Deadline) -> bytes:
    return msgspec.msgpack.encode(deadline)


def decode_deadline(raw: bytes) -> Deadline:
    return _DEADLINE.decode(raw)


def _present(buckets: dict[int, int]) -> dict[int, int]:
    return {bucket: count for bucket, count in buckets.items() if count}
