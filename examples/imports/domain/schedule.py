"""When the target of the imports fails: one fault after another, each as soon as the breaker has closed again."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

FIRST_FAULT = 0.25
"""Share of the run before the second act."""
LONG_RUN_SECONDS = 60.0
LONG_RUN_OPENINGS = 5
_OVERTIME_SECONDS = 30.0
_TYPICAL_CYCLE_SECONDS = 8.5
"""From a fault to the next: ten failures, the decision, the breaker's timeout, a probe that succeeds."""


class Next(Enum):
    """What follows after the breaker has closed."""

    FAULT = "another fault"
    ENOUGH = "the run is over and has seen what it has to"
    OUT_OF_TIME = "the run is long over, although it has not seen enough"


@dataclass(frozen=True, slots=True)
class Schedule:
    """Seconds since the start of the run. At least `openings` are wanted, even if they take longer than `end`."""

    first: float
    end: float
    openings: int

    @property
    def limit(self) -> float:
        """Nothing begins after it."""
        return self.end + _OVERTIME_SECONDS

    def next(self, now: float, *, openings: int, longest_cycle: float | None) -> Next:
        """`longest_cycle` is how long the longest one took so far, None before the first has ended."""
        if now > self.limit:
            return Next.OUT_OF_TIME
        if openings < self.openings:
            return Next.FAULT
        cycle = _TYPICAL_CYCLE_SECONDS if longest_cycle is None else longest_cycle
        return Next.FAULT if now + cycle <= self.end else Next.ENOUGH


def schedule_of(seconds: float) -> Schedule:
    """The schedule of a run of that length: a long one needs five openings, any other one."""
    openings = LONG_RUN_OPENINGS if seconds >= LONG_RUN_SECONDS else 1
    return Schedule(first=FIRST_FAULT * seconds, end=seconds, openings=openings)
