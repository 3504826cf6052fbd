"""The cap on groups: the first `most` groups of a metric count under their own name, further ones as "other".

    offsets      1  2  3  4  5  6         most = 2
    group        a  b  a  c  b  d
    counts as    a  b  a  other  b  other            and `overflow` rises by two

First is who comes first in a shard's log, on each UTC day of event time. What was first is kept with the rows, so
batches, restarts and replays do not matter.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field

import msgspec

from services.aggregator.domain.plan import WindowSeries

OTHER = "other"

ALWAYS = 0
"""The day of what is not by day, such as a streak."""

MOST_KEPT = 200_000
"""Groups remembered by a shard's folder; what is not remembered is read again."""

Group = str
"""Canonical JSON array, with the part first where the series is led."""
SeriesDay = tuple[WindowSeries, int]
Place = tuple[int, Group]
"""UTC day since 1970, and group."""


@dataclass(frozen=True, slots=True, order=True)
class Scope:
    """What a cap counts in: a series, a UTC day since 1970, and the part where parts are the definition's own."""

    series: WindowSeries
    day: int
    part: str


@dataclass(slots=True)
class NewGroups:
    """What a batch found out: `added` is kept with it. With `unread` it must be folded again once that is read."""

    added: dict[Scope, set[Group]] = field(default_factory=dict)
    unread: set[SeriesDay] = field(default_factory=set)


class KnownGroups:
    """One shard's groups that count under their own name. The fold reads it; commits add to it."""

    def __init__(self, *, stored: bool) -> None:
        """`stored`: there may be groups in the database, which are read on demand. Else there are none."""
        self._stored = stored
        self._groups: OrderedDict[SeriesDay, dict[str, set[Group]]] = OrderedDict()
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def of(self, scope: Scope) -> Collection[Group] | None:
        """None if it must be read first."""
        parts = self._groups.get((scope.series, scope.day))
        if parts is None:
            return None if self._stored else ()
        self._groups.move_to_end((scope.series, scope.day))
        return parts.get(scope.part, ())

    def learn(self, series: WindowSeries, day: int, stored: Iterable[tuple[str, Group]]) -> None:
        """What the database holds: pairs of part and group."""
        parts: dict[str, set[Group]] = {}
        for part, group in stored:
            parts.setdefault(part, set()).add(group)
        self._size += sum(map(len, parts.values())) - self._count((series, day))
        self._groups[series, day] = parts

    def add(self, new: NewGroups) -> None:
        """After the commit that keeps them. Forgets what was longest unused, if it is too much."""
        for scope, groups in new.added.items():
            parts = self._groups.setdefault((scope.series, scope.day), {})
            known = parts.setdefault(scope.part, set())
            self._size += len(groups - known)
            known |= groups
            self._groups.move_to_end((scope.series, scope.day))
        while self._stored and self._size > MOST_KEPT:
            self._size -= sum(map(len, self._groups.popitem(last=False)[1].values()))

    def _count(self, key: SeriesDay) -> int:
        return sum(map(len, self._groups.get(key, {}).values()))


def overflowing(
    known: KnownGroups,
    new: NewGroups,
    series: WindowSeries,
    part: str,
    most: int,
    places: Iterable[Place],
    in_order: Callable[[], Iterable[Place]],
) -> set[Place]:
    """Which of a batch's places count as "other". Notes in `new` what is added, or what must be read first.

    `places` in any order; `in_order` gives them as the log has them, and is asked only where the cap is reached.
    """
    by_day: dict[int, set[Group]] = {}
    for day, group in places:
        by_day.setdefault(day, set()).add(group)
    over: set[Place] = set()
    for day, groups in by_day.items():
        scope = Scope(series, day, part)
        held = known.of(scope)
        if held is None:
            new.unread.add((series, day))
            continue
        unknown = groups.difference(held, new.added.get(scope, ()))
        room = most - len(held) - len(new.added.get(scope, ()))
        if len(unknown) > room:
            first = dict.fromkeys(g for d, g in in_order() if d == day and g in unknown) if room > 0 else {}
            admitted = set(list(first)[:room]) if room > 0 else set()
            over.update((day, group) for group in unknown - admitted)
            unknown = admitted
        if unknown:
            new.added.setdefault(scope, set()).update(unknown)
    return over


def other_group(names: int, part: str) -> Group:
    """The group whose every value is "other"; a part that is the definition's own keeps its name."""
    return msgspec.json.encode([part, *[OTHER] * (names - 1)] if part else [OTHER] * names).decode()
