"""API keys in Postgres, hashed; like experiments, each row is its own outbox entry."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from shared.clock import from_datetime, to_datetime
from shared.messages import ApiKey
from shared.postgres import Pool


@dataclass(frozen=True, slots=True)
class KeyRecord:
    key: ApiKey
    label: str
    created_at: int


class KeyStore:
    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def add(self, key: ApiKey, label: str, now: int) -> None:
        """Leaves a key that is there as it is: one that was revoked stays revoked."""
        await self._pool.execute(
            """
            INSERT INTO assignment.api_keys
                (prefix, hash, organisation, scope, label, created_at, events_per_second, burst)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (prefix) DO NOTHING
            """,
            key.prefix,
            key.hash,
            key.organisation,
            key.scope,
            label,
            to_datetime(now),
            key.events_per_second,
            key.burst,
        )

    async def all_of(self, organisation: str | None) -> Sequence[KeyRecord]:
        """Oldest first; None: of all organisations."""
        rows = await self._pool.fetch(
            f"{_SELECT} WHERE $1::text IS NULL OR organisation = $1 ORDER BY created_at, prefix", organisation
        )
        return [_record(r) for r in rows]

    async def revoke(self, prefix: str, organisation: str | None) -> bool:
        """Whether there is such a key (in the organisation, if one is given)."""
        status: str = await self._pool.execute(
            """
            UPDATE assignment.api_keys SET version = version + (NOT revoked)::int, revoked = true
            WHERE prefix = $1 AND ($2::text IS NULL OR organisation = $2)
            """,
            prefix,
            organisation,
        )
        return status == "UPDATE 1"

    async def limit(
        self, prefix: str, events_per_second: float | None, burst: int | None, organisation: str | None
    ) -> KeyRecord | None:
        """The key with its new limit, or None of that; None if there is no such key (in the organisation)."""
        row = await self._pool.fetchrow(
            f"""
            UPDATE assignment.api_keys SET version = version + 1, events_per_second = $3, burst = $4
            WHERE prefix = $1 AND ($2::text IS NULL OR organisation = $2)
            RETURNING {_COLUMNS}
            """,
            prefix,
            organisation,
            events_per_second,
            burst,
        )
        return None if row is None else _record(row)

    async def unpublished(self) -> Sequence[str]:
        rows = await self._pool.fetch("SELECT prefix FROM assignment.api_keys WHERE version > published_version")
        return [r["prefix"] for r in rows]

    async def every(self) -> Sequence[str]:
        return [r["prefix"] for r in await self._pool.fetch("SELECT prefix FROM assignment.api_keys")]

    async def publish(self, prefix: str, send: Callable[[ApiKey], Awaitable[None]], *, again: bool = True) -> None:
        """Sends the row's present version under its lock, so that versions reach the topic in order.

        Not `again`: only if nobody, of all processes, has published it yet.
        """
        async with self._pool.acquire() as connection, connection.transaction():
            row = await connection.fetchrow(f"{_SELECT} WHERE prefix = $1 {_DUE} FOR UPDATE", prefix, again)
            if row is None:
                return
            await send(_record(row).key)
            await connection.execute(
                "UPDATE assignment.api_keys SET published_version = version WHERE prefix = $1", prefix
            )


_DUE = "AND ($2 OR version > published_version)"
_COLUMNS = "prefix, hash, organisation, scope, label, revoked, version, created_at, events_per_second, burst"
_SELECT = f"SELECT {_COLUMNS} FROM assignment.api_keys"


def _record(row: object) -> KeyRecord:
    values = dict(row)  # type: ignore[call-overload]  # asyncpg.Record, which has no types
    label, created_at = values.pop("label"), from_datetime(values.pop("created_at"))
    return KeyRecord(ApiKey(**values), label, created_at)
