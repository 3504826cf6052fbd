"""Uniques: how many different values there were. They are never added up: states merge, so none counts twice."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from services.aggregator.domain.expressions import parse_source
from services.aggregator.domain.kinds.kind import Cell, Part, Reading
from services.aggregator.domain.kinds.measured import Measure, Measured
from services.aggregator.domain.specs import COMMON, parse_aggregations, parse_selector, refuse_unknown
from services.aggregator.domain.states import DistinctSet
from shared.definition_error import DefinitionError
from shared.statistics.distinct import MAX_EXACT

DEFAULT_EXACT_UP_TO = 10_000

_FIELDS = COMMON | {"event", "filter", "of", "exact_up_to", "aggregations"}


@dataclass(frozen=True, slots=True)
class Unique(Measured):
    type = "unique"
    readable = ("unique", "count")

    def can_read(self, aggregation: str) -> bool:
        return aggregation in self.readable

    def read(self, cells: Mapping[Part, Cell], wanted: Iterable[str]) -> list[Reading]:
        cell = cells.get(("unique", ""), Cell())
        return [Reading(a, cell.n, cell.n) if a == "count" else self._different(cell) for a in wanted]

    def _different(self, cell: Cell) -> Reading:
        if not isinstance(cell.state, DistinctSet):
            return Reading("unique", 0, cell.n, error=0.0)
        return Reading("unique", cell.state.values.estimate(), cell.n, error=cell.state.values.error)


def parse_unique(spec: Mapping[str, Any]) -> Unique:
    """Raises DefinitionError, which names the faulty place."""
    refuse_unknown(spec, _FIELDS, "spec")
    if spec.get("of") is None:
        raise DefinitionError("spec.of", "a unique metric needs the path of what is told apart, such as user_id")
    bound = spec.get("exact_up_to", DEFAULT_EXACT_UP_TO)
    if type(bound) is not int or not 0 <= bound <= MAX_EXACT:
        raise DefinitionError("spec.exact_up_to", f"must be an integer from 0 to {MAX_EXACT}")
    measure = Measure(
        component="unique",
        select=parse_selector(spec, "spec"),
        value=parse_source(spec["of"], "spec.of"),
        exact_up_to=bound,
    )
    return Unique(0, parse_aggregations(spec, Unique.readable, default=("unique",)), (measure,))
