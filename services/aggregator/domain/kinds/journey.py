"""Journeys: from a unit's start to what became of it. What is known of a unit only ever grows, so order is nothing.

    start ───── navigate ───── complete                → completed, whenever the complete comes
    start ───── navigate ───── dead | deadline passes  → abandoned_after_navigation
    start ──────────────────── deadline passes         → abandoned_timeout
    start ───── …                                      → in_progress

A journey counts in the minute of its earliest start. What is learned later moves it: minus one where it stood, plus
one where it stands, so the sums over shards are right whichever shard learns what.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, cast

from services.aggregator.domain.event import DecodedEvent
from services.aggregator.domain.filters import Filter
from services.aggregator.domain.kinds.kind import Cell, Component, Part, Reading, aggregate
from services.aggregator.domain.specs import COMMON, Selector, optional_filter, parse_selector, refuse_unknown
from shared.clock import DAY, SECOND
from shared.definition_error import DefinitionError
from shared.messages import UnitKind

DEFAULT_TIMEOUT = 1_800 * SECOND
MAX_TIMEOUT = DAY
MAX_STEPS = 30
DURATION_SCALE = 6
"""Durations are milliseconds in units of 10**-6, as other values are by default."""
_PER_MICROSECOND = 1_000

AGGREGATIONS = (
    "started",
    "completed",
    "abandoned_after_navigation",
    "abandoned_timeout",
    "in_progress",
    "abandoned",
    "abandonment_rate",
    "completion_rate",
    "avg_duration",
    "count",
)
STEP_PREFIX = "reached:"
"""`reached:upload` is how many journeys reached the step `upload`."""

_FIELDS = COMMON | {"unit", "filter", "start", "complete", "navigate", "dead", "steps", "timeout"}
_UNITS = ("user", "session", "job")
_STEP = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_TIMEOUT = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,6})?)\s*([smh])")
_SECONDS = {"s": 1, "m": 60, "h": 3_600}


class Outcome(Enum):
    """What became of a journey that has started; the value is the first part of its windows' group."""

    COMPLETED = "completed"
    ABANDONED_AFTER_NAVIGATION = "abandoned_after_navigation"
    ABANDONED_TIMEOUT = "abandoned_timeout"
    IN_PROGRESS = "in_progress"


@dataclass(frozen=True, slots=True)
class Step:
    name: str
    select: Selector


@dataclass(frozen=True, slots=True)
class Journey:
    """What a journey metric asks of each event; `timeout` in µs."""

    unit: UnitKind
    where: Filter | None
    start: Selector
    complete: Selector
    navigate: Selector | None
    dead: Selector | None
    steps: tuple[Step, ...]
    timeout: int

    type = "journey"
    scale = DURATION_SCALE

    @property
    def components(self) -> tuple[Component, ...]:
        return ("outcome", "step") if self.steps else ("outcome",)

    @property
    def aggregations(self) -> tuple[str, ...]:
        return (*AGGREGATIONS, *(STEP_PREFIX + step.name for step in self.steps))

    @property
    def readable(self) -> tuple[str, ...]:
        return self.aggregations

    def can_read(self, aggregation: str) -> bool:
        return aggregation in self.aggregations

    def read(self, cells: Mapping[Part, Cell], wanted: Iterable[str]) -> list[Reading]:
        """Rates are of resolved journeys, those completed or abandoned: what is in progress can still be either."""
        outcomes = {o: cells.get(("outcome", o.value), Cell()) for o in Outcome}
        completed = outcomes[Outcome.COMPLETED]
        abandoned = outcomes[Outcome.ABANDONED_AFTER_NAVIGATION].n + outcomes[Outcome.ABANDONED_TIMEOUT].n
        started = sum(cell.n for cell in outcomes.values())
        resolved = completed.n + abandoned
        values: dict[str, float | int | None] = {
            **{o.value: cell.n for o, cell in outcomes.items()},
            "started": started,
            "count": started,
            "abandoned": abandoned,
            "abandonment_rate": abandoned / resolved if resolved else None,
            "completion_rate": completed.n / resolved if resolved else None,
            "avg_duration": aggregate(completed, "avg", self.scale),
        }
        for (component, name), cell in cells.items():
            if component == "step":
                values[STEP_PREFIX + name] = cell.n
        return [Reading(a, values.get(a, 0), started) for a in wanted]

    @property
    def candidates(self) -> Selector:
        """Takes every event that can matter."""
        kinds: set[str] = set()
        for select in self._selectors():
            if select.events is None:
                return Selector(None, self.where)
            kinds |= select.events
        return Selector(frozenset(kinds), self.where)

    def _selectors(self) -> list[Selector]:
        given = [self.start, self.complete, self.navigate, self.dead, *(s.select for s in self.steps)]
        return [select for select in given if select is not None]

    def facts_of(self, event: DecodedEvent) -> Facts | None:
        """What the event tells of its unit; None if nothing. A start is still without its group."""
        facts = Facts(
            started=event.time if _takes(self.start, event) else None,
            completed=event.time if _takes(self.complete, event) else None,
            navigated=event.time if _takes(self.navigate, event) else None,
            died=event.time if _takes(self.dead, event) else None,
            steps=sum(1 << i for i, step in enumerate(self.steps) if _takes(step.select, event)),
        )
        return None if facts == _NOTHING else replace(facts, seen=event.time)


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a unit: times (µs) of the earliest event of each kind, steps reached as a bit set.

    `group` is the canonical JSON array of the earliest start's group values; `expired` says that a shard's clock
    has passed the deadline; `seen` is when the latest event happened, by which rows without a start are forgotten.
    """

    started: int | None = None
    group: str = "[]"
    completed: int | None = None
    navigated: int | None = None
    died: int | None = None
    steps: int = 0
    expired: bool = False
    seen: int = 0

    def with_group(self, group: str) -> Facts:
        return replace(self, group=group)


_NOTHING = Facts()


def merged(a: Facts, b: Facts) -> Facts:
    """What both together tell. Of two starts at one instant the lesser group holds."""
    started, group = a.started, a.group
    if b.started is not None and (started is None or (b.started, b.group) < (started, group)):
        started, group = b.started, b.group
    return Facts(
        started=started,
        group=group,
        completed=_earlier(a.completed, b.completed),
        navigated=_earlier(a.navigated, b.navigated),
        died=_earlier(a.died, b.died),
        steps=a.steps | b.steps,
        expired=a.expired or b.expired,
        seen=max(a.seen, b.seen),
    )


def outcome_of(facts: Facts) -> Outcome | None:
    """None before the start is known: nothing counts until then."""
    if facts.started is None:
        return None
    if facts.completed is not None:
        return Outcome.COMPLETED
    if facts.navigated is not None and (facts.died is not None or facts.expired):
        return Outcome.ABANDONED_AFTER_NAVIGATION
    return Outcome.ABANDONED_TIMEOUT if facts.expired else Outcome.IN_PROGRESS


def duration_of(facts: Facts) -> int:
    """Scaled ms from start to completion; 0 if not completed, or if clocks put the completion before the start."""
    if facts.started is None or facts.completed is None:
        return 0
    return max(0, facts.completed - facts.started) * _PER_MICROSECOND


def _takes(select: Selector | None, event: DecodedEvent) -> bool:
    if select is None or (select.events is not None and event.event_type not in select.events):
        return False
    return select.where is None or select.where.matches(event)


def _earlier(a: int | None, b: int | None) -> int | None:
    return b if a is None else a if b is None else min(a, b)


def parse_journey(spec: Mapping[str, Any]) -> Journey:
    """Raises DefinitionError, which names the faulty place."""
    refuse_unknown(spec, _FIELDS, "spec")
    unit = spec.get("unit")
    if unit not in _UNITS:
        raise DefinitionError("spec.unit", f"must be one of {', '.join(_UNITS)}")
    for name in ("start", "complete"):
        if spec.get(name) is None:
            raise DefinitionError(f"spec.{name}", "a journey needs the events that start it and that complete it")
    return Journey(
        unit=cast(UnitKind, unit),
        where=optional_filter(spec.get("filter"), "spec.filter"),
        start=_stage(spec["start"], "spec.start"),
        complete=_stage(spec["complete"], "spec.complete"),
        navigate=_optional_stage(spec.get("navigate"), "spec.navigate"),
        dead=_optional_stage(spec.get("dead"), "spec.dead"),
        steps=_steps(spec.get("steps")),
        timeout=_timeout(spec.get("timeout")),
    )


def _stage(spec: object, place: str, *, also: frozenset[str] = frozenset()) -> Selector:
    """A stage names its events or tells them by a filter: all events at once would be no stage."""
    if isinstance(spec, Mapping):
        refuse_unknown(spec, {"event", "filter", *also}, place)
        if spec.get("event") is None and spec.get("filter") is None:
            raise DefinitionError(place, "needs event or filter")
    return parse_selector(spec, place)


def _optional_stage(spec: object, place: str) -> Selector | None:
    return None if spec is None else _stage(spec, place)


def _steps(spec: object) -> tuple[Step, ...]:
    if spec is None:
        return ()
    if not isinstance(spec, list) or len(spec) > MAX_STEPS:
        raise DefinitionError("spec.steps", f"must be a list of at most {MAX_STEPS} steps")
    steps: list[Step] = []
    for i, one in enumerate(spec):
        place = f"spec.steps[{i}]"
        select = _stage(one, place, also=frozenset({"name"}))
        name = one.get("name")
        if not isinstance(name, str) or not _STEP.fullmatch(name):
            raise DefinitionError(f"{place}.name", "1 to 64 letters, digits, '_', '.' or '-'")
        if name in [s.name for s in steps]:
            raise DefinitionError(f"{place}.name", f"{name} is there twice")
        steps.append(Step(name, select))
    return tuple(steps)


def _timeout(spec: object) -> int:
    """A number of seconds, or text such as 90s, 30m, 1.5h."""
    micros: float | None = None
    if spec is None:
        return DEFAULT_TIMEOUT
    if isinstance(spec, str) and (match := _TIMEOUT.fullmatch(spec)):
        micros = float(match[1]) * _SECONDS[match[2]] * SECOND
    elif isinstance(spec, int | float) and not isinstance(spec, bool):
        micros = spec * SECOND
    if micros is None or not 1 <= micros <= MAX_TIMEOUT:
        raise DefinitionError(
            "spec.timeout", "must be seconds, or text such as 90s, 30m or 2h; more than 0, at most 24h"
        )
    return round(micros)
