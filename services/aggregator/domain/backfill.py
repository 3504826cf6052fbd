"""Decisions about a metric's history: the events that were folded before the metric was defined.

    offsets   begin ──────── from ─────────────────── to ───────────► live
              read only      folded by the backfill   folded as they came
              (ids, watermark)

What comes before `from` is read all the same: whether a later event is a duplicate or late depends on it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum

import numpy as np
import numpy.typing as npt

from services.aggregator.domain.batch import Verdicts
from services.aggregator.domain.kinds.measured import Measured
from services.aggregator.domain.kinds.streak import Streak
from services.aggregator.domain.metrics import Kind
from services.aggregator.domain.seen import WINDOW_MINUTES
from shared.clock import MINUTE

_SHARE = 4
"""One part in so many of the time, while live events wait; half of it while none does."""


class Placing(Enum):
    """Where a backfill's rows go."""

    APART = "hidden until all of it is counted"
    """Rows that are added up by readers can stand in series of their own."""
    MERGED = "shown as it grows"
    """What is known of a unit is one row: history merges into it batch by batch, in any order."""


def placing_of(kind: Kind) -> Placing:
    return Placing.APART if isinstance(kind, Measured | Streak) else Placing.MERGED


@dataclass(frozen=True, slots=True)
class Span:
    """The offsets of one shard that a backfill reads (`begin` to before `to`) and counts (`counted_from` on)."""

    begin: int
    counted_from: int
    to: int


def span_of(begin: int, since: int | None, live_from: int) -> Span:
    """`begin`: the log's first offset; `since`: the first offset that is asked for; `live_from`: the first one that
    was folded as it came. Empty where the log no longer holds anything below."""
    to = max(begin, live_from)
    return Span(begin, min(max(begin, begin if since is None else since), to), to)


def only_from(verdicts: Verdicts, offsets: npt.NDArray[np.int64], counted_from: int) -> Verdicts:
    """The verdicts, but events below `counted_from` are neither counted nor anything else."""
    if not len(offsets) or offsets[0] >= counted_from:
        return verdicts
    wanted = offsets >= counted_from
    return replace(
        verdicts,
        counted=verdicts.counted & wanted,
        duplicate=verdicts.duplicate & wanted,
        late=verdicts.late & wanted,
    )


def remembers_from(broker_time: int) -> int:
    """From which broker time (µs) on ids can make duplicates of what comes after a record of `broker_time`."""
    return max(0, broker_time // MINUTE - WINDOW_MINUTES) * MINUTE


def pause_after(took: float, live_waits: bool) -> float:
    """Seconds to leave to the live events after a batch that took so many."""
    return took * ((_SHARE - 1) if live_waits else 1)
