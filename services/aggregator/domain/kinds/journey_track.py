"""What is kept of a journey's unit, and what it gives to windows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from services.aggregator.domain.facts import Course, Facts, Moments, cut, forgotten
from services.aggregator.domain.kinds.kind import Component, Part
from services.aggregator.domain.outcomes import COMPLETED, Rule, outcome_of
from services.aggregator.domain.tracks import PER_MICROSECOND, Parts, Share, Slot, Summary, Unit, minute_of, prefixed


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
    kept: tuple[Part, ...] = field(init=False)
    """Where a unit can count beside its outcome."""
    sketched: tuple[bool, ...] = field(init=False)
    """Of each, whether there is a histogram of it."""

    name = ""
    component: Component = "outcome"

    def __post_init__(self) -> None:
        kept: list[tuple[Part, bool]] = [(("step", name), False) for name, _ in self.steps]
        kept += [(("duration", d.name), bool(d.percentiles)) for d in self.durations]
        kept += [(("within", lead), False) for w in self.within for lead in (f"{w.name}|of", w.name)]
        object.__setattr__(self, "kept", tuple(part for part, _ in kept))
        object.__setattr__(self, "sketched", tuple(sketched for _, sketched in kept))

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
        for (component, lead), value, sketched in zip(self.kept, self._given(moments), self.sketched, strict=True):
            if value is not None:
                shares.append(Share(component, minute, prefixed(lead, group), value, sketched))
        return shares

    def parts(self, facts: Facts, moments: Moments) -> Parts | None:
        return Parts(tuple(self._given(moments))) if self.kept else None

    def _given(self, moments: Moments) -> Iterator[int | None]:
        """What the unit gives to each of `kept`: how long that took, 0 where nothing is timed; None: nothing."""
        for _, point in self.steps:
            yield None if moments[point] is None else 0
        for duration in self.durations:
            yield _took(moments[duration.begin], moments[duration.end])
        for within in self.within:
            of = moments[within.of]
            yield None if of is None else 0
            yield _took(of, moments[within.reached])

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


def _took(first: int | None, last: int | None) -> int | None:
    """Scaled ms."""
    return None if first is None or last is None else (last - first) * PER_MICROSECOND
