"""A JSON Schema (draft 2020-12) as its owner wrote it, and what decides by it.

    checked ──► references replaced by what they refer to ──► weighed ──► compiled

It may not refer to itself or to anything outside, so that it is a tree: each of its parts looks at each part of an
event at most once, and what a comparison may cost at most is known before it is made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

import jsonschema_rs
import msgspec

from services.ingest.domain.normalise import MAX_EVENT_BYTES
from services.ingest.domain.quality.keywords import DECIDING, EXPLAINING, validator
from services.ingest.domain.quality.pattern_cost import pattern_cost
from shared.definition_error import DefinitionError

DIALECT = "https://json-schema.org/draft/2020-12/schema"
MAX_PARTS = 10_000
"""Of a schema, with what it refers to written out at each place."""
MAX_NESTING = 64
MAX_WORK = 4_000_000
"""Parts of a schema times values of an event: some 100 ms of the worst that people write, half a second of the worst
there is."""
_IN_PYTHON = 8
"""A keyword of ours counts as so many parts."""
MAX_SCANNING = 2_000
"""Of all patterns together (`pattern_cost`): each takes up to a millisecond to make ready, and 256 KiB."""
MAX_PATTERN_CHARACTERS = 500
MAX_WHAT_CHARACTERS = 200
"""Of what is said about a fault: names in it come from the event."""
MAX_PLACE_CHARACTERS = 200

_EVALUATED_AGAIN = 4
"""`unevaluated…` looks at all that is beside it once more, and may stand around others of its kind."""

_ONE = frozenset(
    {
        "additionalProperties",
        "contains",
        "else",
        "if",
        "items",
        "not",
        "propertyNames",
        "then",
        "unevaluatedItems",
        "unevaluatedProperties",
    }
)
_LISTS = frozenset(("allOf", "anyOf", "oneOf", "prefixItems"))
_MAPS = frozenset(("dependentSchemas", "patternProperties", "properties"))
_PLAIN = frozenset(
    {
        "type",
        "const",
        "enum",
        "multipleOf",
        "maximum",
        "exclusiveMaximum",
        "minimum",
        "exclusiveMinimum",
        "maxLength",
        "minLength",
        "pattern",
        "maxItems",
        "minItems",
        "uniqueItems",
        "maxContains",
        "minContains",
        "maxProperties",
        "minProperties",
        "required",
        "dependentRequired",
        "format",
    }
)
_SAYING_NOTHING = frozenset(
    {
        "$comment",
        "$defs",
        "definitions",
        "title",
        "description",
        "default",
        "examples",
        "deprecated",
        "readOnly",
        "writeOnly",
        "contentEncoding",
        "contentMediaType",
        "contentSchema",
    }
)
_AT_THE_ROOT = frozenset(("$id", "$schema"))

_ENCODER = msgspec.json.Encoder()

Steps = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class CompiledSchema:
    """`weight` is how many parts look at each value, `scanning` what its patterns' look at a character counts as."""

    weight: int
    scanning: int
    _fits: Callable[[Any], bool]
    _explains: Callable[[Any], None]

    def fault(self, value: Any, name: str) -> str | None:
        """How the value, which is called `name`, does not fit, without repeating it; None if it does."""
        if self._costs_too_much(value):
            return f"{name} is too large to be compared with a schema of this size"
        if self._fits(value):
            return None
        try:
            self._explains(value)
        except jsonschema_rs.ValidationError as error:
            return f"{_shown(name, error.instance_path)}: {_cut(error.message, MAX_WHAT_CHARACTERS)}"
        return f"{name}: has parts that the schema leaves unevaluated and does not allow"

    def _costs_too_much(self, value: Any) -> bool:  # a measurement of values
        # A value takes two bytes or more.
        most = self.weight / 2 + self.scanning
        if most * MAX_EVENT_BYTES <= MAX_WORK or most * len(_ENCODER.encode(value)) <= MAX_WORK:
            return False
        values, characters = _measured(value)
        return values * self.weight + characters * self.scanning > MAX_WORK


def compiled(schema: object, place: str) -> CompiledSchema:
    """`place` is where it stands in its definition. Raises DefinitionError."""
    if not isinstance(schema, dict):
        raise DefinitionError(place, "must be an object: a JSON Schema")
    if schema.get("$schema", DIALECT) not in (DIALECT, f"{DIALECT}#"):
        raise DefinitionError(f"{place}.$schema", f"must be {DIALECT}, the only draft that is understood")
    writer = _Writer(schema, place)
    try:
        jsonschema_rs.meta.validate({**schema, "$schema": DIALECT})
        tree, weight = writer.written(schema, (), ())
        deciding, explaining = validator(tree, DECIDING), validator(tree, EXPLAINING)
    except jsonschema_rs.ValidationError as error:
        raise DefinitionError(_shown(place, error.instance_path), _what_is_wrong(error)) from None
    return CompiledSchema(weight, writer.scanning, deciding.is_valid, explaining.validate)


def _what_is_wrong(error: jsonschema_rs.ValidationError) -> str:
    """With a schema."""
    last = error.instance_path[-1] if error.instance_path else None
    if last == "format":
        return "is no format that is known"
    if isinstance(error.kind, jsonschema_rs.ValidationErrorKind.Format):
        return (
            "is no pattern that is understood: there is no looking ahead or back, no reference to a group, and no "
            "repetition that needs more than 256 KiB of memory"
        )
    return _cut(error.message, MAX_WHAT_CHARACTERS)


class _Writer:
    """Writes a schema anew without references. Its methods raise DefinitionError."""

    def __init__(self, root: Mapping[str, Any], place: str) -> None:
        self._root = root
        self._place = place
        self._parts = 0
        self.scanning = 0

    def written(self, schema: object, steps: Steps, within: tuple[str, ...]) -> tuple[Any, int]:
        """The schema and its weight. `within` are the references that led here."""
        self._count(1, steps)
        if isinstance(schema, bool):
            return schema, 1
        if not isinstance(schema, dict):
            raise self._fault(steps, "must be a schema: an object, true or false")
        if len(steps) > MAX_NESTING:
            raise self._fault(steps, f"is nested deeper than {MAX_NESTING}")
        content: dict[str, Any] = {}
        weight = 1
        for name, value in schema.items():
            more = 0
            if name == "$ref":
                target, more = self._referred(value, (*steps, name), within)
                content["allOf"] = [*content.get("allOf", ()), target]
            elif name in _ONE:
                content[name], more = self.written(value, (*steps, name), within)
            elif name in _LISTS:
                items, more = self._all(enumerate(_sequence(value)), (*steps, name), within)
                content[name] = [*content.get(name, ()), *items.values()]
            elif name in _MAPS:
                content[name], more = self._all(_items(value), (*steps, name), within)
                if name == "patternProperties":
                    for pattern in content[name]:
                        self._check_pattern(pattern, (*steps, name))
            elif name in _PLAIN:
                content[name] = value
                more, _ = _measured(value)
                more += _IN_PYTHON if name in DECIDING else 0
                self._count(more, (*steps, name))
                if name == "pattern":
                    self._check_pattern(value, (*steps, name))
            elif name not in _SAYING_NOTHING and not name.startswith("x-"):
                self._check_root(name, steps)
            weight += more
        if "unevaluatedItems" in content or "unevaluatedProperties" in content:
            weight *= _EVALUATED_AGAIN
        if weight > MAX_PARTS:
            raise self._fault(steps, f"is too large: with what it refers to it has more than {MAX_PARTS} parts")
        return content, weight

    def _all(
        self, named: Iterable[tuple[Any, Any]], steps: Steps, within: tuple[str, ...]
    ) -> tuple[dict[Any, Any], int]:
        content: dict[Any, Any] = {}
        weight = 0
        for name, schema in named:
            content[name], more = self.written(schema, (*steps, name), within)
            weight += more
        return content, weight

    def _referred(self, reference: object, steps: Steps, within: tuple[str, ...]) -> tuple[Any, int]:
        if not isinstance(reference, str) or (reference != "#" and not reference.startswith("#/")):
            raise self._fault(steps, "must lead to a place in this schema, such as #/$defs/address")
        if reference == "#" or reference in within:
            raise self._fault(steps, "leads back to itself: a schema may not be recursive")
        target: Any = self._root
        for step in unquote(reference)[2:].split("/"):
            name = step.replace("~1", "/").replace("~0", "~")
            if isinstance(target, dict) and name in target:
                target = target[name]
            elif isinstance(target, list) and name in (places := list(map(str, range(len(target))))):
                target = target[places.index(name)]
            else:
                raise self._fault(steps, "leads nowhere")
        return self.written(target, steps, (*within, reference))

    def _check_root(self, name: str, steps: Steps) -> None:
        if name in _AT_THE_ROOT:
            if steps:
                raise self._fault((*steps, name), "may only stand at the top")
        else:
            what = "is no keyword that is known here; what is for readers only begins with x-"
            raise self._fault((*steps, name), what)

    def _check_pattern(self, pattern: object, steps: Steps) -> None:
        if not isinstance(pattern, str):
            return  # it is refused when the schema is compiled: a reference leads to it
        if len(pattern) > MAX_PATTERN_CHARACTERS:
            raise self._fault(steps, f"a pattern may have at most {MAX_PATTERN_CHARACTERS} characters")
        self.scanning += pattern_cost(pattern)
        if self.scanning > MAX_SCANNING:
            raise self._fault(steps, "is one pattern too many: there may be 500 ordinary ones, or fewer long ones")

    def _count(self, parts: int, steps: Steps) -> None:
        self._parts += parts
        if self._parts > MAX_PARTS:
            raise self._fault(steps, f"is too large: with what is referred to there are more than {MAX_PARTS} parts")

    def _fault(self, steps: Steps, what: str) -> DefinitionError:
        return DefinitionError(_shown(self._place, steps), what)


def _sequence(value: object) -> Sequence[Any]:
    """What is of another type has been refused by now, unless a reference leads to it."""
    return value if isinstance(value, list) else ()


def _items(value: object) -> Iterable[tuple[str, Any]]:
    return value.items() if isinstance(value, dict) else ()


def _measured(value: Any) -> tuple[int, int]:
    """How many values it consists of, and characters that its texts and names have."""
    values = characters = 0
    pending = [value]
    while pending:
        part = pending.pop()
        values += 1
        if isinstance(part, str):
            characters += len(part)
        elif isinstance(part, dict):
            characters += sum(map(len, part))
            pending.extend(part.values())
        elif isinstance(part, list):
            pending.extend(part)
    return values, characters


def _shown(name: str, steps: Iterable[str | int]) -> str:
    path = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps)
    return name + _cut(path, MAX_PLACE_CHARACTERS)


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[:longest] + "…"
