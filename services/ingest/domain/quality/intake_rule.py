"""One rule of an organisation about the events that it takes in, as its owner defines it.

event_types: [checkout_*, signup]          left out: all
hash: [event_data.email, user_id]          exactly one action: drop, hash, truncate_ip, bots or sample
rotate: never                              and what belongs to it
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from services.ingest.domain.quality.event_types import EventTypes, parse_event_types
from services.ingest.domain.quality.field_path import FieldPath, identity_of, parse_path
from services.ingest.domain.quality.hash_period import Rotation
from services.ingest.domain.quality.ip_address import IPV4_BITS, IPV6_BITS, truncation
from services.ingest.domain.quality.privacy import Action, PrivacyRule
from services.ingest.domain.quality.sampling import BUCKETS, UNITS, Sample
from services.ingest.domain.sources.definition import check_key
from shared.definition_error import DefinitionError

ACTIONS = ("drop", "hash", "truncate_ip", "bots", "sample")
_COMMON = ("description", "enabled", "event_types")
_PRIVACY = frozenset({"drop", "hash", "truncate_ip"})
_OF_ACTION: Mapping[str, tuple[str, ...]] = {
    "drop": ("unreadable",),
    "hash": ("rotate", "unreadable"),
    "truncate_ip": ("ipv4_bits", "ipv6_bits", "unreadable"),
    "bots": (),
    "sample": ("by", "salt"),
}
_MAX_PATHS = 100
_MAX_TEXT = 2_000
_MAX_SALT = 200
NEVER_SAMPLED = frozenset(
    {
        *("experiment_exposure", "experiment_result"),
        *("identify", "alias", "$identify", "$create_alias", "$merge_dangerously"),
    }
)
"""Experiments count each exposure and result; without the events that link ids, users lose what they did before."""


@dataclass(frozen=True, slots=True)
class BotRule:
    event_types: EventTypes
    drops: bool
    """Else events of robots are marked."""


@dataclass(frozen=True, slots=True)
class SampleRule:
    event_types: EventTypes
    """Names only."""
    sample: Sample


@dataclass(frozen=True, slots=True)
class IntakeRule:
    key: str
    enabled: bool
    action: PrivacyRule | BotRule | SampleRule

    @property
    def rotation(self) -> Rotation | None:
        """How often the keys change that it takes; None if it takes none."""
        return self.action.rotation if isinstance(self.action, PrivacyRule) else None


def parse_intake_rule(key: str, spec: object) -> IntakeRule:
    """Raises DefinitionError."""
    check_key(key)
    if not isinstance(spec, Mapping):
        raise DefinitionError("spec", "must be an object")
    actions = [name for name in ACTIONS if name in spec]
    if len(actions) != 1:
        found = f"this has {' and '.join(actions)}" if actions else "this has none"
        raise DefinitionError("spec", f"must have exactly one of {', '.join(ACTIONS)}; {found}")
    action = actions[0]
    known = (*_COMMON, action, *_OF_ACTION[action])
    for name in spec:
        if name not in known:
            raise DefinitionError(f"spec.{name}", f"unknown beside {action}; known are {', '.join(known)}")
    _text(spec, "description", _MAX_TEXT)
    enabled = spec.get("enabled", True)
    if not isinstance(enabled, bool):
        raise DefinitionError("spec.enabled", "must be true or false")
    event_types = parse_event_types(spec.get("event_types"), "spec.event_types")
    parsed: PrivacyRule | BotRule | SampleRule
    if action in _PRIVACY:
        parsed = _privacy(action, spec, event_types)
    elif action == "bots":
        parsed = BotRule(event_types, _one_of(spec, "bots", ("drop", "mark"), None) == "drop")
    else:
        parsed = SampleRule(event_types, _sample(key, spec, event_types))
    return IntakeRule(key, enabled, parsed)


def _privacy(action: str, spec: Mapping[str, Any], event_types: EventTypes) -> PrivacyRule:
    paths = _paths(spec[action], f"spec.{action}")
    rotation = truncate = None
    if action == "hash":
        if "rotate" not in spec:
            raise DefinitionError("spec.rotate", f"is missing: how often the key changes, {_names(Rotation)}")
        rotation = Rotation(_one_of(spec, "rotate", [one.value for one in Rotation], None))
        _check_ids(paths, rotation)
    elif action == "truncate_ip":
        for index, path in enumerate(paths):
            if identity_of(path) is not None:
                raise DefinitionError(f"spec.truncate_ip[{index}]", "is an id, of which nothing would be left")
        truncate = truncation(_bits(spec, "ipv4_bits", IPV4_BITS, 32), _bits(spec, "ipv6_bits", IPV6_BITS, 128))
    keeps = _one_of(spec, "unreadable", ("keep", "withhold"), "withhold") == "keep"
    return PrivacyRule(Action(action), event_types, paths, truncate, rotation, keeps)


def _check_ids(paths: Sequence[FieldPath], rotation: Rotation) -> None:
    for index, path in enumerate(paths):
        identity = identity_of(path)
        if identity is not None and rotation is not Rotation.NEVER:
            what = f"is the {identity}: with a key that changes, one unit would become many; take rotate: never"
            raise DefinitionError(f"spec.hash[{index}]", what)


def _paths(spec: object, place: str) -> tuple[FieldPath, ...]:
    if not isinstance(spec, list) or not 1 <= len(spec) <= _MAX_PATHS:
        raise DefinitionError(place, f"must be a list of 1 to {_MAX_PATHS} fields")
    return tuple(parse_path(path, f"{place}[{index}]") for index, path in enumerate(spec))


def _bits(spec: Mapping[str, Any], name: str, default: int, most: int) -> int:
    bits = spec.get(name, default)
    if not isinstance(bits, int) or isinstance(bits, bool) or not 0 <= bits <= most:
        raise DefinitionError(f"spec.{name}", f"must be 0 to {most}")
    return bits


def _sample(key: str, spec: Mapping[str, Any], event_types: EventTypes) -> Sample:
    if event_types.prefixes:
        what = (
            "must name each event type that is sampled: what is left out is lost, so that nothing may match by chance"
        )
        raise DefinitionError("spec.event_types", what)
    for name in sorted(event_types.names & NEVER_SAMPLED):
        raise DefinitionError("spec.event_types", f"{name} is never sampled: experiments and units need every one")
    rate = spec["sample"]
    buckets = round(rate * BUCKETS) if isinstance(rate, int | float) and 0 < rate < 1 else 0
    if not 0 < buckets < BUCKETS:
        raise DefinitionError("spec.sample", "must be a number between 0 and 1, such as 0.1, in steps of 0.000001")
    by = _one_of(spec, "by", UNITS, "event")
    unit = next(one for one in UNITS if one == by)
    return Sample(buckets, unit, _text(spec, "salt", _MAX_SALT) or key)


def _one_of(spec: Mapping[str, Any], name: str, allowed: Sequence[str], default: str | None) -> str:
    value = spec.get(name, default)
    if not isinstance(value, str) or value not in allowed:
        raise DefinitionError(f"spec.{name}", f"must be one of {', '.join(allowed)}")
    return value


def _text(spec: Mapping[str, Any], name: str, most: int) -> str | None:
    value = spec.get(name)
    if value is not None and (not isinstance(value, str) or not 0 < len(value) <= most):
        raise DefinitionError(f"spec.{name}", f"must be a text of 1 to {most} characters")
    return value


def _names(rotations: type[Rotation]) -> str:
    return ", ".join(rotation.value for rotation in rotations)
