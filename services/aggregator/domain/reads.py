"""What a plan reads of events."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from services.aggregator.domain.paths import Path
from services.aggregator.domain.projection import Projection


def projection_of(plan: Any, properties: Iterable[str] = ()) -> Projection:
    """All that any part of the plan reads, and these properties."""
    paths = {*paths_in(plan)}
    return Projection(
        properties=frozenset([*properties, *(p.steps[0] for p in paths if p.root == "properties")]),
        context=frozenset(p.steps[0] for p in paths if p.root == "context"),
    )


def paths_in(part: Any) -> Iterator[Path]:
    """Every path that stands in a dataclass or a collection, however deep: nobody has to list them."""
    if isinstance(part, Path):
        yield part
    elif is_dataclass(part) and not isinstance(part, type):
        for field in fields(part):
            yield from paths_in(getattr(part, field.name))
    elif isinstance(part, Mapping):
        yield from paths_in((*part.keys(), *part.values()))
    elif isinstance(part, tuple | list | set | frozenset):
        for one in part:
            yield from paths_in(one)
