"""What a shard remembers of units: from when on events of each kind tell nothing new of them.

Facts only grow, so an event that told nothing new against an earlier state of its row tells nothing new now. Most
events of busy units are of this sort: they need not go to the database at all. Only what was committed is kept here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain, repeat

import numpy as np
import numpy.typing as npt

from services.aggregator.domain.plan import WindowSeries

TrackKey = tuple[WindowSeries, str]
"""A track's series and name."""
Learned = dict[TrackKey, dict[str, Sequence[int]]]
"""By unit the last time (µs) of each slot that can still matter."""

_CAPACITY = 30_000
"""Units of all tracks in one generation: with an id of 40 characters and five slots, about 8 MB for both."""


@dataclass(slots=True)
class _Table:
    """Places of units, and what is known of each: `limits` has a row a place and a column a slot."""

    places: dict[str, int] = field(default_factory=dict)
    limits: npt.NDArray[np.int64] = field(default_factory=lambda: np.empty((0, 0), dtype=np.int64))

    def put(self, unit: str, limits: Sequence[int] | npt.NDArray[np.int64]) -> None:
        place = self.places.setdefault(unit, len(self.places))
        if place >= len(self.limits):
            grown = np.empty((max(64, 2 * len(self.limits)), len(limits)), dtype=np.int64)
            grown[: len(self.limits)] = self.limits if len(self.limits) else 0
            self.limits = grown
        self.limits[place] = limits


class KnownUnits:
    """Two generations: a unit is forgotten when it was not met in all the time that the younger one took to fill.

    Not for two threads at once: a shard's batches come one after the other.
    """

    def __init__(self, capacity: int = _CAPACITY) -> None:
        self._capacity = capacity
        self._young: dict[TrackKey, _Table] = {}
        self._old: dict[TrackKey, _Table] = {}

    def __len__(self) -> int:
        return sum(len(t.places) for t in chain(self._young.values(), self._old.values()))

    def clear(self) -> None:
        self._young, self._old = {}, {}

    def find(self, key: TrackKey, units: Sequence[str]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Each unit's row of the limits that are returned too (one column a slot); -1 where it is not known."""
        young, old = self._young.setdefault(key, _Table()), self._old.get(key)
        if old is not None and old.places:
            places = young.places
            for unit in units:
                if unit not in places and unit in old.places:
                    young.put(unit, old.limits[old.places[unit]])
        found = np.fromiter(map(young.places.get, units, repeat(-1)), dtype=np.int64, count=len(units))
        return found, young.limits

    def learn(self, learned: Learned) -> None:
        """Of committed rows only."""
        for key, units in learned.items():
            table = self._young.setdefault(key, _Table())
            for unit, limits in units.items():
                table.put(unit, limits)
        if sum(len(t.places) for t in self._young.values()) > self._capacity:
            self._young, self._old = {}, self._young


def fresh(
    found: npt.NDArray[np.int64], limits: npt.NDArray[np.int64], slot: int, times: npt.NDArray[np.int64]
) -> npt.NDArray[np.bool_]:
    """Which events, of the units found and at those times (µs), may tell something new."""
    if not len(limits):
        return np.ones(len(times), dtype=np.bool_)
    told: npt.NDArray[np.bool_] = (found < 0) | (times <= limits[found, slot])
    return told
