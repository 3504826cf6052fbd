"""Who runs which source, in Postgres: one holder at a time, by a lease with a fencing token.

A: acquire(token 1) ── renew ── renew ──  (A hangs)   ────────────────────► save(token 1): LeaseLostError
B:                                         expired ──► acquire(token 2) ──► goes on from A's last position
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from shared.postgres import Pool


class LeaseLostError(Exception):
    """Another process runs the source now: stop, and write nothing for it."""


@dataclass(frozen=True, slots=True)
class Lease:
    source_id: int
    token: int
    health: Mapping[str, Any]
    """As the last holder stored it."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A source's run as all processes see it; `held` while somebody's lease lasts."""

    held: bool
    health: Mapping[str, Any]


_TEXT = "json"


def _packed(position: Mapping[str, Any]) -> dict[str, str]:
    """As JSON in ASCII within JSON: a far end's cursor may hold U+0000, which Postgres keeps in no text."""
    return {_TEXT: json.dumps(position, separators=(",", ":"))}


def _unpacked(stored: dict[str, Any]) -> dict[str, Any]:
    position: dict[str, Any] = json.loads(stored[_TEXT]) if _TEXT in stored else stored
    return position


class Leases:
    """The leases of the process called `name`. All methods raise what `RETRYABLE` lists."""

    def __init__(self, pool: Pool, name: str, *, seconds: float = 10) -> None:
        self._pool = pool
        self._name = name
        self._lasts = timedelta(seconds=seconds)
        self.seconds = seconds

    async def count_processes(self) -> int:
        """Says that this process lives; returns how many do, this one included."""
        count: int = await self._pool.fetchval(
            "WITH me AS (INSERT INTO ingest.source_processes (name) VALUES ($1) "
            "ON CONFLICT (name) DO UPDATE SET seen_at = now()), "
            "gone AS (DELETE FROM ingest.source_processes WHERE seen_at < now() - interval '1 hour' AND name <> $1) "
            "SELECT 1 + count(*) FROM ingest.source_processes WHERE seen_at > now() - $2::interval AND name <> $1",
            self._name,
            self._lasts,
        )
        return count

    async def leave(self) -> None:
        """This process ends: the others need not leave anything for it."""
        await self._pool.execute("DELETE FROM ingest.source_processes WHERE name = $1", self._name)

    async def free(self, source_ids: Sequence[int]) -> list[int]:
        """Those that nobody holds."""
        rows = await self._pool.fetch(
            "SELECT id FROM unnest($1::int[]) AS id WHERE NOT EXISTS "
            "(SELECT FROM ingest.source_runs r WHERE r.source_id = id AND r.expires_at > now())",
            list(source_ids),
        )
        return [row["id"] for row in rows]

    async def acquire(self, source_id: int) -> Lease | None:
        """None if another process was faster."""
        row = await self._pool.fetchrow(
            "INSERT INTO ingest.source_runs AS r (source_id, holder, expires_at) "
            "VALUES ($1, $2, now() + $3::interval) "
            "ON CONFLICT (source_id) DO UPDATE SET holder = excluded.holder, token = r.token + 1, "
            "expires_at = excluded.expires_at WHERE r.expires_at <= now() RETURNING token, health",
            source_id,
            self._name,
            self._lasts,
        )
        return None if row is None else Lease(source_id, row["token"], row["health"])

    async def renew(self, tokens: Mapping[int, int], healths: Mapping[int, Mapping[str, Any]]) -> set[int]:
        """Of source id → token, those that are still held, from now on for the whole time again.

        A lease that has run out is renewed too, if nobody has taken the source meanwhile.
        """
        rows = await self._pool.fetch(
            "UPDATE ingest.source_runs r SET expires_at = now() + $4::interval, health = given.health "
            "FROM unnest($1::int[], $2::bigint[], $3::jsonb[]) AS given (source_id, token, health) "
            "WHERE r.source_id = given.source_id AND r.token = given.token RETURNING r.source_id",
            list(tokens),
            list(tokens.values()),
            [healths[source_id] for source_id in tokens],
            self._lasts,
        )
        return {row["source_id"] for row in rows}

    async def release(self, lease: Lease, health: Mapping[str, Any]) -> None:
        """Others may take it at once."""
        await self._pool.execute(
            "UPDATE ingest.source_runs SET expires_at = '-infinity', health = $3 WHERE source_id = $1 AND token = $2",
            lease.source_id,
            lease.token,
            health,
        )

    async def position(self, lease: Lease) -> dict[str, Any]:
        """How far the source has been read, in its own terms. Raises LeaseLostError."""
        row = await self._pool.fetchrow(
            "SELECT position FROM ingest.source_runs WHERE source_id = $1 AND token = $2",
            lease.source_id,
            lease.token,
        )
        if row is None:
            raise LeaseLostError
        return _unpacked(row["position"])

    async def save(self, lease: Lease, position: Mapping[str, Any]) -> None:
        """What has been stored up to here need not be read again. Raises LeaseLostError."""
        saved = await self._pool.fetchval(
            "UPDATE ingest.source_runs SET position = $3 WHERE source_id = $1 AND token = $2 RETURNING true",
            lease.source_id,
            lease.token,
            _packed(position),
        )
        if not saved:
            raise LeaseLostError

    async def count(self, source_id: int, events: int, invalid: int, last_event_at: int | None) -> None:
        """Adds to the health of a source that nobody holds, because several processes take it in at once."""
        await self._pool.execute(
            "INSERT INTO ingest.source_runs AS r (source_id, holder, expires_at, health) "
            "VALUES ($1, '', '-infinity', jsonb_build_object("
            "'events', $2::bigint, 'invalid', $3::bigint, 'last_event_at', $4::bigint)) "
            "ON CONFLICT (source_id) DO UPDATE SET health = r.health || jsonb_build_object("
            "'events', coalesce((r.health ->> 'events')::bigint, 0) + $2, "
            "'invalid', coalesce((r.health ->> 'invalid')::bigint, 0) + $3, "
            "'last_event_at', greatest((r.health ->> 'last_event_at')::bigint, $4))",
            source_id,
            events,
            invalid,
            last_event_at,
        )

    async def seen(self, source_ids: Sequence[int]) -> dict[int, Seen]:
        """Source id → what is known of its run, for those that have ever run."""
        rows = await self._pool.fetch(
            "SELECT source_id, expires_at > now() AS held, health FROM ingest.source_runs "
            "WHERE source_id = ANY($1::int[])",
            list(source_ids),
        )
        return {row["source_id"]: Seen(row["held"], row["health"]) for row in rows}
