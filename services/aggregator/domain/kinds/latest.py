"""Units by their latest state: how many there are, and a number of each. A later state takes the earlier one's place.

A unit counts in the minute in which it began, with the group, value and filter of its latest state.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from services.aggregator.domain.expressions import parse_source
from services.aggregator.domain.facts import EVER, Facts, Moments
from services.aggregator.domain.kinds.kind import (
    MOMENTS,
    Cell,
    Component,
    Part,
    Reading,
    percentile_of,
)
from services.aggregator.domain.kinds.measured import parse_scale, reading_of_value
from services.aggregator.domain.kinds.stages import parse_unit
from services.aggregator.domain.latest import begin_of, latest, parse_times, state_of, trimmed
from services.aggregator.domain.specs import (
    COMMON,
    Selector,
    parse_aggregations,
    parse_selector,
    refuse_unknown,
)
from services.aggregator.domain.tracks import (
    ORIGIN,
    Parts,
    Share,
    Slot,
    StateColumn,
    Summary,
    Unit,
    minute_of,
    prefixed,
)
from services.aggregator.domain.turns import Limit, share_of
from shared.definition_error import DefinitionError

_FIELDS = COMMON | {"unit", "event", "filter", "begin", "order", "value", "scale", "aggregations"}
_COUNTED = ("count",)
_VALUED = ("count", "sum", "avg")
STANDING = "standing"
"""What a unit's row calls a state that counts."""


@dataclass(frozen=True, slots=True)
class LatestTrack:
    """One slot: of each event its group, ids and state."""

    unit: Unit
    slots: tuple[Slot, ...]
    valued: bool
    sketched: bool
    limits_of: tuple[tuple[str, Limit], ...]
    """Shares under or over a limit, by name."""

    name = ""
    component: Component = "value"
    kept: ClassVar[tuple[Part, ...]] = ()

    def moments(self, facts: Facts) -> Moments:
        return ()

    def limits(self, facts: Facts, moments: Moments) -> list[int]:
        return [EVER]

    def cut(self, facts: Facts, limits: Sequence[int]) -> Facts:
        return (trimmed(facts[0]),)

    def shares(self, facts: Facts, moments: Moments, expired: bool) -> list[Share]:
        (entries,) = facts
        if not entries:
            return []
        entry = latest(entries)
        state = state_of(entry)
        if not state.counts or (self.valued and state.value is None):
            return []
        minute, group = minute_of(begin_of(entries, state)), entry[1]
        shares = [Share("value", minute, group, state.value, self.sketched)]
        for name, limit in self.limits_of:
            within = state.value is not None and limit.low <= state.value <= limit.high
            shares.append(Share("share", minute, prefixed(name, group), limit.one if within else 0))
        return shares

    def parts(self, facts: Facts, moments: Moments) -> Parts | None:
        return None

    def deadline(self, moments: Moments) -> int | None:
        return None

    def summary(self, facts: Facts, moments: Moments, expired: bool) -> Summary:
        (entries,) = facts
        if not entries:
            return Summary()
        entry = latest(entries)
        state = state_of(entry)
        return Summary(begin_of(entries, state), entry[1:5], STANDING if state.counts else None, state.value)

    def settles(self, moments: Moments) -> int | None:
        """Never: a unit may change for ever."""
        return None

    def forget(self, facts: Facts, moments: Moments, before: int) -> Facts:
        """Nothing: a state that is sent again is to be known again."""
        return facts


@dataclass(frozen=True, slots=True)
class Latest:
    """What a metric of latest states asks of each unit."""

    track: LatestTrack
    scale: int
    aggregations: tuple[str, ...]

    type = "latest"

    @property
    def tracks(self) -> tuple[LatestTrack, ...]:
        return (self.track,)

    @property
    def components(self) -> tuple[Component, ...]:
        return ("value", "share") if self.track.limits_of else ("value",)

    @property
    def readable(self) -> tuple[str, ...]:
        always = (*_VALUED, *MOMENTS) if self.track.valued else _COUNTED
        return (*always, *(a for a in self.aggregations if a not in always))

    def can_read(self, aggregation: str) -> bool:
        """A histogram gives percentiles of any rank."""
        return aggregation in self.readable or (self.track.sketched and percentile_of(aggregation) is not None)

    def read(self, cells: Mapping[Part, Cell], wanted: Iterable[str]) -> list[Reading]:
        return [reading_of_value(cells, a, self.scale) for a in wanted]


def parse_latest(spec: Mapping[str, Any]) -> Latest:
    """Raises DefinitionError, which names the faulty place."""
    refuse_unknown(spec, _FIELDS, "spec")
    unit = parse_unit(spec.get("unit"), "spec.unit")
    select = parse_selector(spec, "spec")
    if select.events is None:
        raise DefinitionError("spec.event", "must be an event type or a list of them")
    begin, order = parse_times(spec, "spec")
    value = None if spec.get("value") is None else parse_source(spec["value"], "spec.value")
    scale = parse_scale(spec)
    asked = _aggregations(spec, scale, valued=value is not None)
    where = None if select.where is None else select
    column = StateColumn(begin, order, value, scale, where)
    track = LatestTrack(
        unit,
        (Slot(Selector(select.events, None), None, (*ORIGIN, column)),),
        valued=value is not None,
        sketched=any(percentile_of(a) is not None for a in asked),
        limits_of=tuple((a, limit) for a in asked if (limit := share_of(a, scale))),
    )
    return Latest(track, scale, asked)


def _aggregations(spec: Mapping[str, Any], scale: int, *, valued: bool) -> tuple[str, ...]:
    if not valued:
        return parse_aggregations(spec, _COUNTED, default=_COUNTED)
    return parse_aggregations(
        spec,
        (*_VALUED, *MOMENTS),
        default=_VALUED,
        family=lambda name: percentile_of(name) is not None or share_of(name, scale) is not None,
        more=", percentiles such as p95, or shares such as share<=24",
    )
