"""JSON Schema keywords that the library is too slow at when somebody wants it to be, or says too much about.

Each is what the library asks of a keyword: made with the schema around it, its own value and its path; `validate`
raises ValueError for what does not fit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from decimal import Context, Decimal
from typing import Any

import jsonschema_rs
import msgspec

Place = Sequence[str | int]

_EXACT = Context(prec=700)
"""Holds the quotient of any two numbers of JSON that are doubles."""
_ENCODER = msgspec.json.Encoder(order="sorted")
_BEYOND_INTEGERS = 2.0**64

PATTERNS = jsonschema_rs.RegexOptions(size_limit=256 * 1024, dfa_size_limit=1024 * 1024)
"""An engine that never backtracks; a pattern that would take more memory is refused."""


class MultipleOf:
    """In decimals: 19.99 is a multiple of 0.01."""

    def __init__(self, around: Mapping[str, Any], value: Any, path: Place) -> None:
        self._divisor = Decimal(repr(value))
        self._what = f"is not a multiple of {value}"

    def validate(self, value: Any) -> None:
        if isinstance(value, bool) or not isinstance(value, int | float):
            return
        if _EXACT.remainder(Decimal(repr(value)), self._divisor):
            raise ValueError(self._what)


class UniqueItems:
    """In time that grows with the items, whatever they are."""

    def __init__(self, around: Mapping[str, Any], value: Any, path: Place) -> None:
        self._wanted = value is True

    def validate(self, value: Any) -> None:
        if not self._wanted or not isinstance(value, list):
            return
        if len(set(map(_text, value))) < len(value):
            raise ValueError("has items that are equal")


def _text(value: Any) -> bytes:
    """Equal for what JSON Schema calls equal."""
    return _ENCODER.encode(_plain(value))


def _plain(value: Any) -> Any:
    """1.0 is 1."""
    if isinstance(value, float):
        return int(value) if value.is_integer() and abs(value) < _BEYOND_INTEGERS else value
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    return value


class AnyOf:
    """Does not say how each of the alternatives fails: for a long list of long lists, that takes seconds."""

    def __init__(self, around: Mapping[str, Any], value: Any, path: Place) -> None:
        self._fits = [fitting(schema) for schema in value]

    def validate(self, value: Any) -> None:
        if not any(fits(value) for fits in self._fits):
            raise ValueError("fits none of the schemas of anyOf")


class OneOf:
    """As `AnyOf`."""

    def __init__(self, around: Mapping[str, Any], value: Any, path: Place) -> None:
        self._fits = [fitting(schema) for schema in value]

    def validate(self, value: Any) -> None:
        found = sum(fits(value) for fits in self._fits)
        if found != 1:
            raise ValueError(f"fits {found or 'none'} of the schemas of oneOf")


class Passed:
    """For a keyword that another look at the value has to do with."""

    def __init__(self, around: Mapping[str, Any], value: Any, path: Place) -> None:
        pass

    def validate(self, value: Any) -> None:
        pass


DECIDING: dict[str, type[jsonschema_rs.KeywordValidator]] = {"multipleOf": MultipleOf, "uniqueItems": UniqueItems}
EXPLAINING: dict[str, type[jsonschema_rs.KeywordValidator]] = {
    **DECIDING,
    "anyOf": AnyOf,
    "oneOf": OneOf,
    "unevaluatedItems": Passed,
    "unevaluatedProperties": Passed,
}


def validator(
    schema: dict[str, Any] | bool, keywords: dict[str, type[jsonschema_rs.KeywordValidator]]
) -> jsonschema_rs.Draft202012Validator:
    """Reads nothing from files or the network, and repeats no value in what it says of one.

    Raises jsonschema_rs.ValidationError for what is no schema.
    """
    return jsonschema_rs.Draft202012Validator(
        schema,
        validate_formats=True,
        ignore_unknown_formats=False,
        mask="the value",
        pattern_options=PATTERNS,
        keywords=keywords,
        offline=True,
    )


def fitting(schema: dict[str, Any] | bool) -> Callable[[Any], bool]:
    return validator(schema, DECIDING).is_valid
