"""What schemas have been in force, from Postgres, which writes it down by itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from shared.postgres import Pool


@dataclass(frozen=True, slots=True)
class Past:
    """`spec` is `{"removed": true}` while there was none."""

    version: int
    spec: Mapping[str, Any]
    stored_at: datetime


class SchemaHistory:
    """Its method raises what `RETRYABLE` lists."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def of(self, organisation: str, event_type: str, *, limit: int, below: int | None) -> Sequence[Past]:
        """The newest first; `below` is the version that the page before ended with."""
        rows = await self._pool.fetch(
            "SELECT version, spec, stored_at FROM ingest.schema_history WHERE organisation = $1 AND key = $2 "
            "AND ($4::int IS NULL OR version < $4) ORDER BY version DESC LIMIT $3",
            organisation,
            event_type,
            limit,
            below,
        )
        return [Past(*row) for row in rows]
