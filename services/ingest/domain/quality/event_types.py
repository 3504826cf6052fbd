"""Which events a rule is about."""

from __future__ import annotations

from dataclasses import dataclass

from services.ingest.domain.normalise import MAX_EVENT_TYPE_CHARACTERS
from shared.definition_error import DefinitionError

MAX_TYPES = 200


@dataclass(frozen=True, slots=True)
class EventTypes:
    """Those named, and those that begin like one of `prefixes`."""

    names: frozenset[str] = frozenset()
    prefixes: tuple[str, ...] = ()

    def include(self, event_type: str) -> bool:  # a property of the value, no decision
        return event_type in self.names or event_type.startswith(self.prefixes)


EVERY_TYPE = EventTypes(prefixes=("",))


def parse_event_types(spec: object, place: str) -> EventTypes:
    """A list of names, of which each may end in `*`; None means all. Raises DefinitionError."""
    if spec is None:
        return EVERY_TYPE
    if not isinstance(spec, list) or not 1 <= len(spec) <= MAX_TYPES:
        raise DefinitionError(place, f"must be a list of 1 to {MAX_TYPES} event types")
    names, prefixes = set[str](), list[str]()
    for index, name in enumerate(spec):
        if not isinstance(name, str) or not name.strip() or len(name) > MAX_EVENT_TYPE_CHARACTERS:
            what = f"must be a text of 1 to {MAX_EVENT_TYPE_CHARACTERS} characters"
            raise DefinitionError(f"{place}[{index}]", what)
        if "*" in name[:-1]:
            raise DefinitionError(f"{place}[{index}]", "may have a * at its end only")
        if name.endswith("*"):
            prefixes.append(name[:-1])
        else:
            names.add(name)
    return EventTypes(frozenset(names), tuple(prefixes))
