"""Time as a dependency: services take a `Clock`, tests hand in their own."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

Clock = Callable[[], int]
"""Returns the present as microseconds since the Unix epoch, UTC."""

SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NAIVE_EPOCH = datetime(1970, 1, 1)  # what naive moments can be subtracted from


def system_clock() -> int:
    """Microseconds since the epoch, by the wall clock."""
    return time.time_ns() // 1_000


def to_datetime(micros: int) -> datetime:
    """Exact for every representable instant (float seconds would lose microseconds)."""
    return _EPOCH + timedelta(microseconds=micros)


def from_datetime(moment: datetime) -> int:
    """A naive `moment` is taken as UTC."""
    since = moment - (_NAIVE_EPOCH if moment.tzinfo is None else _EPOCH)
    return since.days * DAY + since.seconds * SECOND + since.microseconds


def to_iso(micros: int) -> str:
    """RFC 3339 with a Z, e.g. `2026-01-02T03:04:05.000006Z`."""
    return to_datetime(micros).isoformat().replace("+00:00", "Z")
