"""From somebody else's JSON message to an event's body, by JMESPath (https://jmespath.org).

    event_type: {value: order_placed}                      a constant
    user_id: customer.id                                   an expression
    event_timestamp: {path: ts, format: unix_ms}           how a time is written
    event_data:                                            field by field, or one expression for the whole object
      amount: {path: total, type: number, default: 0}

Without a mapping a message must be an event in our own format. Nothing here raises for any message.
"""

from __future__ import annotations

from collections.abc import Mapping as Object
from dataclasses import dataclass
from typing import Any

from services.ingest.domain.normalise import MAX_EVENT_BYTES, EventBody, Reason, Rejected, read_event
from services.ingest.domain.sources.expression import Expression, ExpressionError
from services.ingest.domain.sources.fields import compiled
from services.ingest.domain.sources.values import FORMATS, TYPES, CastError, as_time, as_type, bounded
from shared import strict_json
from shared.definition_error import DefinitionError
from shared.strict_json import InvalidJsonError

_MAX_FIELDS = 200
_MAX_CONSTANT = 2_000
_IDS = ("event_id", "user_id", "anonymous_id", "session_id", "job_id")
_OBJECTS = ("event_data", "context")
_KNOWN = ("event_type", "event_timestamp", *_IDS, *_OBJECTS)
_ALIASES = {"properties": "event_data"}
_SETTINGS = ("path", "value", "type", "format", "default", "required")


class _NoValueError(Exception):
    """A message does not give what the mapping needs."""


@dataclass(frozen=True, slots=True)
class Field:
    """One value: an expression or a constant, and what becomes of its result."""

    place: str
    expression: Expression | None = None
    text: str = ""
    constant: Any = None
    type: str | None = None
    format: str | None = None
    default: Any = None
    required: bool = False

    def of(self, message: Any, size: int) -> Any:
        """None if the message, of `size` bytes, has none. Raises _NoValueError, which names the expression."""
        found = self.constant if self.expression is None else self._found(self.expression, message, size)
        if found is None:
            found = self.default
        if found is None:
            if self.required:
                raise _NoValueError(f"{self.place}: `{self.text}` gives null, and there is no default")
            return None
        try:
            if self.format is not None:
                return as_time(found, self.format)
            return found if self.type is None else as_type(found, self.type)
        except CastError as error:
            raise _NoValueError(f"{self.place}: `{self.text}` gives {error}") from None

    def _found(self, expression: Expression, message: Any, size: int) -> Any:
        try:
            return expression.search(message, size)
        except ExpressionError as error:
            raise _NoValueError(f"{self.place}: `{self.text}`: {error}") from None


@dataclass(frozen=True, slots=True)
class Mapping:
    """Made by `parse_mapping`. Objects are fields by name, or one field that gives the whole."""

    fields: Object[str, Field]
    objects: Object[str, Object[str, Field] | Field]

    def body(self, raw: bytes, *, event_id: str, source_id: int) -> EventBody | Rejected:
        """What the message says. `event_id` names an event to which the message gives no id."""
        body = self._mapped(raw) if self.fields else read_event(raw)
        if isinstance(body, Rejected):
            return body
        if body.event_id is None or body.event_id == "":
            body.event_id = event_id
        body.data_source_id = source_id
        return body

    def _mapped(self, raw: bytes) -> EventBody | Rejected:
        if len(raw) > MAX_EVENT_BYTES:
            detail = f"a message may have at most {MAX_EVENT_BYTES} bytes; this has {len(raw)}"
            return Rejected(Reason.TOO_LARGE, detail)
        try:
            message = strict_json.loads(raw)
        except InvalidJsonError as error:
            return Rejected(Reason(error.violation.value), str(error))
        try:
            values = {name: field.of(message, len(raw)) for name, field in self.fields.items()}
            for name, parts in self.objects.items():
                values[name] = _object(parts, message, len(raw))
        except _NoValueError as error:
            return Rejected(Reason.MAPPING, str(error))
        fault = bounded(values, MAX_EVENT_BYTES)
        if fault is not None:  # an expression can multiply what it finds without end
            return Rejected(Reason.MAPPING, f"mapping: gives {fault}")
        if not isinstance(values["event_type"], str):
            return Rejected(Reason.MAPPING, f"mapping.event_type: `{self.fields['event_type'].text}` gives no text")
        try:
            strict_json.check(values)
        except InvalidJsonError as error:
            return Rejected(Reason(error.violation.value), f"mapping: {error}")
        return EventBody(**values)


def _object(parts: Object[str, Field] | Field, message: Any, size: int) -> dict[str, Any] | None:
    """Raises _NoValueError."""
    if not isinstance(parts, Field):
        return {part: value for part, field in parts.items() if (value := field.of(message, size)) is not None}
    found = parts.of(message, size)
    if found is None or isinstance(found, dict):
        return found
    raise _NoValueError(f"{parts.place}: `{parts.text}` gives no object")


def parse_mapping(spec: object) -> Mapping:
    """Raises DefinitionError."""
    if spec is None or spec == {}:
        return Mapping({}, {})
    if not isinstance(spec, Object):
        raise DefinitionError("mapping", "must be an object")
    fields: dict[str, Field] = {}
    objects: dict[str, Object[str, Field] | Field] = {}
    for given, value in spec.items():
        name, place = _ALIASES.get(given, given), f"mapping.{given}"
        if name not in _KNOWN:
            raise DefinitionError(place, f"unknown; known are {', '.join(_KNOWN)}")
        if name in fields or name in objects:
            raise DefinitionError(place, f"stands for {name}, which is there already")
        if name in _OBJECTS:
            objects[name] = _object_fields(value, place)
        else:
            fields[name] = _field(value, place, required=name == "event_type", time=name == "event_timestamp")
    if "event_type" not in fields:
        raise DefinitionError("mapping.event_type", "is missing: an expression, or a constant as {value: …}")
    return Mapping(fields, objects)


def _object_fields(value: object, place: str) -> Object[str, Field] | Field:
    if not isinstance(value, Object):
        return _field(value, place)
    if len(value) > _MAX_FIELDS:
        raise DefinitionError(place, f"may have at most {_MAX_FIELDS} fields")
    return {str(name): _field(part, f"{place}.{name}") for name, part in value.items()}


def _field(spec: object, place: str, *, required: bool = False, time: bool = False) -> Field:
    """`time` values have a format instead of a type."""
    if isinstance(spec, str):
        expression = compiled(spec, place)
        return Field(place, expression, spec, required=required, format="iso" if time else None)
    if not isinstance(spec, Object):
        raise DefinitionError(place, "must be a JMESPath expression, or an object with path or value")
    for name in spec:
        if name not in _SETTINGS:
            raise DefinitionError(f"{place}.{name}", f"unknown; known are {', '.join(_SETTINGS)}")
    if ("path" in spec) == ("value" in spec):
        raise DefinitionError(place, "must have either path (an expression) or value (a constant)")
    path, constant, default = spec.get("path"), spec.get("value"), spec.get("default")
    if "path" in spec and not isinstance(path, str):
        raise DefinitionError(f"{place}.path", "must be a JMESPath expression")
    if "value" in spec and constant is None:
        raise DefinitionError(f"{place}.value", "must not be null")
    must = spec.get("required", required)
    if not isinstance(must, bool):
        raise DefinitionError(f"{place}.required", "must be true or false")
    field = Field(
        place,
        None if path is None else compiled(path, f"{place}.path"),
        str(constant) if path is None else path,
        constant=_constant(constant, f"{place}.value"),
        type=_one_of(spec, "type", TYPES, place),
        format=_one_of(spec, "format", FORMATS, place) or ("iso" if time else None),
        default=_constant(default, f"{place}.default"),
        required=must or required,
    )
    if time and field.type is not None:
        raise DefinitionError(f"{place}.type", "a time has a format instead")
    if not time and field.format is not None:
        raise DefinitionError(f"{place}.format", "only event_timestamp has one")
    return field


def _one_of(spec: Object[str, Any], name: str, allowed: tuple[str, ...], place: str) -> str | None:
    value = spec.get(name)
    if value is not None and value not in allowed:
        raise DefinitionError(f"{place}.{name}", f"must be one of {', '.join(allowed)}")
    return value


def _constant(value: Any, place: str) -> Any:
    fault = bounded(value, _MAX_CONSTANT)
    if fault is not None:
        raise DefinitionError(place, f"is {fault}")
    return value
