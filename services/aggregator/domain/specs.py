"""The parts that definitions of every type are written with, checked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from services.aggregator.domain.filters import Filter, parse_filter
from services.aggregator.domain.paths import Path, parse_path
from shared.definition_error import DefinitionError

COMMON = {"type", "description", "group_by", "max_groups"}
"""What a definition of any type may hold."""

DEFAULT_MAX_GROUPS, MOST_GROUPS = 1_000, 10_000
"""Groups that a shard counts under their own name in a day; further ones are "other"."""

MOST_AGGREGATIONS = 50
"""Of one definition: each share is counted by itself."""


@dataclass(frozen=True, slots=True)
class Selector:
    """Which events are meant: of these types (None: all), and matching the filter if there is one."""

    events: frozenset[str] | None
    where: Filter | None


def parse_selector(spec: object, place: str) -> Selector:
    """`{"event": …, "filter": …}`, both optional; `spec` may hold other fields too. Raises DefinitionError."""
    if not isinstance(spec, Mapping):
        raise DefinitionError(place, "must be an object with event and filter, each optional")
    return Selector(
        events=_events(spec.get("event"), f"{place}.event"),
        where=optional_filter(spec.get("filter"), f"{place}.filter"),
    )


def optional_filter(spec: object, place: str) -> Filter | None:
    return None if spec is None else parse_filter(spec, place)


def parse_group_by(spec: object) -> tuple[Path, ...]:
    if isinstance(spec, str):
        spec = [spec]
    if not isinstance(spec, list | tuple) or len(spec) > 5:
        raise DefinitionError("spec.group_by", "must be a list of at most 5 paths")
    return tuple(parse_path(path, f"spec.group_by[{i}]") for i, path in enumerate(spec))


def parse_max_groups(spec: Mapping[str, object]) -> int:
    most = spec.get("max_groups", DEFAULT_MAX_GROUPS)
    if type(most) is not int or not 1 <= most <= MOST_GROUPS:
        raise DefinitionError("spec.max_groups", f"must be an integer from 1 to {MOST_GROUPS}")
    return most


def parse_aggregations(
    spec: Mapping[str, object],
    allowed: tuple[str, ...],
    *,
    default: tuple[str, ...],
    family: Callable[[str], bool] = lambda name: False,
    more: str = "",
) -> tuple[str, ...]:
    """What to read unless told otherwise. `family` also allows names it knows, which `more` puts into words."""
    names = spec.get("aggregations", default)
    if isinstance(names, str):
        names = [names]
    if not isinstance(names, list | tuple) or not 1 <= len(names) <= MOST_AGGREGATIONS:
        raise DefinitionError("spec.aggregations", f"must be a list of 1 to {MOST_AGGREGATIONS}")
    for name in names:
        if name not in allowed and not (isinstance(name, str) and family(name)):
            raise DefinitionError("spec.aggregations", f"{repr(name)[:80]} is none of {', '.join(allowed)}{more}")
    return tuple(dict.fromkeys(names))


def refuse_unknown(spec: Mapping[str, object], known: set[str], place: str) -> None:
    for name in spec:
        if name not in known:
            raise DefinitionError(f"{place}.{name}", f"unknown; known are {', '.join(sorted(known))}")


def _events(spec: object, place: str) -> frozenset[str] | None:
    if spec is None:
        return None
    names = [spec] if isinstance(spec, str) else spec
    if not isinstance(names, list) or not names or not all(isinstance(n, str) and n for n in names):
        raise DefinitionError(place, "must be an event type or a list of them")
    return frozenset(names)
