"""Plain flags: what users write (YAML or JSON), checked, and what a unit gets."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from services.assignment.domain.bucketing import bucket_of
from services.assignment.domain.switches import Hold, Off, Verdict
from shared.definition_error import DefinitionError

FlagType = Literal["boolean", "string", "number", "json"]
ON = "on"
"""The variant of a flag that is not off."""
MAX_SALT = 200
MAX_DESCRIPTION = 10_000

_FIELDS = ("type", "value", "off_value", "enabled", "salt", "description")
_MUST_BE = {
    "boolean": "must be true or false",
    "string": "must be a text",
    "number": "must be a number",
    "json": "must be an object or a list",
}


@dataclass(frozen=True, slots=True)
class PlainFlag:
    """A checked definition of one version."""

    organisation: str
    key: str
    version: int
    type: FlagType
    value: Any
    off_value: Any
    """None: while it is off, the caller's own default counts."""
    enabled: bool
    salt: str
    description: str

    def judge(self, hold: Hold, unit: str | None) -> Off | Verdict:
        """What `hold` says about a unit, by the flag's own buckets."""
        return hold.judge(None if unit is None else bucket_of(self.salt, unit), ON)


def parse_flag(organisation: str, key: str, version: int, spec: object) -> PlainFlag:
    """Checks `spec` and returns what it means. Raises DefinitionError, which names the faulty place."""
    if not isinstance(spec, Mapping):
        raise DefinitionError("spec", "must be an object")
    for name in spec:
        if name not in _FIELDS:
            raise DefinitionError("spec", f"has no field {str(name)[:100]!r}; it may have {', '.join(_FIELDS)}")
    kind = spec.get("type")
    if not isinstance(kind, str) or kind not in get_args(FlagType):
        raise DefinitionError("spec.type", f"must be one of {', '.join(get_args(FlagType))}")
    boolean = kind == "boolean"
    if not boolean and "value" not in spec:
        raise DefinitionError("spec.value", f"a {kind} flag needs the value that it has when it is on")
    return PlainFlag(
        organisation=organisation,
        key=key,
        version=version,
        type=kind,  # type: ignore[arg-type]  # checked against the literal's own values
        value=_value(spec, "value", kind) if "value" in spec else True,
        off_value=_value(spec, "off_value", kind) if "off_value" in spec else (False if boolean else None),
        enabled=_boolean(spec.get("enabled", True)),
        salt=_text(spec.get("salt", key), "salt", MAX_SALT, shortest=1),
        description=_text(spec.get("description", ""), "description", MAX_DESCRIPTION),
    )


def canonical(spec: Any) -> str:
    """Equal for specs that mean the same: defaults filled in, in any order; 1 and 1.0 and true differ."""
    flag = parse_flag("", "", 0, {"salt": " ", **spec})
    meaning = [flag.type, flag.value, flag.off_value, flag.enabled, spec.get("salt"), flag.description]
    return json.dumps(meaning, sort_keys=True)


def _value(spec: Mapping[str, Any], name: str, kind: str) -> Any:
    value = spec[name]
    fits = {
        "boolean": isinstance(value, bool),
        "string": isinstance(value, str),
        "number": isinstance(value, int | float) and not isinstance(value, bool),
        "json": isinstance(value, dict | list),
    }
    if not fits[kind]:
        raise DefinitionError(f"spec.{name}", f"{_MUST_BE[kind]}: the flag's type is {kind}")
    return value


def _boolean(value: object) -> bool:
    if not isinstance(value, bool):
        raise DefinitionError("spec.enabled", _MUST_BE["boolean"])
    return value


def _text(value: object, name: str, longest: int, *, shortest: int = 0) -> str:
    if not isinstance(value, str) or not shortest <= len(value) <= longest:
        raise DefinitionError(f"spec.{name}", f"must be a text of {shortest} to {longest} characters")
    return value
