"""Which categories an event names: a text, or each of an array's, also where the array stands as JSON text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from services.aggregator.domain.event import DecodedEvent
from services.aggregator.domain.expressions import Source, parse_source
from services.aggregator.domain.grouping import as_text
from services.aggregator.domain.values import INVALID
from shared.definition_error import DefinitionError

_EACH = "[]."


@dataclass(frozen=True, slots=True)
class Elements:
    """`steps` lead on from each element, where elements are objects."""

    source: Source
    steps: tuple[str, ...] = ()

    def of_each(self, events: Sequence[DecodedEvent]) -> tuple[list[int], list[str], int]:
        """(places in `events`, the category that stands there, how many were no category), in the events' order."""
        places: list[int] = []
        names: list[str] = []
        invalid = 0
        for i, found in enumerate(self.source.read(events)):
            for element in self._elements(found):
                name = as_text(self._walk(element)) if element is not INVALID else None
                if name is None:
                    invalid += 1
                else:
                    places.append(i)
                    names.append(name)
        return places, names, invalid

    def _elements(self, found: Any) -> list[Any]:
        if found is None:
            return []
        if type(found) is str and found.lstrip()[:1] == "[":
            try:
                found = msgspec.json.decode(found)
            except (msgspec.DecodeError, ValueError, RecursionError):
                return [found]
        return found if type(found) is list else [found]

    def _walk(self, element: Any) -> Any:
        for step in self.steps:
            element = element.get(step) if isinstance(element, dict) else None
        return element


def parse_elements(text: object, place: str) -> Elements:
    """A path or an expression; `properties.errors[].category` reads a field of each. Raises DefinitionError."""
    if isinstance(text, str) and _EACH in text:
        outer, inner = text.split(_EACH, 1)
        steps = tuple(inner.split("."))
        if not all(steps) or len(text) > 200:
            raise DefinitionError(place, "after [] stands the path of a field, as in properties.errors[].category")
        return Elements(parse_source(outer, place), steps)
    return Elements(parse_source(text, place))
