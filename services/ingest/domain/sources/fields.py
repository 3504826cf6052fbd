"""Reads the fields of a source's definition strictly: what is there must be right, what is unknown is refused."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from jmespath.exceptions import JMESPathError

from services.ingest.domain.sources.expression import Expression, one_line
from shared.definition_error import DefinitionError

_MAX_URL = 2_000
_MAX_EXPRESSION = 2_000
_MAX_HEADERS = 50
_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}")
_HEADER_VALUE = re.compile(r"[\x20-\x7e]{0,8000}")


class Fields:
    """A mapping at `place` (empty: the top) whose fields are read one by one. Every method raises DefinitionError."""

    def __init__(self, spec: object, known: set[str], place: str = "") -> None:
        if not isinstance(spec, Mapping):
            raise DefinitionError(place or "spec", "must be an object")
        for name in spec:
            if name not in known:
                raise DefinitionError(_at(place, name), f"unknown; known are {', '.join(sorted(known))}")
        self._spec: Mapping[str, Any] = spec
        self._place = place

    def raw(self, name: str) -> Any:
        return self._spec.get(name)

    def fault(self, name: str, what: str) -> DefinitionError:
        return DefinitionError(_at(self._place, name), what)

    def optional(self, name: str, *, longest: int) -> str | None:
        value = self._spec.get(name)
        if value is None:
            return None
        if not isinstance(value, str) or not value.strip() or len(value) > longest or "\x00" in value:
            raise self.fault(name, f"must be a text of 1 to {longest} characters")
        return value

    def text(self, name: str, *, longest: int) -> str:
        value = self.optional(name, longest=longest)
        if value is None:
            raise self.fault(name, f"is missing: a text of 1 to {longest} characters")
        return value

    def one_of(self, name: str, allowed: Sequence[str], default: str) -> str:
        value = self._spec.get(name, default)
        if value not in allowed:
            raise self.fault(name, f"must be one of {', '.join(allowed)}")
        return str(value)

    def flag(self, name: str, default: bool) -> bool:
        value = self._spec.get(name, default)
        if not isinstance(value, bool):
            raise self.fault(name, "must be true or false")
        return value

    def number(self, name: str, default: float, *, least: float, most: float) -> float:
        value = self._spec.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
            raise self.fault(name, f"must be a number from {least:g} to {most:g}")
        return float(value)

    def url(self, name: str, schemes: Sequence[str]) -> str:
        value = self.text(name, longest=_MAX_URL)
        try:
            parts = urlsplit(value)
            host, _ = parts.hostname, parts.port
        except ValueError:
            raise self.fault(name, "must be a URL") from None
        if parts.scheme not in schemes or not host or not value.isprintable() or " " in value:
            raise self.fault(name, f"must be a URL that starts with {' or '.join(f'{s}://' for s in schemes)}")
        if parts.username is not None or parts.password is not None:
            raise self.fault(name, "must hold no user or password: they would be shown; use auth_token or headers")
        return value

    def headers(self, name: str) -> dict[str, str]:
        value = self._spec.get(name)
        if value is None:
            return {}
        if not isinstance(value, Mapping) or len(value) > _MAX_HEADERS:
            raise self.fault(name, f"must be an object of at most {_MAX_HEADERS} headers")
        for header, content in value.items():
            if not _HEADER.fullmatch(header):
                raise self.fault(name, f"{header[:100]!r} is no header name")
            if not isinstance(content, str) or not _HEADER_VALUE.fullmatch(content):
                raise self.fault(f"{name}.{header}", "must be a text of printable ASCII characters")
        return dict(value)

    def header(self, name: str) -> str | None:
        """A header's name, in lower case."""
        value = self._spec.get(name)
        return None if value is None else self.header_name(name, value)

    def header_name(self, field: str, value: object) -> str:
        """In lower case; `field` is where it stands."""
        if not isinstance(value, str) or not _HEADER.fullmatch(value):
            raise self.fault(field, f"{value!r:.100} is no header name")
        return value.lower()

    def expression(self, name: str) -> Expression | None:
        """A compiled JMESPath expression."""
        value = self.optional(name, longest=_MAX_EXPRESSION)
        return None if value is None else compiled(value, _at(self._place, name))


def _at(place: str, name: str) -> str:
    return f"{place}.{name}" if place else name


def compiled(expression: str, place: str) -> Expression:
    """A compiled JMESPath expression. Raises DefinitionError that points at the fault."""
    if len(expression) > _MAX_EXPRESSION:
        raise DefinitionError(place, f"an expression may have at most {_MAX_EXPRESSION} characters")
    try:
        return Expression(expression)
    except JMESPathError as error:
        raise DefinitionError(place, f"no JMESPath expression: {one_line(str(error))}") from None
    except RecursionError:
        raise DefinitionError(place, "an expression that is nested too deeply") from None
