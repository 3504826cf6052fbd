"""Groups: each event's group-by values as text that Postgres can store, and the cells that they make with minutes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from services.aggregator.domain.columns import Codes, Column, numbered
from services.aggregator.domain.event import DecodedEvent
from services.aggregator.domain.paths import Path
from services.aggregator.domain.values import INVALID, Mask
from shared.clock import MINUTE

Texts = list[str | None]

MAX_TEXT = 200
_MAX_KEY_BYTES = 2_400
"""A group is part of a primary key, and Postgres refuses index entries of more than 2,700 bytes."""
_DENSE = 1 << 16
"""Codes below this are sorted by their digits, which takes a time that does not depend on how many there are."""


@dataclass(frozen=True, slots=True)
class Grouped:
    """A group-by column: a code for each row, and the texts that codes stand for."""

    codes: Codes
    texts: Texts

    def at(self, rows: npt.NDArray[Any]) -> Grouped:
        return Grouped(self.codes[rows], self.texts)


@dataclass(frozen=True, slots=True)
class Cells:
    """Rows by minute and group. `order` sorts rows by cell, `starts` says where in that order each cell begins."""

    order: npt.NDArray[np.int64]
    starts: npt.NDArray[np.int64]
    minutes: list[int]
    """Of each cell, µs."""
    groups: list[str]
    """Of each cell: canonical JSON arrays."""

    @property
    def sizes(self) -> npt.NDArray[np.int64]:
        return np.diff(self.starts, append=len(self.order))

    def joined(self, which: Mask, group: str) -> Cells:
        """Those cells minute by minute as one of that group; the others as they are."""
        minutes: list[int] = []
        groups: list[str] = []
        place_of: dict[int, int] = {}
        places = np.empty(len(self.groups), dtype=np.int64)
        for i, (minute, own, joins) in enumerate(zip(self.minutes, self.groups, which.tolist(), strict=True)):
            places[i] = place_of.setdefault(minute, len(minutes)) if joins else len(minutes)
            if places[i] == len(minutes):
                minutes.append(minute)
                groups.append(group if joins else own)
        of_rows = np.repeat(places, self.sizes)
        order = np.argsort(of_rows, kind="stable")
        return Cells(self.order[order], np.flatnonzero(np.diff(of_rows[order], prepend=-1)), minutes, groups)


def grouped(column: Column) -> Grouped:
    codes, values = column.distinct
    text_codes, texts = numbered(map(as_text, values))
    return Grouped(codes if len(texts) == len(values) else text_codes[codes], texts)


def storable_rows(columns: Sequence[Grouped]) -> Mask | None:
    """`storable` of columns by their codes."""
    share = _share(columns)
    kept: Mask | None = None
    for column in columns:
        sound = [text is None or _is_storable(text, share) for text in column.texts]
        if not all(sound):
            rows = np.array(sound, dtype=np.bool_)[column.codes]
            kept = rows if kept is None else kept & rows
    return None if kept is None or kept.all() else kept


def _share(columns: Sequence[object]) -> int:
    """Bytes of a key that each of its columns may fill."""
    return _MAX_KEY_BYTES // max(1, len(columns))


def cells_of(minutes: npt.NDArray[np.int64], columns: Sequence[Grouped]) -> Cells:
    """The cells of at least one row; minutes since the epoch and columns in the rows' order."""
    first = int(minutes.min())
    key, size = minutes - first, int(minutes.max()) - first + 1
    for column in columns:
        if size * len(column.texts) > _DENSE:
            found, key = np.unique(key, return_inverse=True)
            size = len(found)
        key, size = key * len(column.texts) + column.codes, size * len(column.texts)
    order = np.argsort(key.astype(np.uint16) if size <= _DENSE else key, kind="stable")
    ordered = key[order]
    starts = np.flatnonzero(np.diff(ordered, prepend=-1))
    examples = order[starts]
    groups = texts_of([column.at(examples) for column in columns]) if columns else ["[]"] * len(starts)
    return Cells(order, starts, (minutes[examples] * MINUTE).tolist(), groups)


def texts_of(columns: Sequence[Grouped]) -> list[str]:
    """Each row's group as canonical JSON. At least one column."""
    texts = [[column.texts[code] for code in column.codes.tolist()] for column in columns]
    return [msgspec.json.encode(group).decode() for group in zip(*texts, strict=True)]


def group_columns(events: Sequence[DecodedEvent], paths: Iterable[Path]) -> list[Texts]:
    """The texts of each path, in the events' order."""
    return [[as_text(value) for value in path.read(events)] for path in paths]


def storable(columns: Sequence[Texts], n: int) -> Mask | None:
    """None if all values can be stored, else which of the n rows can: Postgres takes no NUL and no long keys."""
    share = _share(columns)
    faulty = {
        text for column in columns for text in set(column) if text is not None and not _is_storable(text, share)
    }
    if not faulty:
        return None
    return np.array([faulty.isdisjoint(row) for row in zip(*columns, strict=True)], dtype=np.bool_)


def is_storable(text: str) -> bool:
    return "\x00" not in text and len(text) <= MAX_TEXT


def _is_storable(text: str, max_bytes: int) -> bool:
    return is_storable(text) and (6 * len(text) < max_bytes or len(msgspec.json.encode(text)) < max_bytes)


def as_text(value: Any) -> str | None:
    """Objects and lists, and integers too long to be meant, group as absent; the unreadable cannot be stored."""
    if value is INVALID:
        return "\x00"
    if value is None or type(value) is str:
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) or (isinstance(value, int) and abs(value) < 2**64):
        return str(value)
    return None
