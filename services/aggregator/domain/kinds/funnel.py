"""Funnels: how far units come through stages that follow each other.

    upload ──── map ──────────── import                        within `window` of the first stage
      10:00      10:04    10:07 ✗ "bad mapping"    …           reached upload and map, dropped off by the reason

A unit counts once, in the minute of its earliest first stage. Each later stage is its earliest event at or after the
stage before: at one and the same instant events count as in order, and one event that fits two stages as both.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from services.aggregator.domain.facts import Course, Facts, Moments, Point, cut, forgotten
from services.aggregator.domain.filters import Filter
from services.aggregator.domain.kinds.kind import Cell, Component, Part, Reading, aggregate
from services.aggregator.domain.kinds.stages import parse_stage, parse_steps, parse_unit
from services.aggregator.domain.paths import parse_path
from services.aggregator.domain.specs import COMMON, optional_filter, refuse_unknown
from services.aggregator.domain.times import parse_span
from services.aggregator.domain.tracks import (
    MILLISECONDS_SCALE,
    ORIGIN,
    PER_MICROSECOND,
    Parts,
    Share,
    Slot,
    Summary,
    Text,
    Unit,
    minute_of,
    prefixed,
    slot_of,
)
from shared.clock import DAY
from shared.definition_error import DefinitionError

MAX_STAGES = 20
DEFAULT_WINDOW = DAY
MAX_WINDOW = 30 * DAY

_FIELDS = COMMON | {"unit", "filter", "stages", "window", "drop_off"}


@dataclass(frozen=True, slots=True)
class FunnelTrack:
    """A slot a stage, and one of reasons to drop off; `window` in µs."""

    unit: Unit
    slots: tuple[Slot, ...]
    names: tuple[str, ...]
    course: Course
    window: int

    name = ""
    component: Component = "stage"
    sketched: ClassVar[tuple[bool, ...]] = ()
    """Of none there is a histogram."""

    @property
    def kept(self) -> tuple[Part, ...]:
        """What parts are of."""
        return tuple(("stage", name) for name in self.names[1:])

    def moments(self, facts: Facts) -> Moments:
        return self.course.moments(facts)

    def limits(self, facts: Facts, moments: Moments) -> list[int]:
        """Reasons matter until the last stage: the window cannot end before what is later than that."""
        limits = self.course.limits(facts, moments)
        if len(facts) > len(self.names):
            end, begin = moments[-1], moments[0]
            if end is None and begin is not None:
                end = begin + self.window
            limits[-1] = limits[-1] if end is None else min(limits[-1], end)
        return limits

    def cut(self, facts: Facts, limits: Sequence[int]) -> Facts:
        return cut(facts, limits, self.course.max_kept)

    def shares(self, facts: Facts, moments: Moments, expired: bool) -> list[Share]:
        reached = [moment for moment in moments if moment is not None]
        if not reached:
            return []
        begin, group = reached[0], facts[0][0][1]
        minute = minute_of(begin)
        shares = [
            Share("stage", minute, prefixed(name, group), (moment - begin) * PER_MICROSECOND)
            for name, moment in zip(self.names, reached, strict=False)
        ]
        reason = self._reason(facts, reached)
        if reason is not None:
            lead = prefixed(f"{self.names[len(reached) - 1]}|{reason}", group)
            shares.append(Share("drop_off", minute, lead))
        return shares

    def parts(self, facts: Facts, moments: Moments) -> Parts | None:
        """Of each stage after the first when it was reached, and why the unit went no further.

        None without reasons: such rows are many, and their facts hold nothing but these times.
        """
        if len(facts) == len(self.names):
            return None
        reached = [moment for moment in moments if moment is not None]
        if not reached:
            return Parts()
        reason = self._reason(facts, reached)
        took = tuple((moment - reached[0]) * PER_MICROSECOND for moment in reached[1:])
        return Parts(took, () if reason is None else (reason,))

    def _reason(self, facts: Facts, reached: Sequence[int]) -> str | None:
        """The earliest from the last stage reached on, within the window; None also if there is no later stage."""
        if len(reached) == len(self.names) or len(facts) == len(self.names):
            return None
        end = reached[0] + self.window
        return next((entry[1] for entry in facts[-1] if reached[-1] <= entry[0] <= end), None)

    def deadline(self, moments: Moments) -> int | None:
        return None

    def summary(self, facts: Facts, moments: Moments, expired: bool) -> Summary:
        """The stage reached, and how long that took."""
        reached = [moment for moment in moments if moment is not None]
        if not reached:
            return Summary()
        took = (reached[-1] - reached[0]) * PER_MICROSECOND
        return Summary(reached[0], facts[0][0][1:], self.names[len(reached) - 1], took)

    def settles(self, moments: Moments) -> int | None:
        return None if moments[0] is None else moments[0] + self.window

    def forget(self, facts: Facts, moments: Moments, before: int) -> Facts:
        needed = self.course.needed_from(moments)
        if len(facts) > len(self.names) and moments[0] is not None:
            needed[-1] = moments[0]
        return forgotten(facts, before, needed)


@dataclass(frozen=True, slots=True)
class Funnel:
    """What a funnel metric asks of each unit."""

    track: FunnelTrack

    type = "funnel"
    scale = MILLISECONDS_SCALE

    @property
    def tracks(self) -> tuple[FunnelTrack, ...]:
        return (self.track,)

    @property
    def components(self) -> tuple[Component, ...]:
        return ("stage", "drop_off") if self._explained else ("stage",)

    @property
    def _explained(self) -> bool:
        return len(self.track.slots) > len(self.track.names)

    @property
    def aggregations(self) -> tuple[str, ...]:
        names = self.track.names
        return (
            "count",
            *(f"reached:{name}" for name in names),
            *(f"conversion:{name}" for name in names[1:]),
            "overall_conversion",
            *(f"avg_time:{name}" for name in names[1:]),
            *(f"dropped:{name}" for name in names[:-1]),
            *(["drop_off"] if self._explained else []),
        )

    @property
    def readable(self) -> tuple[str, ...]:
        return self.aggregations

    def can_read(self, aggregation: str) -> bool:
        return aggregation in self.aggregations

    def read(self, cells: Mapping[Part, Cell], wanted: Iterable[str]) -> list[Reading]:
        """`conversion:<stage>` is of the units of the stage before; `drop_off` has one reading a stage and reason."""
        names = self.track.names
        stages = [cells.get(("stage", name), Cell()) for name in names]
        first = stages[0].n
        values: dict[str, tuple[float | int | None, int]] = {
            "count": (first, first),
            "overall_conversion": (_share(stages[-1].n, first), first),
        }
        for name, stage in zip(names, stages, strict=True):
            values[f"reached:{name}"] = stage.n, first
        for name, before, stage in zip(names[1:], stages, stages[1:], strict=False):
            values[f"conversion:{name}"] = _share(stage.n, before.n), before.n
            values[f"avg_time:{name}"] = aggregate(stage, "avg", self.scale), stage.n
        for name, stage, after in zip(names, stages, stages[1:], strict=False):
            values[f"dropped:{name}"] = stage.n - after.n, stage.n
        readings: list[Reading] = []
        for aggregation in wanted:
            if aggregation != "drop_off":
                readings.append(Reading(aggregation, *values[aggregation]))
                continue
            for (component, lead), cell in sorted(cells.items(), key=lambda item: (-item[1].n, item[0])):
                if component == "drop_off" and cell.n:
                    readings.append(Reading(aggregation, cell.n, first, lead))
        return readings


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def parse_funnel(spec: Mapping[str, Any]) -> Funnel:
    """Raises DefinitionError, which names the faulty place."""
    refuse_unknown(spec, _FIELDS, "spec")
    unit = parse_unit(spec.get("unit"), "spec.unit")
    where = optional_filter(spec.get("filter"), "spec.filter")
    stages = parse_steps(spec.get("stages"), "spec.stages", least=2, most=MAX_STAGES)
    window = (
        DEFAULT_WINDOW if spec.get("window") is None else parse_span(spec["window"], "spec.window", most=MAX_WINDOW)
    )
    slots = [slot_of(stage.select, where, () if i else ORIGIN) for i, stage in enumerate(stages)]
    if spec.get("drop_off") is not None:
        slots.append(_reasons(spec["drop_off"], where))
    points = [Point(0), *(Point(i, after=i - 1, within=window) for i in range(1, len(stages)))]
    course = Course(len(slots), tuple(points))
    return Funnel(FunnelTrack(unit, tuple(slots), tuple(stage.name for stage in stages), course, window))


def _reasons(spec: object, where: Filter | None) -> Slot:
    place = "spec.drop_off"
    if not isinstance(spec, Mapping):
        raise DefinitionError(place, "must be an object with event, filter and reason")
    select = parse_stage(spec, place, also=frozenset({"reason"}))
    if spec.get("reason") is None:
        raise DefinitionError(f"{place}.reason", "must be a path such as properties.errorCode")
    path = parse_path(spec["reason"], f"{place}.reason")
    return slot_of(select, where, (Text(path, label=True),))
