"""What is kept of a journey's unit, and what it gives to windows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from services.aggregator.domain.facts import Course, Facts, Moments, cut, forgotten
from services.aggregator.domain.kinds.kind import Component
from services.aggregator.domain.outcomes import COMPLETED, Rule, outcome_of
from services.aggregator.domain.tracks import PER_MICROSECOND, Share, Slot, Summary, Unit, minute_of, prefixed


@dataclass(frozen=True, slots=True)
class Duration:
    """The time from the earliest `begin` to the earliest event of a step at or after it: two points' numbers."""

    name: str
    begin: int
    end: int
    percentiles: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Within:
    """Whether a step's event, or so many of them, came within a time after `of`: two points' numbers."""

    name: str
    of: int
    reached: int


@dataclass(frozen=True, slots=True)
class JourneyTrack:
    """A slot each for the start, the stages that are given, and the steps. `timeout` in µs."""

    unit: Unit
    slots: tuple[Slot, ...]
    course: Course
    timeout: int
    rules: tuple[Rule, ...]
    complete: int | None
    """The number of its slot, and so of its point."""
    steps: tuple[tuple[str, int], ...] = ()
    durations: tuple[Duration, ...] = ()
    within: tuple[Within, ...] = ()

    name = ""
    component: Component = "outcome"

    def moments(self, facts: Facts) -> Moments:
        return self.course.moments(facts)

    def limits(self, facts: Facts, moments: Moments) -> list[int]:
        return self.course.limits(facts, moments)

    def cut(self, facts: Facts, limits: Sequence[int]) -> Facts:
        return cut(facts, limits, self.course.max_kept)

    def shares(self, facts: Facts, moments: Moments, expired: bool) -> list[Share]:
        outcome, begin = outcome_of(self.rules, moments, expired), moments[0]
        if outcome is None or begin is None:
            return []
        minute, group = minute_of(begin), facts[0][0][1]
        shares = [Share("outcome", minute, prefixed(outcome, group), self._duration(outcome, moments))]
        for name, point in self.steps:
            if moments[point] is not None:
                shares.append(Share("step", minute, prefixed(name, group)))
        for duration in self.durations:
            first, last = moments[duration.begin], moments[duration.end]
            if first is not None and last is not None:
                took = (last - first) * PER_MICROSECOND
                lead = prefixed(duration.name, group)
                shares.append(Share("duration", minute, lead, took, sketched=bool(duration.percentiles)))
        for within in self.within:
            of, reached = moments[within.of], moments[within.reached]
            if of is not None:
                shares.append(Share("within", minute, prefixed(f"{within.name}|of", group)))
                if reached is not None:
                    took = (reached - of) * PER_MICROSECOND
                    shares.append(Share("within", minute, prefixed(within.name, group), took))
        return shares

    def deadline(self, moments: Moments) -> int | None:
        begin = moments[0]
        if begin is None or outcome_of(self.rules, moments, False) == outcome_of(self.rules, moments, True):
            return None
        return begin + self.timeout

    def summary(self, facts: Facts, moments: Moments, expired: bool) -> Summary:
        """The outcome, and if it is completed how long that took."""
        outcome = outcome_of(self.rules, moments, expired)
        if outcome is None:
            return Summary()
        return Summary(moments[0], facts[0][0][1:], outcome, self._duration(outcome, moments))

    def settles(self, moments: Moments) -> int | None:
        """Never: a completion counts whenever it comes."""
        return None

    def forget(self, facts: Facts, moments: Moments, before: int) -> Facts:
        return forgotten(facts, before, self.course.needed_from(moments))

    def _duration(self, outcome: str, moments: Moments) -> int | None:
        """Scaled ms from start to completion; 0 if clocks put the completion before the start."""
        begin = moments[0]
        end = None if self.complete is None else moments[self.complete]
        if outcome != COMPLETED or begin is None or end is None:
            return None
        return max(0, end - begin) * PER_MICROSECOND
