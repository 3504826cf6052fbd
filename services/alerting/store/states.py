"""State machines' rows, and the transaction that moves one with its transition, alert, switch and position.

UPDATE states … WHERE version = the one we decided on     0 rows: somebody else moved it ─► ConflictError, reload
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from services.alerting.domain.change import Change, StateKey
from services.alerting.store.alerts import change_alert
from services.alerting.store.positions import Place, Reached, save_positions
from services.alerting.store.rows import SWITCH_COLUMNS, AlertRow, SwitchRow, switch_row
from shared.clock import from_datetime
from shared.messages import Switch
from shared.postgres import Connection, Pool


class ConflictError(Exception):
    """The state was moved by another process, or by a commit of ours whose answer was lost."""


@dataclass(frozen=True, slots=True)
class StateRow:
    key: StateKey
    version: int
    definition_version: int
    definition: Mapping[str, Any]
    status: str
    state: Mapping[str, Any]
    since: int
    decided_to: int


@dataclass(frozen=True, slots=True)
class Committed:
    """What a transaction left behind: the state's new version, and what is to be published now."""

    version: int
    alert: AlertRow | None
    switch: SwitchRow | None


@dataclass(frozen=True, slots=True)
class Standing:
    """Where the one who decides stands: the row's version and spec, and the offsets that are decided."""

    version: int
    definition: Mapping[str, Any]
    decided_to: int
    generation: str | None
    """None: no Kafka to stand in."""
    positions: Sequence[tuple[Place, Reached]] = ()


class StateStore:
    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def commit(self, change: Change, standing: Standing, now: int) -> Committed:
        """Stores a change whole. Raises ConflictError, or what `RETRYABLE` lists (then it may be stored or not).

        `now`: wall clock (µs), for the times that people read; the decision's own are of the heartbeats' clock.
        """
        async with self._pool.acquire() as connection, connection.transaction():
            version = await _move(connection, change, standing)
            alert = switch = None
            if change.transition is not None:
                await _record(connection, change)
            if change.alert is not None:
                alert = await change_alert(
                    connection, change.key.organisation, change.key.alert_key, change.alert, now
                )
            if change.switch is not None:
                switch = await _turn(connection, msgspec.structs.replace(change.switch, decided_at=now))
            if standing.generation is not None and standing.positions:
                await save_positions(connection, standing.generation, standing.positions)
        return Committed(version, alert, switch)

    async def load(self, key: StateKey) -> StateRow | None:
        rows = await self._fetch("organisation = $1 AND kind = $2 AND key = $3 AND grp = $4", key)
        return rows[0] if rows else None

    async def of(self, organisation: str, kind: str, key: str) -> list[StateRow]:
        """A definition's states, one a group."""
        return await self._fetch("organisation = $1 AND kind = $2 AND key = $3", (organisation, kind, key))

    async def all(self) -> list[StateRow]:
        return await self._fetch("true", ())

    async def defined_at(self, kind: str, organisation: str, key: str) -> int | None:
        """When the definition in force was stored, in microseconds."""
        table = {"rule": "alerting.rules", "breaker": "alerting.breakers"}[kind]
        found = await self._pool.fetchval(
            f"SELECT updated_at FROM {table} WHERE organisation = $1 AND key = $2", organisation, key
        )
        return None if found is None else from_datetime(found)

    async def transitions(self, organisation: str, kind: str, key: str, limit: int) -> list[dict[str, Any]]:
        """Newest first."""
        rows = await self._pool.fetch(
            "SELECT grp, from_state, to_state, reason, at, evidence FROM alerting.transitions "
            "WHERE organisation = $1 AND kind = $2 AND key = $3 ORDER BY id DESC LIMIT $4",
            organisation,
            kind,
            key,
            limit,
        )
        return [dict(row) for row in rows]

    async def _fetch(self, condition: str, arguments: Iterable[Any]) -> list[StateRow]:
        rows = await self._pool.fetch(
            "SELECT organisation, kind, key, grp, version, definition_version, definition, status, state, since, "
            f"decided_to FROM alerting.states WHERE {condition} ORDER BY organisation, kind, key, grp",
            *arguments,
        )
        return [StateRow(StateKey(*row[:4]), *row[4:]) for row in map(tuple, rows)]


async def _move(connection: Connection, change: Change, standing: Standing) -> int:
    values = (
        *change.key,
        change.definition_version,
        standing.definition,
        change.status,
        change.state,
        change.since,
        standing.decided_to,
    )
    if standing.version == 0:
        version = await connection.fetchval(
            "INSERT INTO alerting.states (organisation, kind, key, grp, version, definition_version, definition, "
            "status, state, since, decided_to) VALUES ($1, $2, $3, $4, 1, $5, $6, $7, $8, $9, $10) "
            "ON CONFLICT DO NOTHING RETURNING version",
            *values,
        )
    else:
        version = await connection.fetchval(
            "UPDATE alerting.states SET version = version + 1, definition_version = $5, definition = $6, "
            "status = $7, state = $8, since = $9, decided_to = greatest(decided_to, $10), updated_at = now() "
            "WHERE organisation = $1 AND kind = $2 AND key = $3 AND grp = $4 AND version = $11 RETURNING version",
            *values,
            standing.version,
        )
    if version is None:
        raise ConflictError
    return int(version)


async def _record(connection: Connection, change: Change) -> None:
    assert change.transition is not None, "checked by the caller"
    t = change.transition
    await connection.execute(
        "INSERT INTO alerting.transitions (organisation, kind, key, grp, from_state, to_state, reason, at, evidence) "
        "VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        *change.key,
        t.from_state,
        t.to_state,
        t.reason,
        t.at,
        t.evidence,
    )


async def _turn(connection: Connection, switch: Switch) -> SwitchRow:
    record = await connection.fetchrow(
        "INSERT INTO alerting.switches AS s (organisation, flag, variant, cause, version, off, admit_from, admit_to, "
        "decided_at, off_since, evidence) VALUES ($1, $2, $3, $4, 1, $5, $6, $7, $8, $8, $9) "
        "ON CONFLICT (organisation, flag, variant, cause) DO UPDATE SET version = s.version + 1, off = excluded.off, "
        "admit_from = excluded.admit_from, admit_to = excluded.admit_to, decided_at = excluded.decided_at, "
        "off_since = CASE WHEN s.off THEN s.off_since ELSE excluded.off_since END, "
        f"evidence = excluded.evidence RETURNING {SWITCH_COLUMNS}",
        switch.organisation,
        switch.flag,
        switch.variant or "",
        switch.cause,
        switch.off,
        switch.admit_from,
        switch.admit_to,
        switch.decided_at,
        switch.evidence,
    )
    return switch_row(record)
