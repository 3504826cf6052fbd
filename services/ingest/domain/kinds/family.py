"""What a kind demands of an event, and the families of kinds that are described together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

import msgspec
from msgspec import Meta

Name = Annotated[str, Meta(min_length=1, max_length=200)]
Text = Annotated[str, Meta(max_length=2_000)]
Object = dict[str, Any]

ANY_UNIT = ("user_id", "anonymous_id", "session_id", "job_id")


@dataclass(frozen=True, slots=True)
class Demand:
    """What a kind demands. Fields beyond `fields` are kept as they are."""

    fields: type[msgspec.Struct]
    """What `event_data` holds."""
    marks: tuple[str, ...] = ()
    """It is asked of events whose `event_data` has one of these; without marks, of every event of its type.

    Names such as `click` are everybody's: an event that does not say that it is of this kind is somebody's own.
    """
    ids: tuple[str, ...] = ()
    """One of these the event must have."""
    needs: Mapping[tuple[str, str], str] = field(default_factory=dict)
    """Field and text → another field that must be there then."""

    def applies_to(self, data: Mapping[str, Any]) -> bool:
        return not self.marks or any(mark in data for mark in self.marks)


@dataclass(frozen=True, slots=True)
class Family:
    """Kinds that one document describes; `name` is the document's."""

    name: str
    title: str
    kinds: Mapping[str, Demand]
    """By event type."""
