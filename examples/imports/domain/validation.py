"""Validation of a batch of records, all columns at once: good ones come out typed, bad ones counted by category."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Set
from dataclasses import dataclass, field
from enum import Enum

import polars as pl

from examples.imports.domain.datasets import Dataset, Field, Kind


class Fault(Enum):
    """Why a record is refused; the values are the `errorCategories` of S1's events."""

    MISSING = "missing_required_field"
    CHARACTERS = "invalid_characters"
    NUMBER = "invalid_number"
    TIMESTAMP = "invalid_timestamp"
    RANGE = "value_out_of_range"
    DUPLICATE = "duplicate_record"


@dataclass(frozen=True, slots=True)
class Validated:
    """`good` holds target fields in their order and types, and `line` (from 1, without the header)."""

    good: pl.DataFrame
    faults: Counter[Fault] = field(default_factory=Counter)
    keys: frozenset[str] = frozenset()
    """Keys of the good records: what later batches of the same file must not repeat."""


_ABSENT = ("", "NA")
_LINE = "line"
_FAULT = "__fault"


def validate(raw: pl.DataFrame, dataset: Dataset, *, first_line: int, seen: Set[str]) -> Validated:
    """Checks `raw`: text columns named as the dataset's fields (a missing column counts as absent cells).

    A record with several faults counts once, under the first in the order of `Fault`.
    """
    absent = [pl.lit(None, dtype=pl.String).alias(f.name) for f in dataset.fields if f.name not in raw.columns]
    text = raw.with_columns(absent).select(
        _present(f.name) for f in dataset.fields
    )  # now an absent cell is null, whatever the file wrote for it
    typed = text.select(_typed(f).alias(f.name) for f in dataset.fields)
    checks = [check for f in dataset.fields for check in _checks(f, text, typed)]
    if dataset.key is not None:
        key = text[dataset.key]
        repeated = key.is_in(list(seen)) | ~key.is_first_distinct()
        checks.append((Fault.DUPLICATE, repeated & key.is_not_null()))
    marked = typed.with_columns(
        pl.int_range(first_line, first_line + typed.height, dtype=pl.Int64).alias(_LINE),
        _first_fault(checks).alias(_FAULT),
    )
    good = marked.filter(pl.col(_FAULT).is_null()).drop(_FAULT)
    faults = Counter(Fault(value) for value in marked[_FAULT].drop_nulls())
    keys = frozenset(good[dataset.key].to_list()) if dataset.key is not None else frozenset()
    return Validated(good, faults, keys)


def _first_fault(checks: list[tuple[Fault, pl.Series]]) -> pl.Expr:
    """The value of the first fault, in the order of `Fault`, that each record has; null for a good one."""
    order = {fault: number for number, fault in enumerate(Fault)}
    ordered = sorted(checks, key=lambda check: order[check[0]])
    return pl.coalesce([pl.when(bad).then(pl.lit(fault.value)).otherwise(None) for fault, bad in ordered])


def _present(name: str) -> pl.Expr:
    stripped = pl.col(name).str.strip_chars(" \t")
    return pl.when(~stripped.is_in(_ABSENT)).then(stripped).alias(name)


def _typed(f: Field) -> pl.Expr:
    column = pl.col(f.name)
    return _READ[f.kind](column)


def _number(column: pl.Expr) -> pl.Expr:
    value = column.cast(pl.Float64, strict=False)
    return pl.when(value.is_finite()).then(value)


_READ: dict[Kind, Callable[[pl.Expr], pl.Expr]] = {
    Kind.TEXT: lambda column: column,
    Kind.INTEGER: lambda column: column.cast(pl.Int64, strict=False),
    Kind.DECIMAL: _number,
    Kind.TIMESTAMP: lambda column: column.str.to_datetime(
        "%Y-%m-%dT%H:%M:%SZ", time_unit="us", time_zone="UTC", strict=False
    ),
}


def _checks(f: Field, text: pl.DataFrame, typed: pl.DataFrame) -> list[tuple[Fault, pl.Series]]:
    """(fault, which records have it) for one field."""
    written, read = text[f.name], typed[f.name]
    checks = [(Fault.CHARACTERS, written.str.contains("\x00", literal=True).fill_null(False))]
    if f.required:
        checks.append((Fault.MISSING, written.is_null()))
    if f.kind is Kind.TIMESTAMP:
        checks.append((Fault.TIMESTAMP, written.is_not_null() & read.is_null()))
    elif f.kind is not Kind.TEXT:
        checks.append((Fault.NUMBER, written.is_not_null() & read.is_null()))
    if f.low is not None and f.high is not None:
        checks.append((Fault.RANGE, ~read.is_between(f.low, f.high).fill_null(True)))
    return checks
