"""A metric's trailing window: the newest update of each minute, part and shard, and their running totals.

    clock t, width 3 min:        ──┤  m-3  │  m-2  │  m-1  │   m   ├──      m = the minute that holds t
                                       └─ counts from the minute that holds t − width on

An update replaces what its shard said of that minute before, so its effect on the totals is a difference: no order,
repeat or split changes the result. A window reaches back to the start of the minute that holds t − width.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum

from shared.clock import MINUTE
from shared.messages import MetricUpdate
from shared.statistics import sketch

Group = tuple[str | None, ...]


class Put(Enum):
    """What became of an update."""

    NEWER = "newer"
    KNOWN = "known"
    TOO_OLD = "too_old"
    TOO_MANY_GROUPS = "too_many_groups"


MAX_GROUPS = 1_000
"""Groups that one rule follows at most."""


@dataclass(slots=True)
class Totals:
    """Of one part (component or outcome) over shards and minutes; sum, min and max are scaled integers."""

    n: int = 0
    sum: int = 0
    min: int | None = None
    max: int | None = None
    counts: sketch.Counts = field(default_factory=dict)


@dataclass(slots=True)
class _Minute:
    updates: dict[tuple[str, int], tuple[str, MetricUpdate]] = field(default_factory=dict)
    """(series, shard) → the part it belongs to and its newest update."""
    counted: bool = False


class TrailingWindow:
    """Guaranteed: holds no minute that has left the window, and at most `MAX_GROUPS` groups."""

    def __init__(self, width: int, *, sketched: bool) -> None:
        self._width = width
        self._sketched = sketched
        self._minutes: dict[Group, dict[int, _Minute]] = {}
        self._totals: dict[Group, dict[str, Totals]] = {}
        self._now = 0

    def groups(self) -> Iterable[Group]:
        return list(self._minutes)

    def put(self, group: Group, part: str, update: MetricUpdate) -> Put:
        if update.window_start < self._begin():
            return Put.TOO_OLD
        if group not in self._minutes and len(self._minutes) >= MAX_GROUPS:
            return Put.TOO_MANY_GROUPS
        minute = self._minutes.setdefault(group, {}).setdefault(update.window_start, _Minute())
        minute.counted = minute.counted or update.window_start <= self._end()
        key = (update.series, update.shard)
        known = minute.updates.get(key)
        if known is not None and known[1].revision >= update.revision:
            return Put.KNOWN
        minute.updates[key] = (part, update)
        if minute.counted:
            if known is not None:
                self._add(group, *known, -1)
            self._add(group, part, update, 1)
        return Put.NEWER

    def advance(self, now: int) -> list[Group] | None:
        """Moves the window on to `now` (µs); the groups whose content changed by that, None within a minute."""
        if now // MINUTE <= self._now // MINUTE:
            self._now = max(self._now, now)
            return None
        self._now = max(self._now, now)
        begin, end = self._begin(), self._end()
        changed = []
        for group, minutes in list(self._minutes.items()):
            left = [start for start in minutes if start < begin]
            entered = [start for start, minute in minutes.items() if not minute.counted and begin <= start <= end]
            for start in left:
                minute = minutes.pop(start)
                if minute.counted:
                    self._count(group, minute, -1)
            for start in entered:
                minutes[start].counted = True
                self._count(group, minutes[start], 1)
            if left or entered:
                changed.append(group)
            if not minutes:
                del self._minutes[group]
                self._totals.pop(group, None)
        return changed

    def totals(self, group: Group, *, extremes: bool = False) -> Mapping[str, Totals]:
        """Part → totals in the window; min and max only if asked for, as they are searched anew."""
        parts = self._totals.get(group, {})
        if extremes:
            for totals in parts.values():
                totals.min = totals.max = None
            for minute in self._minutes.get(group, {}).values():
                if minute.counted:
                    for part, update in minute.updates.values():
                        _stretch(parts[part], update)
        return parts

    def _begin(self) -> int:
        """The start of the first minute that counts."""
        oldest = self._now - self._width
        return oldest - oldest % MINUTE

    def _end(self) -> int:
        """The last minute's start that counts: events may be a minute ahead of the clock."""
        return self._now + MINUTE

    def _count(self, group: Group, minute: _Minute, sign: int) -> None:
        for part, update in minute.updates.values():
            self._add(group, part, update, sign)

    def _add(self, group: Group, part: str, update: MetricUpdate, sign: int) -> None:
        totals = self._totals.setdefault(group, {}).setdefault(part, Totals())
        totals.n += sign * update.n
        totals.sum += sign * int(update.sum)
        if self._sketched and update.sketch:
            for bucket, count in sketch.decode(update.sketch).items():
                left = totals.counts.get(bucket, 0) + sign * count
                if left:
                    totals.counts[bucket] = left
                else:
                    totals.counts.pop(bucket, None)


def _stretch(totals: Totals, update: MetricUpdate) -> None:
    if update.min is not None and (totals.min is None or update.min < totals.min):
        totals.min = update.min
    if update.max is not None and (totals.max is None or update.max > totals.max):
        totals.max = update.max
