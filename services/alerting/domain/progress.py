"""How far each shard of each series has come, over all its windows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from shared.messages import MetricUpdate


class SeriesShard(NamedTuple):
    organisation: str
    subject_kind: str
    subject: str
    series: str
    shard: int


@dataclass(frozen=True, slots=True)
class Reached:
    """The highest revision of any window, and the watermark that came with it (microseconds UTC)."""

    revision: int
    watermark: int


class Noted(Enum):
    ADVANCED = "advanced"
    UNCHANGED = "unchanged"
    NOT_TRACKED = "not_tracked"
    """One more series and shard than may be tracked."""


class Progress:
    """Guaranteed: at most `limit` series and shards, and none ever goes back."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._reached: dict[SeriesShard, Reached] = {}

    def __len__(self) -> int:
        return len(self._reached)

    def __iter__(self) -> Iterator[tuple[SeriesShard, Reached]]:
        return iter(self._reached.items())

    def note(self, update: MetricUpdate) -> Noted:
        series = SeriesShard(update.organisation, update.subject_kind, update.subject, update.series, update.shard)
        known = self._reached.get(series)
        if known is None and len(self._reached) >= self._limit:
            return Noted.NOT_TRACKED
        if known is not None and update.revision <= known.revision:
            return Noted.UNCHANGED
        self._reached[series] = Reached(update.revision, update.watermark)
        return Noted.ADVANCED
