"""Long columns as single texts, which Postgres takes apart: asyncpg takes several times longer to encode a list.

In statements: `unnest($1::text::bigint[])` and `json_array_elements_text($2::text::json)`, joined by `ROWS FROM`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec


def numbers(column: Iterable[int | None]) -> str:
    """As Postgres writes an array; of booleans too."""
    return f"{{{','.join(map(str, column))}}}".replace("None", "NULL")


def texts(column: Sequence[str | None]) -> str:
    """A JSON array."""
    return msgspec.json.encode(column).decode()
