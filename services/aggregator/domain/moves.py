"""How journeys move between windows when more is known of them: what stood is taken back, what stands is added."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

import msgspec

from services.aggregator.domain.deltas import WindowDelta
from services.aggregator.domain.kinds.journey import Facts, Outcome, duration_of, outcome_of
from services.aggregator.domain.plan import WindowSeries
from shared.clock import MINUTE

_Place = tuple[WindowSeries, int, str]
"""Series, minute, group: the outcome or step, then the journey's own group values."""


@dataclass(slots=True)
class _Sum:
    n: int = 0
    sum: int = 0
    sum_squares: int = 0


@dataclass(slots=True)
class Moves:
    """Collects moves; those that cancel out leave nothing."""

    _cells: defaultdict[_Place, _Sum] = field(default_factory=lambda: defaultdict(_Sum))

    def move(self, series: WindowSeries, before: Facts, after: Facts) -> None:
        """From where a unit's journey counted among outcomes to where it counts now."""
        self._count(series, before, -1)
        self._count(series, after, 1)

    def step(self, series: WindowSeries, names: tuple[str, ...], before: Facts, after: Facts) -> None:
        """Likewise among the steps that it reached."""
        self._count_steps(series, names, before, -1)
        self._count_steps(series, names, after, 1)

    def deltas(self) -> list[WindowDelta]:
        """Durations are in units of 10**-DURATION_SCALE ms."""
        return [
            WindowDelta(series, minute, group, cell.n, cell.sum, cell.sum_squares, None, None)
            for (series, minute, group), cell in self._cells.items()
            if cell.n or cell.sum or cell.sum_squares
        ]

    def _count(self, series: WindowSeries, facts: Facts, sign: int) -> None:
        outcome = outcome_of(facts)
        if outcome is None or facts.started is None:
            return
        cell = self._cells[series, _minute(facts.started), prefixed(outcome.value, facts.group)]
        cell.n += sign
        if outcome is Outcome.COMPLETED:
            duration = duration_of(facts)
            cell.sum += sign * duration
            cell.sum_squares += sign * duration * duration

    def _count_steps(self, series: WindowSeries, names: tuple[str, ...], facts: Facts, sign: int) -> None:
        if facts.started is None:
            return
        for i, name in enumerate(names):
            if facts.steps >> i & 1:
                self._cells[series, _minute(facts.started), prefixed(name, facts.group)].n += sign


def prefixed(first: str, group: str) -> str:
    """A group's canonical JSON with one more value in front."""
    return msgspec.json.encode([first, *msgspec.json.decode(group)]).decode()


def _minute(time: int) -> int:
    return time - time % MINUTE
