"""What a shard remembers of units: from when on events of each kind tell nothing new of them.

Facts only grow, so an event that told nothing new against an earlier state of its row tells nothing new now. Most
events of busy units are of this sort: they need not go to the database at all. Only what was committed is kept here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, repeat
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from services.aggregator.domain.facts import Entry
from services.aggregator.domain.plan import WindowSeries

TrackKey = tuple[WindowSeries, str]
"""A track's series and name."""


class Remembered(NamedTuple):
    """The last time (µs) of each slot that can still matter, and more numbers if the track keeps any.

    `origin` is the earliest start, where the track keeps that.
    """

    row: Sequence[int] | npt.NDArray[np.int64]
    origin: Entry | None = None


@dataclass(frozen=True, slots=True, eq=False)
class ManyRemembered(Mapping[str, Remembered]):
    """A row of `rows` and an origin for each of the units."""

    units: Sequence[str]
    rows: npt.NDArray[np.int64]
    origins: Sequence[Entry | None]

    def __getitem__(self, unit: str) -> Remembered:
        place = self.units.index(unit)
        return Remembered(self.rows[place], self.origins[place])

    def __iter__(self) -> Iterator[str]:
        return iter(self.units)

    def __len__(self) -> int:
        return len(self.units)


Learned = list[tuple[TrackKey, Mapping[str, Remembered]]]
"""By unit; what is later overrides what is earlier."""

_CAPACITY = 30_000
"""Units of all tracks in one generation: with an id of 40 characters and five slots, about 8 MB for both.

Where rows hold moments too (`staged`), about 30 MB.
"""


@dataclass(slots=True)
class _Table:
    """Places of units, and what is known of each: `rows` has a row a place, `origins` an entry."""

    places: dict[str, int] = field(default_factory=dict)
    rows: npt.NDArray[np.int64] = field(default_factory=lambda: np.empty((0, 0), dtype=np.int64))
    origins: npt.NDArray[np.object_] = field(default_factory=lambda: np.empty(0, dtype=np.object_))

    def find(self, units: Sequence[str]) -> npt.NDArray[np.int64]:
        """-1 for those that are not here."""
        return np.fromiter(map(self.places.get, units, repeat(-1)), dtype=np.int64, count=len(units))

    def put_all(self, known: ManyRemembered) -> None:
        places = self.find(known.units)
        for i in np.flatnonzero(places < 0).tolist():
            places[i] = self.places.setdefault(known.units[i], len(self.places))
        width = known.rows.shape[1]
        self._make_room(width)
        self.rows[places, :width] = known.rows
        self.rows[places, width:] = 0
        self.origins[places] = np.fromiter(known.origins, dtype=np.object_, count=len(places))

    def put(self, unit: str, known: Remembered) -> None:
        """A row that is shorter than others is filled up with zeros."""
        place = self.places.setdefault(unit, len(self.places))
        self._make_room(len(known.row))
        self.rows[place, : len(known.row)] = known.row
        self.rows[place, len(known.row) :] = 0
        self.origins[place] = known.origin

    def _make_room(self, width: int) -> None:
        size, had = self.rows.shape
        if len(self.places) > size or width > had:
            more = max(64, 2 * size, len(self.places)) if len(self.places) > size else size
            grown = np.zeros((more, max(width, had)), dtype=np.int64)
            grown[:size, :had] = self.rows
            self.rows = grown
            self.origins = np.concatenate([self.origins, np.full(more - size, None)])

    def at(self, unit: str) -> Remembered:
        place = self.places[unit]
        return Remembered(self.rows[place], self.origins[place])


class Found(NamedTuple):
    """Each unit's place in `rows` and `origins` (entries, or None); -1 where it is not known."""

    places: npt.NDArray[np.int64]
    rows: npt.NDArray[np.int64]
    origins: npt.NDArray[np.object_]


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

    def find(self, key: TrackKey, units: Sequence[str]) -> Found:
        young, old = self._young.setdefault(key, _Table()), self._old.get(key)
        found = young.find(units)
        if old is not None and old.places:
            for i in np.flatnonzero(found < 0).tolist():
                unit = units[i]
                if unit in old.places:
                    young.put(unit, old.at(unit))
                    found[i] = young.places[unit]
        return Found(found, young.rows, young.origins)

    def learn(self, learned: Learned) -> None:
        """Of committed rows only."""
        for key, units in learned:
            table = self._young.setdefault(key, _Table())
            if isinstance(units, ManyRemembered):
                table.put_all(units)
                continue
            for unit, known in units.items():
                table.put(unit, known)
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
