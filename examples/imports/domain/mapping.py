"""Field mapping: which column of a file becomes which target field."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from examples.imports.domain.datasets import Dataset, Field

_SEPARATORS = re.compile(r"[^a-z0-9]+")


@dataclass(frozen=True, slots=True)
class FieldMapping:
    """`columns` maps headers of the file to target fields; the other two say what is left over."""

    columns: Mapping[str, str]
    unmapped_columns: tuple[str, ...]
    missing_required: tuple[str, ...]


def propose(headers: Sequence[str], dataset: Dataset) -> FieldMapping:
    """Maps by name or alias, ignoring case and punctuation; of two columns for one field the first wins."""
    by_name = {_normal(name): field for field in dataset.fields for name in _names(field)}
    columns: dict[str, str] = {}
    unmapped = []
    for header in headers:
        field = by_name.get(_normal(header))
        if field is None or field.name in columns.values():
            unmapped.append(header)
        else:
            columns[header] = field.name
    found = set(columns.values())
    missing = tuple(f.name for f in dataset.fields if f.required and f.name not in found)
    return FieldMapping(columns, tuple(unmapped), missing)


def _names(field: Field) -> tuple[str, ...]:
    return (field.name, *field.aliases)


def _normal(header: str) -> str:
    return _SEPARATORS.sub("_", header.strip().lower()).strip("_")
