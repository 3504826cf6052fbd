"""What the data of one event type must look like, and what becomes of events that do not.

context.schemaVersion ──► that version, else the newest ──► fits? ──► as it is
                                                             └──► warn │ quarantine │ reject
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from services.ingest.domain.normalise import MAX_EVENT_TYPE_CHARACTERS, Reason, Rejected
from services.ingest.domain.quality.aside import WARNING, Aside, SetAside, Verdict, WarnedEvent
from services.ingest.domain.quality.json_schema import MAX_PARTS, MAX_SCANNING, CompiledSchema, compiled
from shared.definition_error import DefinitionError
from shared.messages import Event

VERSION = "schemaVersion"
"""In an event's `context`: which version its data was written for."""
MAX_VERSIONS = 50
MAX_VERSION = 1_000_000
MAX_TOTAL_WEIGHT = 3 * MAX_PARTS
MAX_TOTAL_SCANNING = 3 * MAX_SCANNING
"""Of all versions: making them ready must not keep events waiting."""
_MAX_DESCRIPTION = 2_000
_FIELDS = frozenset({"mode", "versions", "description"})
_SHOWN_VERSIONS = 20


class Mode(Enum):
    """What becomes of an event that does not fit."""

    WARN = "warn"
    """It is stored, and says so in its context and in the answer."""
    QUARANTINE = "quarantine"
    """It becomes a dead letter, and the sender is told that all is well."""
    REJECT = "reject"
    """It is invalid."""


@dataclass(frozen=True, slots=True)
class EventSchema:
    """One event type's. `versions` has the newest last."""

    mode: Mode
    versions: dict[int, CompiledSchema]

    def judge(self, event: Event) -> Verdict:
        fault = self._fault(event)
        if fault is None:
            return event
        match self.mode:
            case Mode.WARN:
                fields = {name: getattr(event, name) for name in Event.__struct_fields__}
                return WarnedEvent(**{**fields, "context": {**event.context, WARNING: fault}})
            case Mode.QUARANTINE:
                return SetAside(Aside.SCHEMA_MISMATCH, fault, event.event_id)
            case Mode.REJECT:
                return Rejected(Reason.SCHEMA_MISMATCH, fault, event.event_id)

    def _fault(self, event: Event) -> str | None:
        named = event.context.get(VERSION)
        version = next(reversed(self.versions)) if named is None else _number(named)
        schema = None if version is None else self.versions.get(version)
        if schema is None:
            present = ", ".join(map(str, list(self.versions)[-_SHOWN_VERSIONS:]))
            return f"context.{VERSION} names no version of the schema; there are {present}"
        fault = schema.fault(event.properties, "event_data")
        return None if fault is None else f"{fault} (schema version {version})"


class SchemaCheck:
    """All of one organisation's schemas, by event type: a check of the stage `SCHEMA`."""

    def __init__(self, schemas: Mapping[str, EventSchema]) -> None:
        self._schemas = schemas

    def __call__(self, event: Event, received_at: int) -> Verdict:
        schema = self._schemas.get(event.event_type)
        return event if schema is None else schema.judge(event)


def violated_mode(verdict: Verdict) -> Mode | None:
    """By which mode an event that did not fit was treated; None if that is not what is wrong with it."""
    if isinstance(verdict, WarnedEvent):
        return Mode.WARN
    if isinstance(verdict, SetAside) and verdict.reason is Aside.SCHEMA_MISMATCH:
        return Mode.QUARANTINE
    if isinstance(verdict, Rejected) and verdict.reason is Reason.SCHEMA_MISMATCH:
        return Mode.REJECT
    return None


def check_event_type(event_type: str) -> None:
    """Raises DefinitionError."""
    if not event_type.strip() or len(event_type) > MAX_EVENT_TYPE_CHARACTERS:
        raise DefinitionError("key", f"must be an event type of 1 to {MAX_EVENT_TYPE_CHARACTERS} characters")


def parse_schema(event_type: str, spec: object) -> EventSchema:
    """Raises DefinitionError."""
    check_event_type(event_type)
    if not isinstance(spec, Mapping):
        raise DefinitionError("spec", "must be an object")
    for name in spec:
        if name not in _FIELDS:
            raise DefinitionError(f"spec.{name}", f"is unknown; there are {', '.join(sorted(_FIELDS))}")
    description = spec.get("description")
    if description is not None and not (isinstance(description, str) and len(description) <= _MAX_DESCRIPTION):
        raise DefinitionError("spec.description", f"must be a text of at most {_MAX_DESCRIPTION} characters")
    modes = [mode.value for mode in Mode]
    if spec.get("mode") not in modes:
        raise DefinitionError("spec.mode", f"must be one of {', '.join(modes)}")
    return EventSchema(Mode(spec["mode"]), _versions(spec.get("versions")))


def _versions(given: object) -> dict[int, CompiledSchema]:
    if not isinstance(given, Sequence) or isinstance(given, str) or not 1 <= len(given) <= MAX_VERSIONS:
        raise DefinitionError("spec.versions", f"must be a list of 1 to {MAX_VERSIONS} versions")
    found: dict[int, CompiledSchema] = {}
    for index, entry in enumerate(given):
        place = f"spec.versions[{index}]"
        if not isinstance(entry, Mapping) or set(entry) != {"version", "schema"}:
            raise DefinitionError(place, "must be an object of version and schema")
        version = entry["version"]
        if isinstance(version, bool) or not isinstance(version, int) or not 1 <= version <= MAX_VERSION:
            raise DefinitionError(f"{place}.version", f"must be an integer from 1 to {MAX_VERSION:,}")
        if version in found:
            raise DefinitionError(f"{place}.version", f"{version} is there already")
        found[version] = compiled(entry["schema"], f"{place}.schema")
        if sum(schema.weight for schema in found.values()) > MAX_TOTAL_WEIGHT:
            raise DefinitionError(place, f"is too much: all versions together may have {MAX_TOTAL_WEIGHT:,} parts")
        if sum(schema.scanning for schema in found.values()) > MAX_TOTAL_SCANNING:
            raise DefinitionError(place, "is too much: all versions together have too many patterns")
    return dict(sorted(found.items()))


def _number(named: object) -> int | None:
    """As a number or, as headers and query parameters give it, as a text."""
    if isinstance(named, str) and named.isascii() and named.isdecimal() and len(named) <= len(str(MAX_VERSION)):
        return int(named)
    return named if isinstance(named, int) and not isinstance(named, bool) else None
