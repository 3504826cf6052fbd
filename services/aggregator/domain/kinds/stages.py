"""What metrics over time are written with: units, and named kinds of events that units come to."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from services.aggregator.domain.paths import TREES, parse_path
from services.aggregator.domain.specs import Selector, parse_selector, refuse_unknown
from services.aggregator.domain.tracks import Unit
from shared.definition_error import DefinitionError
from shared.messages import UnitKind

UNITS = ("user", "session", "job")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


@dataclass(frozen=True, slots=True)
class Step:
    """Also a funnel's stage."""

    name: str
    select: Selector


def parse_unit(spec: object, place: str) -> Unit:
    """`user`, `session` or `job`, or a path into properties or context whose text tells units apart."""
    if isinstance(spec, str) and spec in UNITS:
        return cast(UnitKind, spec)
    if isinstance(spec, str) and spec.partition(".")[0] in TREES:
        return parse_path(spec, place)
    raise DefinitionError(place, f"must be one of {', '.join(UNITS)}, or a path such as properties.ticketId")


def parse_name(spec: object, place: str, taken: Mapping[str, Any] | set[str]) -> str:
    if not isinstance(spec, str) or not _NAME.fullmatch(spec):
        raise DefinitionError(place, "1 to 64 letters, digits, '_', '.' or '-'")
    if spec in taken:
        raise DefinitionError(place, f"{spec} is there twice")
    return spec


def parse_stage(spec: object, place: str, *, also: frozenset[str] = frozenset()) -> Selector:
    """A stage names its events or tells them by a filter: all events at once would be no stage."""
    if isinstance(spec, Mapping):
        refuse_unknown(spec, {"event", "filter", *also}, place)
        if spec.get("event") is None and spec.get("filter") is None:
            raise DefinitionError(place, "needs event or filter")
    return parse_selector(spec, place)


def parse_steps(
    spec: object, place: str, *, least: int, most: int, taken: frozenset[str] = frozenset()
) -> tuple[Step, ...]:
    """A list of {"name", "event", "filter"}, under names of their own."""
    if not isinstance(spec, list) or not least <= len(spec) <= most:
        counts = f"{least} to {most}" if least else f"at most {most}"
        raise DefinitionError(place, f"must be a list of {counts}, each with name, event and filter")
    steps: list[Step] = []
    names = set(taken)
    for i, one in enumerate(spec):
        select = parse_stage(one, f"{place}[{i}]", also=frozenset({"name"}))
        name = parse_name(one.get("name"), f"{place}[{i}].name", names)
        names.add(name)
        steps.append(Step(name, select))
    return tuple(steps)
