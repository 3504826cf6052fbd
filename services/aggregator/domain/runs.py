"""Runs: what is known of how things ended, so that failures in a row can be told whatever order they came in."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum


@dataclass(frozen=True, slots=True)
class Run:
    """`latest_success` in µs, 0 if there is none; `failures` are the latest times after it, ascending; `n` counts
    all selected events."""

    latest_success: int = 0
    failures: tuple[int, ...] = ()
    n: int = 0


def joined(runs: Iterable[Run], length: int) -> Run:
    """The run of all their events together: the order of runs, and how events were cut into them, does not matter.

    At one and the same instant the success is taken to be the later.
    """
    found = list(runs)
    success = max((run.latest_success for run in found), default=0)
    failures = sorted(time for run in found for time in run.failures if time > success)
    return Run(success, tuple(failures[-length:]), sum(run.n for run in found))


class Ending(IntEnum):
    FAILURE = 0
    SUCCESS = 1
    NEITHER = 2


def as_value(run: Run, time: int) -> int:
    """A single event's run at `time` (µs) as one number, as units of experiments give them."""
    ending = Ending.FAILURE if run.failures else Ending.SUCCESS if run.latest_success else Ending.NEITHER
    return time << 2 | ending


def of_values(values: Iterable[int], length: int) -> Run:
    """The run of such numbers, without how many there are."""
    ended = [(value >> 2, value & 3) for value in values]
    success = max((time for time, ending in ended if ending == Ending.SUCCESS), default=0)
    failures = sorted(time for time, ending in ended if ending == Ending.FAILURE and time > success)
    return Run(success, tuple(failures[-length:]))
