"""Filters: which events a measure takes.

`{"all": […]}`, `{"any": […]}`, `{"not": …}`, or `{"path": …, "op": …, "value": …}` with eq, ne, lt, le, gt, ge, in
and exists. A comparison with something absent or of another type is false (ne and not turn it around).
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from services.aggregator.domain.event import DecodedEvent
from services.aggregator.domain.paths import parse_path
from shared.definition_error import DefinitionError

Predicate = Callable[[DecodedEvent], bool]

_ORDER = {"lt": operator.lt, "le": operator.le, "gt": operator.gt, "ge": operator.ge}
_OPS = ("eq", "ne", *_ORDER, "in", "exists")
_MAX_DEPTH = 10


@dataclass(frozen=True, slots=True)
class Filter:
    """A checked filter; `matches` decides about one event."""

    matches: Predicate


def parse_filter(spec: object, place: str, depth: int = 1) -> Filter:
    """Raises DefinitionError, which names the faulty part."""
    if not isinstance(spec, Mapping):
        raise DefinitionError(place, "must be an object: all, any, not, or path with op and value")
    if depth > _MAX_DEPTH:
        raise DefinitionError(place, f"nested deeper than {_MAX_DEPTH}")
    if len(spec) == 1:
        ((name, inner),) = spec.items()
        if name in ("all", "any"):
            if not isinstance(inner, list) or not inner:
                raise DefinitionError(f"{place}.{name}", "must be a list of filters")
            parts = [parse_filter(f, f"{place}.{name}[{i}]", depth + 1).matches for i, f in enumerate(inner)]
            return Filter(_all_of(parts) if name == "all" else _any_of(parts))
        if name == "not":
            negated = parse_filter(inner, f"{place}.not", depth + 1).matches
            return Filter(lambda event: not negated(event))
    return Filter(_condition(spec, place))


def _all_of(parts: list[Predicate]) -> Predicate:
    return lambda event: all(part(event) for part in parts)


def _any_of(parts: list[Predicate]) -> Predicate:
    return lambda event: any(part(event) for part in parts)


def _condition(spec: Mapping[str, Any], place: str) -> Predicate:
    for name in spec:
        if name not in ("path", "op", "value"):
            raise DefinitionError(f"{place}.{name}", "unknown; a condition has path, op and value")
    get = parse_path(spec.get("path"), f"{place}.path").getter()
    op, value = spec.get("op", "eq"), spec.get("value")
    if op not in _OPS:
        raise DefinitionError(f"{place}.op", f"must be one of {', '.join(_OPS)}")
    if op == "exists":
        wanted = True if value is None else value
        if not isinstance(wanted, bool):
            raise DefinitionError(f"{place}.value", "exists takes true or false")
        return lambda event: (get(event) is not None) is wanted
    if op == "in":
        if not isinstance(value, list) or not all(_is_scalar(v) for v in value):
            raise DefinitionError(f"{place}.value", "in takes a list of texts, numbers or booleans")
        allowed = frozenset(map(_typed, value))
        return lambda event: _typed(get(event)) in allowed
    if not _is_scalar(value):
        raise DefinitionError(f"{place}.value", "must be a text, a number or a boolean")
    if op in _ORDER:
        if isinstance(value, bool):
            raise DefinitionError(f"{place}.value", f"{op} compares texts or numbers")
        return _ordered(get, _ORDER[op], value)
    typed = _typed(value)
    if op == "eq":
        return lambda event: _typed(get(event)) == typed
    return lambda event: _typed(get(event)) != typed


def _ordered(get: Callable[[DecodedEvent], Any], compare: Callable[[Any, Any], bool], limit: Any) -> Predicate:
    kinds: tuple[type, ...] = (str,) if isinstance(limit, str) else (int, float)

    def ordered(event: DecodedEvent) -> bool:
        found = get(event)
        return isinstance(found, kinds) and not isinstance(found, bool) and compare(found, limit)

    return ordered


def _is_scalar(value: object) -> bool:
    return isinstance(value, str | int | float | bool)


def _typed(value: Any) -> tuple[str, Any]:
    """Keeps true apart from 1 and "1"; whatever is no scalar equals nothing."""
    if isinstance(value, str):
        return "text", value
    if isinstance(value, bool):
        return "boolean", value
    if isinstance(value, int | float):
        return "number", value
    return "other", None
