"""Paths into an event: `event_type`, `user_id`, `properties.a.b`, `context.networkType`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from services.aggregator.domain.event import DecodedEvent
from shared.definition_error import DefinitionError

_FIELDS = ("event_type", "event_id", "user_id", "anonymous_id", "session_id", "job_id", "data_source_id")
_TREES = ("properties", "context")

Getter = Callable[[DecodedEvent], Any]


@dataclass(frozen=True, slots=True)
class Path:
    """`root` is an event field; `steps` lead on into its objects."""

    root: str
    steps: tuple[str, ...]

    def __str__(self) -> str:
        return ".".join((self.root, *self.steps))

    def getter(self) -> Getter:
        """Reads the path's value from an event; None where it leads nowhere."""
        root, steps = self.root, self.steps
        if not steps:
            return lambda event: getattr(event, root)
        if len(steps) == 1:
            (name,) = steps
            if root == "properties":
                return lambda event: event.properties.get(name)
            return lambda event: event.context.get(name)

        def walk(event: DecodedEvent) -> Any:
            part: Any = getattr(event, root)
            for step in steps:
                if not isinstance(part, dict):
                    return None
                part = part.get(step)
            return part

        return walk

    def read(self, events: Sequence[DecodedEvent]) -> list[Any]:
        """The path's value of each event."""
        if self.root == "properties" and len(self.steps) == 1:
            name = self.steps[0]
            return [event.properties.get(name) for event in events]
        if not self.steps:
            return [*map(attrgetter(self.root), events)]
        return [*map(self.getter(), events)]


def parse_path(text: object, place: str) -> Path:
    """Raises DefinitionError."""
    if not isinstance(text, str) or len(text) > 200:
        raise DefinitionError(place, "must be a path such as properties.amount")
    root, *steps = text.split(".")
    if root in _FIELDS and not steps:
        return Path(root, ())
    if root in _TREES and steps and all(steps):
        return Path(root, tuple(steps))
    raise DefinitionError(place, f"a path is one of {', '.join(_FIELDS)}, or starts with properties. or context.")
