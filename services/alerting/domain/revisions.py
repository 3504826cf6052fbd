"""The latest update of every series of metrics, in bounded memory.

Updates may come again (a new owner of a shard repeats what it cannot know to be delivered) and, from a restored or
replayed topic, out of order. A shard's revisions only rise, so of two updates of one series the higher one holds.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from msgspec.structs import replace

from shared.clock import DAY, HOUR
from shared.messages import MetricUpdate
from shared.statistics import distinct, sketch


class Verdict(Enum):
    """What became of an update; the value is its metric label."""

    NEWER = "newer"
    REPEAT = "repeat"
    STALE = "stale"
    EXPIRED = "expired"
    """Its window is too old for any rule."""
    DISPLACING = "displacing"
    """Newer, and kept in place of the oldest window: no more series may be kept."""
    OVERFLOW = "overflow"
    """Not kept: no more series may be, and none of those kept is older."""
    UNWATCHED = "unwatched"
    """An experiment's total: no rule and no breaker reads it, and it would never expire."""


class UnsoundUpdateError(Exception):
    """An update whose parts are no numbers or no sketch: only another program can have sent it."""


_SUM = re.compile(r"-?[0-9]{1,60}")


def check_update(update: MetricUpdate) -> None:
    """Raises UnsoundUpdateError."""
    if not _SUM.fullmatch(update.sum):
        raise UnsoundUpdateError("the sum is no number")
    if "\x00" in update.series or "\\u0000" in update.series:
        raise UnsoundUpdateError("the series holds U+0000")
    if not (sketch.is_encoded(update.sketch) or distinct.is_encoded(update.sketch)):
        raise UnsoundUpdateError("the sketch is cut off")


class SeriesKey(NamedTuple):
    """What one update is kept of: one shard of one of a metric's series in one window."""

    organisation: str
    subject: str
    version: int
    series: str
    window_start: int
    shard: int

    @classmethod
    def of(cls, update: MetricUpdate) -> SeriesKey:
        return cls(
            update.organisation,
            update.subject,
            update.version,
            update.series,
            update.window_start,
            update.shard,
        )


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much is kept: `series` at most, of windows that started at most `age` microseconds ago."""

    series: int = 100_000
    age: int = DAY + HOUR
    """The longest window of a rule, and an hour for an aggregator that is behind."""


class LatestUpdates:
    """Guaranteed: `len()` never exceeds the bound, and a kept revision never falls."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._latest: dict[SeriesKey, MetricUpdate] = {}
        self._windows: dict[int, list[SeriesKey]] = {}
        """What each window holds, so that the oldest can go; streaks (window 0) are in none."""

    def __len__(self) -> int:
        return len(self._latest)

    def __iter__(self) -> Iterator[MetricUpdate]:
        return iter(self._latest.values())

    def apply(self, update: MetricUpdate, *, now: int) -> Verdict:
        """Keeps `update` if it is a metric's and the highest of its series; `now` in microseconds UTC.

        Sets of values are not kept: no rule reads them, and they are large.
        """
        if update.subject_kind != "metric":
            return Verdict.UNWATCHED
        if distinct.is_encoded(update.sketch):
            update = replace(update, sketch=b"")
        if self._expired(update.window_start, now):
            return Verdict.EXPIRED
        key = SeriesKey.of(update)
        known = self._latest.get(key)
        if known is not None:
            if update.revision <= known.revision:
                return Verdict.REPEAT if update.revision == known.revision else Verdict.STALE
            self._latest[key] = update
            return Verdict.NEWER
        verdict = Verdict.NEWER
        if len(self._latest) >= self._bounds.series:
            oldest = min(self._windows, default=None)
            if oldest is None or 0 < update.window_start <= oldest:
                return Verdict.OVERFLOW
            self._forget(oldest)
            verdict = Verdict.DISPLACING
        self._latest[key] = update
        if update.window_start:
            self._windows.setdefault(update.window_start, []).append(key)
        return verdict

    def forget_expired(self, *, now: int) -> int:
        """Makes room; returns how many series went."""
        before = len(self._latest)
        for window in [start for start in self._windows if self._expired(start, now)]:
            self._forget(window)
        return before - len(self._latest)

    def _forget(self, window: int) -> None:
        for key in self._windows.pop(window):
            del self._latest[key]

    def _expired(self, window_start: int, now: int) -> bool:
        """Streaks (window 0) never expire."""
        return 0 < window_start < now - self._bounds.age
