"""Which of an event's properties and context anybody reads."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, ClassVar

import msgspec


@dataclass(frozen=True, slots=True)
class Projection:
    """Names directly under `properties` and `context`; None reads all there are."""

    properties: frozenset[str] | None
    context: frozenset[str] | None


EVERYTHING = Projection(None, None)


class Names(msgspec.Struct, gc=False):
    """One of the two objects, of which only some names are decoded."""

    fields_by_name: ClassVar[Mapping[str, str]] = {}

    def get(self, name: str) -> Any:
        """The name's value; None where it is absent, or null. Raises KeyError for what is not decoded."""
        return getattr(self, self.fields_by_name[name])


class Tree:
    """How one of the two objects is decoded: into a dict, or into a struct of the wanted names only."""

    def __init__(self, names: frozenset[str] | None) -> None:
        self.type: Callable[..., Any] = dict[str, Any]
        self._fields: dict[str, str] | None = None
        if names is not None and all(map(_can_be_renamed, names)):
            self._fields = {name: f"f{i}" for i, name in enumerate(sorted(names))}
            self.type = _names_class(self._fields)

    def made_of(self, values: Mapping[str, Any]) -> Any:
        """The tree that decoding these values would have given."""
        if self._fields is None:
            return dict(values)
        return self.type(**{field: values.get(name) for name, field in self._fields.items()})


def column(trees: Sequence[Any], name: str) -> list[Any]:
    """The name's value in each of the trees, which were decoded alike; None where it is absent, or null."""
    if not trees or isinstance(trees[0], dict):
        return [tree.get(name) for tree in trees]
    return [*map(attrgetter(type(trees[0]).fields_by_name[name]), trees)]


def _names_class(fields: dict[str, str]) -> type[Names]:
    made = msgspec.defstruct(
        "ProjectedNames",
        [(field, Any, None) for field in fields.values()],
        bases=(Names,),
        namespace={"fields_by_name": fields},
        rename={field: name for name, field in fields.items()},
        gc=False,
    )
    assert issubclass(made, Names)
    return made


def _can_be_renamed(name: str) -> bool:
    """What msgspec takes as the name of a field."""
    return name.isprintable() and '"' not in name and "\\" not in name
