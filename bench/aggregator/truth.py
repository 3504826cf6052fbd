"""What the metrics must show, known from the drawing of the events alone."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bench.aggregator.accounts import Funnel, Percentiles, Place, Total, Uniques, Units, Windows
from bench.aggregator.metrics import BY_UNIT, FUNNEL, QUANTILES, USERS_SEEN, Wanted
from bench.aggregator.workload import EVENT_TYPES, VARIANTS, Columns, minutes_of


@dataclass(frozen=True, slots=True)
class GroupSum:
    """W1 of one event type and variant over all windows."""

    n: int
    milliseconds: int


class Truth:
    """Takes every event as it is drawn; the rest is worked out when it is asked for. `start` is the drawing's."""

    def __init__(self, workload: Sequence[Wanted], *, start: int, experiment: bool) -> None:
        self._start = start
        self.windows = {(w.key, part.component): Windows(w, part) for w in workload for part in w.parts}
        self.percentiles = Percentiles() if QUANTILES in workload else None
        self.uniques = Uniques() if USERS_SEEN in workload else None
        self.funnel = Funnel() if FUNNEL in workload else None
        self.units = {w.key: Units(w.parts[0]) for w in BY_UNIT} if experiment else {}
        self.events = 0
        self._groups = np.zeros((2, len(EVENT_TYPES), len(VARIANTS)), np.int64)

    def add(self, columns: Columns) -> None:
        minutes = minutes_of(columns, self._start)
        self.events += len(columns)
        for windows in self.windows.values():
            windows.add(columns, minutes)
        for each in (self.percentiles, self.funnel, *self.units.values()):
            if each is not None:
                each.add(columns)
        if self.uniques is not None:
            self.uniques.add(columns, minutes)
        place = (columns.kinds, columns.variants)
        np.add.at(self._groups[0], place, 1)
        np.add.at(self._groups[1], place, columns.milliseconds)

    def totals(self) -> dict[Place, Total]:
        """Every window of every component that has any event."""
        return dict(itertools.chain.from_iterable(w.totals(self._start) for w in self.windows.values()))

    def unique_minutes(self) -> dict[tuple[int, str], int]:
        return self.uniques.by_minute(self._start) if self.uniques else {}

    def groups(self) -> dict[tuple[str, str], GroupSum]:
        """Event type and variant → what every system's windows must add up to."""
        return {
            (kind, variant): GroupSum(*(int(value) for value in self._groups[:, k, v]))
            for k, kind in enumerate(EVENT_TYPES)
            for v, variant in enumerate(VARIANTS)
            if self._groups[0, k, v]
        }
