"""Experiments in Postgres: every change is one transaction under the row's lock, and its own outbox entry."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any

import asyncpg
import msgspec

from services.assignment.directory import MAX_ID, is_number
from services.assignment.domain.experiment import Definition, Stratum, Variant
from services.assignment.domain.lifecycle import Refusal, Refused, Status
from shared import messages
from shared.clock import from_datetime, to_datetime
from shared.postgres import Connection, Pool

Decide = Callable[[Definition], Definition | Refused]


class ExperimentStore:
    """Knows no rules: what may change is decided by the function that `change` is given."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def create(self, draft: Definition, now: int, *, numbered: bool = False) -> Definition | Refused:
        """Stores a new experiment; if its key is taken, refuses or, `numbered`, takes the next free one."""
        async with self._pool.acquire() as connection, connection.transaction():
            key = await _take_key(connection, draft, numbered=numbered)
            if key is None:
                return Refused(Refusal.KEY_TAKEN, f"the key {draft.key!r} is taken; keys are never given twice")
            salt = key if draft.salt == draft.key else draft.salt
            fresh = replace(draft, key=key, salt=salt, version=1, created_at=now, updated_at=now)
            identity = await connection.fetchval(_INSERT, *_columns(fresh))
            stored = replace(fresh, id=identity)
            return replace(stored, variants=await _save_variants(connection, identity, (), fresh.variants))

    async def find(self, organisation: str, reference: str) -> Definition | None:
        """By id or key."""
        async with self._pool.acquire() as connection:
            return await _load(connection, organisation, reference)

    async def newest(
        self, organisation: str, status: Status | None, *, limit: int, offset: int
    ) -> Sequence[Definition]:
        """Newest first."""
        async with self._pool.acquire() as connection:
            rows = await connection.fetch(_LIST, organisation, status and status.value, limit, offset)
            variants = await _variants_of(connection, [r["id"] for r in rows])
            return [_definition(r, variants.get(r["id"], ())) for r in rows]

    async def running(self, organisation: str) -> list[str]:
        """Keys of the running experiments."""
        rows = await self._pool.fetch(_RUNNING, organisation)
        return [r["key"] for r in rows]

    async def change(
        self, organisation: str, reference: str, now: int, decide: Decide
    ) -> tuple[Definition, bool] | Refused | None:
        """(the experiment after `decide`, whether that changed it); None if there is no such experiment."""
        async with self._pool.acquire() as connection, connection.transaction():
            before = await _load(connection, organisation, reference, lock=True)
            if before is None:
                return None
            after = decide(before)
            if isinstance(after, Refused):
                return after
            if after == before:
                return before, False
            after = replace(after, version=before.version + 1, updated_at=now)
            await connection.execute(_UPDATE, before.id, *_columns(after))
            variants = await _save_variants(connection, before.id or 0, before.variants, after.variants)
            return replace(after, variants=variants), True

    async def unpublished(self) -> list[int]:
        rows = await self._pool.fetch("SELECT id FROM assignment.experiments WHERE version > published_version")
        return [r["id"] for r in rows]

    async def every(self) -> list[int]:
        return [r["id"] for r in await self._pool.fetch("SELECT id FROM assignment.experiments ORDER BY id")]

    async def publish(
        self, identity: int, send: Callable[[Definition], Awaitable[None]], *, again: bool = True
    ) -> None:
        """Sends the row's present version under its lock, so that versions reach the topic in order.

        Not `again`: only if nobody, of all processes, has published it yet.
        """
        async with self._pool.acquire() as connection, connection.transaction():
            row = await connection.fetchrow(f"{_COLUMNS} WHERE id = $1 {_DUE} FOR UPDATE", identity, again)
            if row is None:
                return
            variants = await _variants_of(connection, [identity])
            await send(_definition(row, variants.get(identity, ())))
            await connection.execute(
                "UPDATE assignment.experiments SET published_version = version WHERE id = $1", identity
            )


async def _take_key(connection: Connection, draft: Definition, *, numbered: bool) -> str | None:
    number = 1
    while True:
        key = draft.key if number == 1 else f"{draft.key}-{number}"
        taken = await connection.fetchval(
            "INSERT INTO assignment.names VALUES ($1, $2, 'experiment') ON CONFLICT DO NOTHING RETURNING key",
            draft.organisation,
            key,
        )
        if taken is not None:
            return key
        if not numbered:
            return None
        number += 1


async def _load(
    connection: Connection, organisation: str, reference: str, *, lock: bool = False
) -> Definition | None:
    by_id = is_number(reference)
    if by_id and int(reference) > MAX_ID:
        return None
    condition = "id = $2" if by_id else "key = $2"
    row = await connection.fetchrow(
        f"{_COLUMNS} WHERE organisation = $1 AND {condition}{' FOR UPDATE' if lock else ''}",
        organisation,
        int(reference) if by_id else reference,
    )
    if row is None:
        return None
    variants = await _variants_of(connection, [row["id"]])
    return _definition(row, variants.get(row["id"], ()))


async def _variants_of(connection: Connection, experiments: list[int]) -> dict[int, tuple[Variant, ...]]:
    rows = await connection.fetch(_VARIANTS, experiments)
    found: dict[int, tuple[Variant, ...]] = {}
    for row in rows:
        values = dict(row)
        identity = values.pop("experiment_id")
        found[identity] = (*found.get(identity, ()), Variant(**values))
    return found


async def _save_variants(
    connection: Connection, experiment: int, before: Sequence[Variant], after: Sequence[Variant]
) -> tuple[Variant, ...]:
    """Writes the difference; returns the variants with their ids."""
    gone = {v.id for v in before} - {v.id for v in after}
    if gone:
        await connection.execute("DELETE FROM assignment.variants WHERE id = ANY($1)", list(gone))
    saved = []
    for position, v in enumerate(after):
        values = (position, v.name, v.type, v.buckets, v.model_id, v.model_version, dict(v.config), dict(v.metadata))
        if v.id is None:
            v = replace(v, id=await connection.fetchval(_INSERT_VARIANT, experiment, *values))
        elif v not in before or before.index(v) != position:
            await connection.execute(_UPDATE_VARIANT, v.id, *values)
        saved.append(v)
    return tuple(saved)


def _columns(d: Definition) -> tuple[Any, ...]:
    return (
        d.organisation,
        d.key,
        d.name,
        d.description,
        d.status.value,
        d.unit,
        d.salt,
        list(d.metrics),
        list(d.segments),
        None if d.plan is None else dict(d.plan),
        d.stratify_by,
        msgspec.to_builtins(d.strata),
        msgspec.to_builtins(d.allocations),
        d.version,
        to_datetime(d.created_at),
        to_datetime(d.updated_at),
        None if d.started_at is None else to_datetime(d.started_at),
        None if d.ended_at is None else to_datetime(d.ended_at),
    )


def _definition(row: asyncpg.Record, variants: tuple[Variant, ...]) -> Definition:
    values = dict(row)
    for name in ("created_at", "updated_at", "started_at", "ended_at"):
        values[name] = None if values[name] is None else from_datetime(values[name])
    values["status"] = Status(values["status"])
    values["metrics"] = tuple(values["metrics"])
    values["segments"] = tuple(values["segments"])
    values["strata"] = msgspec.convert(values["strata"], tuple[Stratum, ...])
    values["allocations"] = msgspec.convert(values["allocations"], tuple[messages.Allocation, ...])
    return Definition(variants=variants, **values)


_DUE = "AND ($2 OR version > published_version)"
_NAMES = (
    "organisation, key, name, description, status, unit, salt, metrics, segments, plan, stratify_by, strata, "
    "allocations, version, created_at, updated_at, started_at, ended_at"
)
_COLUMNS = f"SELECT id, {_NAMES} FROM assignment.experiments"
_PLACES = ", ".join(f"${n}" for n in range(1, 19))
_INSERT = f"INSERT INTO assignment.experiments ({_NAMES}) VALUES ({_PLACES}) RETURNING id"
_UPDATE = (
    f"UPDATE assignment.experiments SET ({_NAMES}) = ROW ({', '.join(f'${n}' for n in range(2, 20))}) WHERE id = $1"
)
_LIST = f"""
{_COLUMNS} WHERE organisation = $1 AND ($2::text IS NULL OR status = $2) ORDER BY id DESC LIMIT $3 OFFSET $4
"""
_RUNNING = "SELECT key FROM assignment.experiments WHERE organisation = $1 AND status = 'running' ORDER BY key"
_VARIANT_NAMES = "position, name, type, buckets, model_id, model_version, config, metadata"
_VARIANTS = """
SELECT id, experiment_id, name, type, buckets, model_id, model_version, config, metadata
FROM assignment.variants WHERE experiment_id = ANY($1::bigint[]) ORDER BY experiment_id, position
"""
_INSERT_VARIANT = f"""
INSERT INTO assignment.variants (experiment_id, {_VARIANT_NAMES}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
RETURNING id
"""
_UPDATE_VARIANT = f"""
UPDATE assignment.variants SET ({_VARIANT_NAMES}) = ROW ($2, $3, $4, $5, $6, $7, $8, $9) WHERE id = $1
"""
