"""Group-by columns: each event's group as text that Postgres can store."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from services.aggregator.domain.event import DecodedEvent
from services.aggregator.domain.paths import Path

Column = list[str | None]

MAX_TEXT = 200
_MAX_KEY_BYTES = 2_400
"""A group is part of a primary key, and Postgres refuses index entries of more than 2,700 bytes."""


def group_columns(events: Sequence[DecodedEvent], paths: Iterable[Path]) -> list[Column]:
    """One column a path, in the events' order."""
    return [_as_texts(path.read(events)) for path in paths]


def storable(columns: list[Column], n: int) -> npt.NDArray[np.bool_] | None:
    """None if all values can be stored, else which of the n rows can: Postgres takes no NUL and no long keys."""
    share = _MAX_KEY_BYTES // max(1, len(columns))
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


def _as_texts(values: list[Any]) -> Column:
    if set(map(type, values)) <= _TEXTS:
        return values
    return [_as_text(value) for value in values]


_TEXTS = {str, type(None)}


def _as_text(value: Any) -> str | None:
    """Objects and lists, and integers too long to be meant, group as absent."""
    if value is None or type(value) is str:
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) or (isinstance(value, int) and abs(value) < 2**64):
        return str(value)
    return None
