"""How long one key hashes: for ever, or for a day, a week or a month of UTC."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum

from shared.clock import from_datetime, to_datetime


class Rotation(Enum):
    NEVER = "never"
    DAY = "day"
    WEEK = "week"
    MONTH = "month"


FOR_EVER = 2**62
"""Microseconds UTC; later than anything."""


@dataclass(frozen=True, slots=True)
class Period:
    """From `start` until before `end`, in microseconds UTC. `name` tells it from all others of an organisation."""

    name: str
    start: int
    end: int


ALWAYS = Period(Rotation.NEVER.value, 0, FOR_EVER)


def period_of(rotation: Rotation, time: int) -> Period:
    """The one that `time` (microseconds UTC) falls in."""
    if rotation is Rotation.NEVER:
        return ALWAYS
    moment = to_datetime(time)
    start = datetime(moment.year, moment.month, moment.day, tzinfo=UTC)
    if rotation is Rotation.DAY:
        end, name = start + timedelta(days=1), f"{start:%Y-%m-%d}"
    elif rotation is Rotation.WEEK:
        start -= timedelta(days=start.weekday())
        end, name = start + timedelta(days=7), f"{start:%G-W%V}"
    else:
        start = start.replace(day=1)
        end, name = (start + timedelta(days=32)).replace(day=1), f"{start:%Y-%m}"
    return Period(name, from_datetime(start), from_datetime(end))


def present_and_next(rotation: Rotation, time: int) -> tuple[Period, ...]:
    """Those whose keys should be there at `time`."""
    present = period_of(rotation, time)
    return (present,) if present.end == FOR_EVER else (present, period_of(rotation, present.end))
