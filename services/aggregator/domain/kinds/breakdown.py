"""Breakdowns: how often each category was named, which share of all that is, and how that changes.

An event whose array names three categories counts once in each; one that is named twice counts twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from services.aggregator.domain.elements import parse_elements
from services.aggregator.domain.kinds.kind import Cell, Part, Reading
from services.aggregator.domain.kinds.measured import Measure, Measured
from services.aggregator.domain.specs import COMMON, parse_aggregations, parse_selector, refuse_unknown
from shared.definition_error import DefinitionError

STEADY = 0.1
"""A change of no more than this, up or down, is called stable."""

_FIELDS = COMMON | {"event", "filter", "of", "aggregations"}


@dataclass(frozen=True, slots=True)
class Breakdown(Measured):
    type = "breakdown"
    readable = ("count", "share", "trend")

    def can_read(self, aggregation: str) -> bool:
        return aggregation in self.readable

    def read(
        self, cells: Mapping[Part, Cell], wanted: Iterable[str], before: Mapping[Part, Cell] | None = None
    ) -> list[Reading]:
        """Each category's, the most frequent first. `before`: the preceding window of the same width and group."""
        counts = _counts(cells)
        total, wanted = sum(counts.values()), tuple(wanted)
        earlier = None if before is None else _counts(before)
        if "trend" in wanted:
            counts = {**dict.fromkeys(earlier or (), 0), **counts}
        return [
            self._reading(a, name, n, total, earlier)
            for name, n in sorted(counts.items(), key=lambda item: (-item[1], item[0]))
            for a in wanted
            if n or a == "trend"
        ]

    def _reading(self, aggregation: str, name: str, n: int, total: int, earlier: Mapping[str, int] | None) -> Reading:
        if aggregation == "count":
            return Reading(aggregation, n, n, part=name)
        if aggregation == "share":
            return Reading(aggregation, n / total if total else None, n, part=name)
        if earlier is None:
            return Reading(aggregation, None, n, part=name)
        known = earlier.get(name, 0)
        change = (n - known) / known if known else None
        return Reading(aggregation, change, n, part=name, trend=_word(n, known))


def _counts(cells: Mapping[Part, Cell]) -> dict[str, int]:
    return {name: cell.n for (component, name), cell in cells.items() if component == "category"}


def _word(now: int, before: int) -> str:
    """Exactly STEADY is still stable."""
    if abs(now - before) * 10 <= before * round(STEADY * 10):
        return "stable"
    return "increasing" if now > before else "decreasing"


def parse_breakdown(spec: Mapping[str, Any]) -> Breakdown:
    """Raises DefinitionError, which names the faulty place."""
    refuse_unknown(spec, _FIELDS, "spec")
    if spec.get("of") is None:
        raise DefinitionError("spec.of", "a breakdown needs the path of its categories, a text or an array of texts")
    measure = Measure(
        component="category",
        select=parse_selector(spec, "spec"),
        value=None,
        elements=parse_elements(spec["of"], "spec.of"),
    )
    return Breakdown(0, parse_aggregations(spec, Breakdown.readable, default=("count", "share")), (measure,))
