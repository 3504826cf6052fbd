"""Single values of a message: as another type, as a time, within bounds."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

import orjson

from shared.clock import to_iso

TYPES = ("string", "integer", "number", "boolean")
FORMATS = ("iso", "unix_s", "unix_ms", "unix_us")

_PER_SECOND = {"unix_s": 1_000_000, "unix_ms": 1_000, "unix_us": 1}
_LATEST = 253_402_300_799_999_999
"""The last microsecond of the year 9999."""
_INTEGER = re.compile(r"[+-]?[0-9]{1,20}", re.ASCII)
_NUMBER = re.compile(r"[+-]?[0-9]{1,40}(?:\.[0-9]{1,40})?(?:[eE][+-]?[0-9]{1,3})?", re.ASCII)
_BOOLEANS = {"true": True, "false": False, "1": True, "0": False}
_NODE_BYTES = 2


class CastError(Exception):
    """The message says what a value is and what it should be."""


def as_type(value: Any, type: str) -> Any:
    """Raises CastError."""
    cast = _CASTS[type](value)
    if cast is None:
        raise CastError(f"{_shown(value)}, which is no {type}")
    return cast


def as_time(value: Any, format: str) -> str:
    """RFC 3339 in UTC; text in the format `iso` is left for the normaliser to judge. Raises CastError."""
    if format == "iso":
        if not isinstance(value, str):
            raise CastError(f"{_shown(value)}, which is no text: for numbers say format unix_s, unix_ms or unix_us")
        return value
    number = _decimal(value)
    micros = None if number is None else number * _PER_SECOND[format]
    if micros is None or not 0 <= micros <= _LATEST:
        raise CastError(f"{_shown(value)}, which is no time in {format}")
    return to_iso(int(micros))


def bounded(value: Any, most: int) -> str | None:
    """Why a value is no JSON of at most about `most` bytes; None if it is.

    Looks at no more of it than that, however often a part occurs in it.
    """
    try:
        size = size_within(value, most)
    except TypeError as error:
        return str(error)
    return f"more than {most} bytes" if size > most else None


def size_within(value: Any, most: int) -> int:
    """About how many bytes a value has as JSON; where that is more than `most`, any number beyond it.

    Raises TypeError for what is no JSON.
    """
    size = 0
    pending: list[Any] = [value]
    while pending and size <= most:
        part = pending.pop()
        size += _NODE_BYTES
        if isinstance(part, dict):
            size += len(part) + sum(len(name) for name in part)
            pending.extend(part.values())
        elif isinstance(part, list):
            size += len(part)
            pending.extend(part)
        elif isinstance(part, str):
            size += len(part)
        elif part is not None and not isinstance(part, int | float):
            raise TypeError("something that is no JSON")
    return size


def _string(value: Any) -> str | None:
    if isinstance(value, str):
        return value
    return orjson.dumps(value).decode() if isinstance(value, bool | int | float) else None


def _integer(value: Any) -> int | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, float):
        return int(value) if value.is_integer() and abs(value) < 2**63 else None
    if isinstance(value, str):
        value = int(value) if _INTEGER.fullmatch(value) else None
    return value if isinstance(value, int) and -(2**63) <= value < 2**64 else None


def _number(value: Any) -> int | float | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, str):
        if _INTEGER.fullmatch(value):
            return _integer(value)
        value = float(value) if _NUMBER.fullmatch(value) else None
    return value if isinstance(value, int | float) and math.isfinite(value) else None


def _boolean(value: Any) -> bool | None:
    if isinstance(value, bool):
        return value
    return _BOOLEANS.get(str(value).lower()) if isinstance(value, str | int) else None


def _decimal(value: Any) -> Decimal | None:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    text = value if isinstance(value, str) else repr(value)
    try:
        return Decimal(text) if _NUMBER.fullmatch(text) else None
    except InvalidOperation:
        return None


def _shown(value: Any) -> str:
    return "an object" if isinstance(value, dict) else "a list" if isinstance(value, list) else f"{value!r:.80}"


_CASTS: Mapping[str, Callable[[Any], Any]] = {
    "string": _string,
    "integer": _integer,
    "number": _number,
    "boolean": _boolean,
}
