"""Filters: which events a measure takes.

`{"all": […]}`, `{"any": […]}`, `{"not": …}`, or `{"path": …, "op": …, "value": …}` with eq, ne, lt, le, gt, ge, in
and exists. A comparison with something absent, of another type or unreadable is false (ne and not turn it around).
`{"expression": "properties.failed / properties.all > 0.1"}` takes what it is true of: 0, null and invalid are not.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Any, Protocol

from services.aggregator.domain.columns import Column
from services.aggregator.domain.event import DecodedEvent
from services.aggregator.domain.expressions import Expression, Source, parse_expression
from services.aggregator.domain.paths import Path, parse_path
from services.aggregator.domain.values import Mask
from shared.definition_error import DefinitionError

_ORDER = {"lt": operator.lt, "le": operator.le, "gt": operator.gt, "ge": operator.ge}
_COMPARE = {"eq": operator.eq, "ne": operator.ne, **_ORDER}
_OPS = ("eq", "ne", *_ORDER, "in", "exists")
_MAX_DEPTH = 10
MAX_CONDITIONS = 200
"""Of one filter: each is decided for every event."""
_EXACT = 2**53

Typed = tuple[str, Any]
"""A value with its type's name: keeps true apart from 1 and "1"."""


class Columns(Protocol):
    def column(self, source: Source) -> Column:
        """What the path or expression gives for each row."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """eq, ne, lt, le, gt, ge with a text, a number or (eq, ne) a boolean."""

    path: Path
    op: str
    operand: Typed

    def matches(self, event: DecodedEvent) -> bool:
        return self._holds(self.path.read_one(event))

    def mask(self, columns: Columns) -> Mask:
        column = columns.column(self.path)
        kind, limit = self.operand
        if kind == "number" and abs(limit) < _EXACT and (numbers := column.numbers) is not None:
            # NaN, which stands for absent, is unequal to all and neither less nor greater, as it should be.
            found: Mask = _COMPARE[self.op](numbers, float(limit))
            return found
        return column.test(self._holds)

    def _holds(self, value: Any) -> bool:
        typed = _typed(value)
        if self.op in _ORDER:
            return typed[0] == self.operand[0] and bool(_ORDER[self.op](typed[1], self.operand[1]))
        return (typed == self.operand) is (self.op == "eq")


@dataclass(frozen=True, slots=True)
class OneOf:
    """The value is one of several."""

    path: Path
    allowed: frozenset[Typed]

    def matches(self, event: DecodedEvent) -> bool:
        return self._holds(self.path.read_one(event))

    def mask(self, columns: Columns) -> Mask:
        return columns.column(self.path).test(self._holds)

    def _holds(self, value: Any) -> bool:
        return _typed(value) in self.allowed


@dataclass(frozen=True, slots=True)
class Exists:
    """The value is there, and not null; or, if so `wanted`, it is not."""

    path: Path
    wanted: bool

    def matches(self, event: DecodedEvent) -> bool:
        return (self.path.read_one(event) is not None) is self.wanted

    def mask(self, columns: Columns) -> Mask:
        present = columns.column(self.path).present
        return present if self.wanted else ~present


@dataclass(frozen=True, slots=True)
class Truth:
    """The expression is true, or a number other than 0."""

    expression: Expression

    def matches(self, event: DecodedEvent) -> bool:
        return _is_true(self.expression.of(event))

    def mask(self, columns: Columns) -> Mask:
        return columns.column(self.expression).test(_is_true)


@dataclass(frozen=True, slots=True)
class Not:
    part: Filter

    def matches(self, event: DecodedEvent) -> bool:
        return not self.part.matches(event)

    def mask(self, columns: Columns) -> Mask:
        return ~self.part.mask(columns)


@dataclass(frozen=True, slots=True)
class AllOf:
    parts: tuple[Filter, ...]

    def matches(self, event: DecodedEvent) -> bool:
        return all(part.matches(event) for part in self.parts)

    def mask(self, columns: Columns) -> Mask:
        return reduce(operator.and_, (part.mask(columns) for part in self.parts))


@dataclass(frozen=True, slots=True)
class AnyOf:
    parts: tuple[Filter, ...]

    def matches(self, event: DecodedEvent) -> bool:
        return any(part.matches(event) for part in self.parts)

    def mask(self, columns: Columns) -> Mask:
        return reduce(operator.or_, (part.mask(columns) for part in self.parts))


Filter = Comparison | OneOf | Exists | Truth | Not | AllOf | AnyOf
"""A checked filter: `matches` decides about one event, `mask` alike about all rows at once; equal ones alike."""


def parse_filter(spec: object, place: str, depth: int = 1) -> Filter:
    """Raises DefinitionError, which names the faulty part."""
    if not isinstance(spec, Mapping):
        raise DefinitionError(place, "must be an object: all, any, not, expression, or path with op and value")
    if depth > _MAX_DEPTH:
        raise DefinitionError(place, f"nested deeper than {_MAX_DEPTH}")
    if len(spec) == 1:
        ((name, inner),) = spec.items()
        if name in ("all", "any"):
            if not isinstance(inner, list) or not 1 <= len(inner) <= MAX_CONDITIONS:
                raise DefinitionError(f"{place}.{name}", f"must be a list of 1 to {MAX_CONDITIONS} filters")
            parts = tuple(parse_filter(f, f"{place}.{name}[{i}]", depth + 1) for i, f in enumerate(inner))
            joined = AllOf(parts) if name == "all" else AnyOf(parts)
            if _conditions(joined) > MAX_CONDITIONS:
                raise DefinitionError(f"{place}.{name}", f"has more than {MAX_CONDITIONS} conditions in all")
            return joined
        if name == "not":
            return Not(parse_filter(inner, f"{place}.not", depth + 1))
        if name == "expression":
            return Truth(parse_expression(inner, f"{place}.expression"))
    return _condition(spec, place)


def _conditions(part: Filter) -> int:
    if isinstance(part, AllOf | AnyOf):
        return sum(map(_conditions, part.parts))
    return _conditions(part.part) if isinstance(part, Not) else 1


def _condition(spec: Mapping[str, Any], place: str) -> Filter:
    for name in spec:
        if name not in ("path", "op", "value"):
            raise DefinitionError(f"{place}.{name}", "unknown; a condition has path, op and value")
    path = parse_path(spec.get("path"), f"{place}.path")
    op, value = spec.get("op", "eq"), spec.get("value")
    if op not in _OPS:
        raise DefinitionError(f"{place}.op", f"must be one of {', '.join(_OPS)}")
    if op == "exists":
        wanted = True if value is None else value
        if not isinstance(wanted, bool):
            raise DefinitionError(f"{place}.value", "exists takes true or false")
        return Exists(path, wanted)
    if op == "in":
        if not isinstance(value, list) or not all(_is_scalar(v) for v in value):
            raise DefinitionError(f"{place}.value", "in takes a list of texts, numbers or booleans")
        return OneOf(path, frozenset(map(_typed, value)))
    if not _is_scalar(value):
        raise DefinitionError(f"{place}.value", "must be a text, a number or a boolean")
    if op in _ORDER and isinstance(value, bool):
        raise DefinitionError(f"{place}.value", f"{op} compares texts or numbers")
    return Comparison(path, op, _typed(value))


def _is_true(value: Any) -> bool:
    return value is True or (type(value) in (int, float) and value != 0)


def _is_scalar(value: object) -> bool:
    return isinstance(value, str | int | float | bool)


def _typed(value: Any) -> Typed:
    """Whatever is no scalar equals nothing."""
    if isinstance(value, str):
        return "text", value
    if isinstance(value, bool):
        return "boolean", value
    if isinstance(value, int | float):
        return "number", value
    return "other", None
