"""Long columns as single texts, which Postgres takes apart: asyncpg takes several times longer to encode a list.

In statements: `unnest($1::text::bigint[])` and `json_array_elements_text($2::text::json)`, joined by `ROWS FROM`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec


def numbers(column: Iterable[int | None]) -> str:
    """As Postgres reads an array, however large the numbers are; of booleans too."""
    listed = column if isinstance(column, list) else list(column)
    try:
        text = msgspec.json.encode(listed).decode()
    except OverflowError:
        text = repr(listed).replace("None", "null")
    return f"{{{text[1:-1]}}}"


def texts(column: Sequence[str | None]) -> str:
    """A JSON array."""
    return msgspec.json.encode(column).decode()


def words(column: Iterable[str]) -> str:
    """As Postgres reads an array of texts."""
    quoted = (word.replace("\\", "\\\\").replace('"', '\\"') for word in column)
    return "{" + ",".join(f'"{word}"' for word in quoted) + "}"
