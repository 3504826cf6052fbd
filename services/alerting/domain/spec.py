"""Reads the fields of a spec strictly: what is there must be right, what is unknown is refused."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit

from shared.clock import DAY, HOUR, MINUTE, SECOND
from shared.definition_error import DefinitionError

_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,127}")
_REFERENCE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,127}")
_PERCENT = re.compile(r"-?[0-9]{1,15}(?:\.[0-9]{1,15})?%")
_DURATION = re.compile(r"([0-9]{1,9})(s|m|h|d)")
_UNITS = {"s": SECOND, "m": MINUTE, "h": HOUR, "d": DAY}
_MAX_NUMBER = 1e15
_KEY_RULE = "1 to 128 letters, digits, '_', '.', ':' or '-', starting with a letter or digit"

MAX_TITLE = 200
MAX_MESSAGE = 2_000
_MAX_URL = 2_000
_MAX_LABELS = 20
_MAX_CHANNELS = 50
MAX_GROUP_TEXT = 200
"""The aggregator groups by no longer texts."""


def check_key(key: str) -> str:
    """Raises DefinitionError."""
    if not _KEY.fullmatch(key):
        raise DefinitionError("key", _KEY_RULE)
    return key


class Fields:
    """A mapping at `place` whose fields are read one by one. Every method raises DefinitionError."""

    def __init__(self, spec: object, known: set[str], place: str = "spec") -> None:
        if not isinstance(spec, Mapping):
            raise DefinitionError(place, "must be an object")
        for name in spec:
            if name not in known:
                raise DefinitionError(f"{place}.{name}", f"unknown; known are {', '.join(sorted(known))}")
        self._spec: Mapping[str, Any] = spec
        self._place = place

    @property
    def all(self) -> Mapping[str, Any]:
        """The whole spec, as it was written."""
        return self._spec

    def raw(self, name: str) -> Any:
        return self._spec.get(name)

    def fault(self, name: str, what: str) -> DefinitionError:
        return DefinitionError(f"{self._place}.{name}", what)

    def key(self, name: str) -> str:
        """A required key of another definition."""
        value = self._spec.get(name)
        if not isinstance(value, str) or not _REFERENCE.fullmatch(value):
            raise self.fault(name, f"must be a key: {_KEY_RULE}")
        return value

    def text(self, name: str, *, longest: int) -> str | None:
        value = self._spec.get(name)
        if value is None:
            return None
        if not isinstance(value, str) or not value.strip() or len(value) > longest or "\x00" in value:
            raise self.fault(name, f"must be a text of 1 to {longest} characters")
        return value

    def url(self, name: str) -> str | None:
        value = self.text(name, longest=_MAX_URL)
        if value is None:
            return None
        try:
            parts = urlsplit(value)
        except ValueError:
            raise self.fault(name, "must be a URL") from None
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise self.fault(name, "must be a URL that starts with http:// or https://")
        return value

    def flag(self, name: str, default: bool) -> bool:
        value = self._spec.get(name, default)
        if not isinstance(value, bool):
            raise self.fault(name, "must be true or false")
        return value

    def integer(self, name: str, default: int, *, least: int, most: int) -> int:
        value = self._spec.get(name, default)
        if type(value) is not int or not least <= value <= most:
            raise self.fault(name, f"must be an integer from {least} to {most}")
        return value

    def number(self, name: str, default: Decimal, *, above: Decimal, most: Decimal) -> Decimal:
        if name not in self._spec:
            return default
        value = _as_decimal(self._spec[name])
        if value is None or not above < value <= most:
            raise self.fault(name, f"must be a number above {above} and at most {most}")
        return value

    def threshold(self, name: str) -> Decimal | None:
        """A number, or a percentage as text: `"5%"` is 0.05."""
        value = self._spec.get(name)
        if value is None:
            return None
        if isinstance(value, str) and _PERCENT.fullmatch(value):
            return Decimal(value[:-1]) / 100
        number = _as_decimal(value)
        if number is None:
            raise self.fault(name, 'must be a number, or a percentage such as "5%"')
        return number

    def duration(self, name: str, default: int, *, least: int, most: int) -> int:
        """Microseconds; written as `"90s"`, `"15m"`, `"2h"`, `"1d"` or a number of seconds."""
        if name not in self._spec:
            return default
        value = self._spec[name]
        micros = None
        if isinstance(value, str) and (match := _DURATION.fullmatch(value)):
            micros = int(match[1]) * _UNITS[match[2]]
        elif type(value) is int and 0 <= value <= 10**9:
            micros = value * SECOND
        if micros is None or not least <= micros <= most:
            what = f'must be a duration such as "30s", "15m" or "2h", from {least // SECOND} s to {most // SECOND} s'
            raise self.fault(name, what)
        return micros

    def labels(self, name: str) -> dict[str, str]:
        value = self._spec.get(name)
        if value is None:
            return {}
        if not isinstance(value, Mapping) or len(value) > _MAX_LABELS:
            raise self.fault(name, f"must be an object of at most {_MAX_LABELS} texts")
        for label, text in value.items():
            if not isinstance(label, str) or not 0 < len(label) <= 100:
                raise self.fault(name, "the name of a label has 1 to 100 characters")
            if not isinstance(text, str) or len(text) > 500:
                raise DefinitionError(f"{self._place}.{name}.{label}", "must be a text of at most 500 characters")
        return dict(value)

    def group(self, name: str) -> dict[str, str | None] | None:
        """Path → the group's text there, as the aggregator writes it; None if the field is absent."""
        value = self._spec.get(name)
        if value is None:
            return None
        if not isinstance(value, Mapping) or not 0 < len(value) <= 5:
            raise self.fault(name, "must be an object of 1 to 5 paths that the metric is grouped by")
        return {str(path): self._group_text(f"{name}.{path}", text) for path, text in value.items()}

    def _group_text(self, name: str, value: Any) -> str | None:
        if value is None:
            return None
        if isinstance(value, bool):
            return "true" if value else "false"
        if type(value) is int:
            return str(value)
        if not isinstance(value, str) or len(value) > MAX_GROUP_TEXT:
            raise self.fault(
                name, f"must be a text of at most {MAX_GROUP_TEXT} characters, an integer, a boolean or null"
            )
        return value

    def channels(self, name: str) -> tuple[str, ...] | None:
        """Keys of channels; None if the field is absent."""
        value = self._spec.get(name)
        if value is None:
            return None
        if not isinstance(value, list) or len(value) > _MAX_CHANNELS:
            raise self.fault(name, f"must be a list of at most {_MAX_CHANNELS} channel keys")
        for index, key in enumerate(value):
            if not isinstance(key, str) or not _REFERENCE.fullmatch(key):
                raise DefinitionError(f"{self._place}.{name}[{index}]", f"must be a channel's key: {_KEY_RULE}")
        return tuple(dict.fromkeys(value))


def canonical(spec: Any) -> Any:
    """The spec without noise of notation: equal meaning in the ways users vary gives equal values."""
    if isinstance(spec, Mapping):
        return {k: canonical(v) for k, v in sorted(spec.items()) if v is not None}
    if isinstance(spec, list | tuple):
        return [canonical(v) for v in spec]
    if isinstance(spec, bool):
        return "true" if spec else "false", bool  # true is not 1, though Python says so
    return spec


def _as_decimal(value: object) -> Decimal | None:
    """Exactly the number that was written; None for what is no number of usable size."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if not (math.isfinite(value) if isinstance(value, float) else True) or abs(value) > _MAX_NUMBER:
        return None
    return Decimal(repr(value))
