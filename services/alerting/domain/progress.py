"""How far each shard of each metric or experiment has come."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from shared.messages import MetricUpdate


class SubjectShard(NamedTuple):
    organisation: str
    subject_kind: str
    subject: str
    shard: int


@dataclass(frozen=True, slots=True)
class Reached:
    """The highest revision of any series, and the watermark that came with it (microseconds UTC)."""

    revision: int
    watermark: int


class Noted(Enum):
    ADVANCED = "advanced"
    UNCHANGED = "unchanged"
    NOT_TRACKED = "not_tracked"
    """One more subject and shard than may be tracked."""


class Progress:
    """Guaranteed: at most `limit` subjects and shards, and none ever goes back."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._reached: dict[SubjectShard, Reached] = {}

    def __len__(self) -> int:
        return len(self._reached)

    def __iter__(self) -> Iterator[tuple[SubjectShard, Reached]]:
        return iter(self._reached.items())

    def note(self, update: MetricUpdate) -> Noted:
        subject = SubjectShard(update.organisation, update.subject_kind, update.subject, update.shard)
        known = self._reached.get(subject)
        if known is None and len(self._reached) >= self._limit:
            return Noted.NOT_TRACKED
        if known is not None and update.revision <= known.revision:
            return Noted.UNCHANGED
        self._reached[subject] = Reached(update.revision, update.watermark)
        return Noted.ADVANCED
