"""Journeys: from a unit's start to what became of it. What is known of a unit only ever grows, so order is nothing.

    start ───── navigate ───── complete                → completed, whenever the complete comes
    start ───── navigate ───── dead | deadline passes  → abandoned_after_navigation
    start ──────────────────── deadline passes         → abandoned_timeout
    start ───── …                                      → in_progress

So it is unless the definition has rules of its own. A journey counts in the minute of its earliest start. What is
learned later moves it: minus one where it stood, plus one where it stands, so the sums over shards are right
whichever shard learns what.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from services.aggregator.domain.facts import Course, Point
from services.aggregator.domain.kinds.journey_track import Duration, JourneyTrack, Within
from services.aggregator.domain.kinds.kind import Cell, Component, Part, Reading, aggregate, percentile_of
from services.aggregator.domain.kinds.related import (
    CorrelatedTrack,
    FirstAttemptTrack,
    parse_at_least,
    parse_correlates,
    parse_first_attempt,
)
from services.aggregator.domain.kinds.stages import Step, parse_name, parse_stage, parse_steps, parse_unit
from services.aggregator.domain.outcomes import (
    COMPLETED,
    IN_PROGRESS,
    MAX_SPAN,
    Places,
    default_rules,
    parse_rules,
)
from services.aggregator.domain.specs import COMMON, MOST_AGGREGATIONS, optional_filter, refuse_unknown
from services.aggregator.domain.times import parse_span
from services.aggregator.domain.tracks import (
    MILLISECONDS_SCALE,
    ORIGIN,
    Column,
    Track,
    slot_of,
)
from shared.clock import DAY, SECOND
from shared.definition_error import DefinitionError

DEFAULT_TIMEOUT = 1_800 * SECOND
MAX_TIMEOUT = 90 * DAY
MAX_STEPS = 30
MAX_PARTS = 20

STEP_PREFIX = "reached:"
"""`reached:upload` is how many journeys reached the step `upload`."""
ABANDONED = "abandoned"
"""Outcomes whose names begin with it count as abandoned."""

_FIELDS = COMMON | {
    "unit",
    "filter",
    "start",
    "complete",
    "navigate",
    "dead",
    "steps",
    "timeout",
    "outcomes",
    "durations",
    "within",
    "correlate",
    "first_attempt",
}
_STAGES = ("start", "complete", "navigate", "dead")


@dataclass(frozen=True, slots=True)
class Journey:
    """What a journey metric asks of each unit, and of the units that its own are part of."""

    track: JourneyTrack
    correlates: tuple[CorrelatedTrack, ...] = ()
    first_attempt: FirstAttemptTrack | None = None

    type = "journey"
    scale = MILLISECONDS_SCALE

    @property
    def tracks(self) -> tuple[Track, ...]:
        return (self.track, *self.correlates, *([self.first_attempt] if self.first_attempt else []))

    @property
    def components(self) -> tuple[Component, ...]:
        found: list[Component] = ["outcome"]
        if self.track.steps:
            found.append("step")
        if self.track.durations:
            found.append("duration")
        if self.track.within:
            found.append("within")
        if self.correlates:
            found.append("correlated")
        if any(correlate.distinct for correlate in self.correlates):
            found.append("matched")
        if self.first_attempt:
            found.append("first_attempt")
        return tuple(found)

    @property
    def outcomes(self) -> tuple[str, ...]:
        """In the order of their rules."""
        return (*(rule.name for rule in self.track.rules), IN_PROGRESS)

    @property
    def aggregations(self) -> tuple[str, ...]:
        track = self.track
        rates = [f"share:{name}" for name in self.outcomes[:-1] if name not in _DEFAULT_OUTCOMES]
        abandons = any(name.startswith(ABANDONED) for name in self.outcomes)
        return (
            "started",
            *self.outcomes,
            *((ABANDONED, "abandonment_rate") if abandons else ()),
            *(("completion_rate",) if COMPLETED in self.outcomes else ()),
            *(("avg_duration",) if COMPLETED in self.outcomes and track.complete is not None else ()),
            "count",
            *rates,
            *(STEP_PREFIX + name for name, _ in track.steps),
            *(f"{a}:{d.name}" for d in track.durations for a in ("count", "avg", *d.percentiles)),
            *(f"{a}:{w.name}" for w in track.within for a in ("within", "within_rate")),
            *(f"{a}:{c.name}" for c in self.correlates for a in ("with", "with_rate", "avg_time")),
            *(f"{a}:{c.name}" for c in self.correlates if c.distinct for a in ("matched", "matched_rate")),
            *(["first_attempts", *(f"first_attempt:{o}" for o in self.outcomes)] if self.first_attempt else []),
            *(["first_attempt_success"] if self.first_attempt and COMPLETED in self.outcomes else []),
        )

    @property
    def readable(self) -> tuple[str, ...]:
        return self.aggregations

    def can_read(self, aggregation: str) -> bool:
        return aggregation in self.aggregations

    def read(self, cells: Mapping[Part, Cell], wanted: Iterable[str]) -> list[Reading]:
        """Rates are of resolved journeys: what is in progress can still be anything."""
        outcomes = {name: cells.get(("outcome", name), Cell()) for name in self.outcomes}
        completed = outcomes.get(COMPLETED, Cell())
        abandoned = sum(cell.n for name, cell in outcomes.items() if name.startswith(ABANDONED))
        started = sum(cell.n for cell in outcomes.values())
        resolved = started - outcomes[IN_PROGRESS].n
        values: dict[str, float | int | None] = {
            **{name: cell.n for name, cell in outcomes.items()},
            **{f"share:{name}": _share(cell.n, resolved) for name, cell in outcomes.items()},
            "started": started,
            "count": started,
            ABANDONED: abandoned,
            "abandonment_rate": _share(abandoned, resolved),
            "completion_rate": _share(completed.n, resolved),
            "avg_duration": aggregate(completed, "avg", self.scale),
        }
        counts = dict.fromkeys(wanted, started)
        for name, _ in self.track.steps:
            values[STEP_PREFIX + name] = cells.get(("step", name), Cell()).n
        for duration in self.track.durations:
            cell = cells.get(("duration", duration.name), Cell())
            for aggregation in ("count", "avg", *duration.percentiles):
                values[f"{aggregation}:{duration.name}"] = aggregate(cell, aggregation, self.scale)
                counts[f"{aggregation}:{duration.name}"] = cell.n
        for within in self.track.within:
            reached, of = (cells.get(("within", lead), Cell()).n for lead in (within.name, f"{within.name}|of"))
            values[f"within:{within.name}"] = reached
            values[f"within_rate:{within.name}"] = _share(reached, of)
            counts[f"within:{within.name}"] = counts[f"within_rate:{within.name}"] = of
        for correlate in self.correlates:
            cell = cells.get(("correlated", correlate.name), Cell())
            matched = cells.get(("matched", correlate.name), Cell())
            values[f"with:{correlate.name}"] = cell.n
            values[f"with_rate:{correlate.name}"] = _share(cell.n, started)
            values[f"avg_time:{correlate.name}"] = aggregate(cell, "avg", self.scale)
            counts[f"avg_time:{correlate.name}"] = cell.n
            values[f"matched:{correlate.name}"] = matched.n
            values[f"matched_rate:{correlate.name}"] = _share(matched.n, started)
        if self.first_attempt:
            firsts = {name: cells.get(("first_attempt", name), Cell()).n for name in self.outcomes}
            attempts = sum(firsts.values())
            values |= {f"first_attempt:{name}": n for name, n in firsts.items()}
            values["first_attempts"] = attempts
            resolved = attempts - firsts[IN_PROGRESS]
            values["first_attempt_success"] = _share(firsts.get(COMPLETED, 0), resolved)
            counts |= {f"first_attempt:{name}": attempts for name in firsts}
            counts |= {"first_attempts": attempts, "first_attempt_success": resolved}
        return [Reading(a, values[a], counts[a]) for a in wanted]


_DEFAULT_OUTCOMES = (COMPLETED, "abandoned_after_navigation", "abandoned_timeout")


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def parse_journey(spec: Mapping[str, Any]) -> Journey:
    """Raises DefinitionError, which names the faulty place."""
    refuse_unknown(spec, _FIELDS, "spec")
    unit = parse_unit(spec.get("unit"), "spec.unit")
    for name in ("start", "complete"):
        if spec.get(name) is None and (name == "start" or spec.get("outcomes") is None):
            raise DefinitionError(f"spec.{name}", "a journey needs the events that start it and that complete it")
    where = optional_filter(spec.get("filter"), "spec.filter")
    selectors = {name: parse_stage(spec[name], f"spec.{name}") for name in _STAGES if spec.get(name) is not None}
    steps = _steps(spec.get("steps"))
    selectors.update((step.name, step.select) for step in steps)
    slots = {name: i for i, name in enumerate(selectors)}
    places = Places(slots)
    rules = (
        default_rules(slots)
        if spec.get("outcomes") is None
        else parse_rules(spec["outcomes"], "spec.outcomes", places)
    )
    durations, within = _durations(spec.get("durations"), places), _withins(spec.get("within"), places)
    timeout = DEFAULT_TIMEOUT
    if spec.get("timeout") is not None:
        timeout = parse_span(spec["timeout"], "spec.timeout", most=MAX_TIMEOUT)
    track = JourneyTrack(
        unit=unit,
        slots=tuple(
            slot_of(select, where, ORIGIN if i == 0 else (Column.EVENT,) if i in places.counted else ())
            for i, select in enumerate(selectors.values())
        ),
        course=Course(len(slots), places.points),
        timeout=timeout,
        rules=rules,
        complete=slots.get("complete"),
        steps=tuple((step.name, slots[step.name]) for step in steps),
        durations=durations,
        within=within,
    )
    return Journey(
        track,
        parse_correlates(spec.get("correlate"), track),
        parse_first_attempt(spec.get("first_attempt"), track),
    )


def _steps(spec: object) -> tuple[Step, ...]:
    if spec is None:
        return ()
    return parse_steps(spec, "spec.steps", least=0, most=MAX_STEPS, taken=frozenset(_STAGES))


def _durations(spec: object, places: Places) -> tuple[Duration, ...]:
    found: list[Duration] = []
    for place, one in _parts(spec, "spec.durations", {"name", "from", "to", "percentiles"}):
        name = parse_name(one.get("name"), f"{place}.name", {d.name for d in found})
        begin = places.slot(one.get("from", "start"), f"{place}.from")
        end = places.later_slot(one.get("to"), f"{place}.to")
        if begin == end:
            raise DefinitionError(f"{place}.to", "must be another step")
        asked = one.get("percentiles", [])
        if not isinstance(asked, list) or len(asked) > MOST_AGGREGATIONS or not all(map(_is_percentile, asked)):
            raise DefinitionError(f"{place}.percentiles", "must be a list such as [p50, p95]")
        found.append(Duration(name, begin, places.add(Point(end, after=begin)), tuple(dict.fromkeys(asked))))
    return tuple(found)


def _is_percentile(name: object) -> bool:
    return isinstance(name, str) and percentile_of(name) is not None


def _withins(spec: object, places: Places) -> tuple[Within, ...]:
    found: list[Within] = []
    for place, one in _parts(spec, "spec.within", {"name", "step", "of", "within", "at_least"}):
        name = parse_name(one.get("name"), f"{place}.name", {w.name for w in found})
        step = places.later_slot(one.get("step"), f"{place}.step")
        of = places.slot(one.get("of", "start"), f"{place}.of")
        span = parse_span(one.get("within"), f"{place}.within", most=MAX_SPAN)
        at_least = parse_at_least(one, place)
        point = Point(step, after=of, strictly=True, nth=at_least, within=span, of=of)
        found.append(Within(name, of, places.add(point)))
    return tuple(found)


def _parts(spec: object, place: str, known: set[str]) -> Iterable[tuple[str, Mapping[str, Any]]]:
    if spec is None:
        return
    if not isinstance(spec, list) or len(spec) > MAX_PARTS:
        raise DefinitionError(place, f"must be a list of at most {MAX_PARTS}")
    for i, one in enumerate(spec):
        if not isinstance(one, Mapping):
            raise DefinitionError(f"{place}[{i}]", f"must be an object with {', '.join(sorted(known))}")
        refuse_unknown(one, known, f"{place}[{i}]")
        yield f"{place}[{i}]", one
