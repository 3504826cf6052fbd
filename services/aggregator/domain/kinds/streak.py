"""Streaks: how many failures stand after the latest success. State commutes, so shards and replays just add.

f1  f2  S  f3  f4     latest success S, failures (f3, f4): a streak of two, whatever order the events came in
                              a success in another shard later than f4 ends it
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from services.aggregator.domain.event import DecodedEvent
from services.aggregator.domain.filters import Filter, parse_filter
from services.aggregator.domain.kinds.kind import Component, Reading
from services.aggregator.domain.runs import Run
from services.aggregator.domain.specs import COMMON, Selector, optional_filter, parse_selector, refuse_unknown
from shared.definition_error import DefinitionError

DEFAULT_LENGTH = 20
MAX_LENGTH = 100

_FIELDS = COMMON | {"event", "filter", "failure", "success", "length"}


@dataclass(frozen=True, slots=True)
class Streak:
    """What a streak metric asks of each event. Without `success`, what is no failure is a success."""

    select: Selector
    failure: Filter
    success: Filter | None
    length: int
    """How many of the latest failures are kept: longer streaks read as this long."""

    type = "streak"
    components: ClassVar[tuple[Component, ...]] = ("streak",)
    scale = 0
    aggregations = ("streak", "count")
    readable = aggregations

    def can_read(self, aggregation: str) -> bool:
        return aggregation in self.readable

    def read(self, run: Run, wanted: Iterable[str]) -> list[Reading]:
        """Of a group's run over all shards."""
        return [Reading(a, run.n if a == "count" else len(run.failures), run.n) for a in wanted]

    def run_of(self, event: DecodedEvent) -> Run:
        """What a selected event adds. A failure is never a success too."""
        if self.failure.matches(event):
            return Run(0, (event.time,), 1)
        if self.success is None or self.success.matches(event):
            return Run(event.time, (), 1)
        return Run(0, (), 1)


def parse_streak(spec: Mapping[str, Any]) -> Streak:
    """Raises DefinitionError, which names the faulty place."""
    refuse_unknown(spec, _FIELDS, "spec")
    if spec.get("failure") is None:
        raise DefinitionError("spec.failure", "a streak needs the filter that tells a failure")
    length = spec.get("length", DEFAULT_LENGTH)
    if type(length) is not int or not 1 <= length <= MAX_LENGTH:
        raise DefinitionError("spec.length", f"must be an integer from 1 to {MAX_LENGTH}")
    return Streak(
        select=parse_selector(spec, "spec"),
        failure=parse_filter(spec["failure"], "spec.failure"),
        success=optional_filter(spec.get("success"), "spec.success"),
        length=length,
    )
