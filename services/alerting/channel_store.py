"""Channels in Postgres. Their secrets leave it only towards their receivers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from services.alerting.channels.spec import (
    Channel,
    check_key,
    parse_channel,
    with_kept_secrets,
    without_secrets,
)
from shared.clock import from_datetime, to_iso
from shared.definition_error import DefinitionError
from shared.definitions import Outcome
from shared.postgres import Pool

_REMOVED = "the channel was removed"


@dataclass(frozen=True, slots=True)
class StoredChannel:
    """A channel as it is in force; `channel` has the secrets, `as_json` has not."""

    key: str
    version: int
    spec: Mapping[str, Any] = field(repr=False)
    channel: Channel
    pending: int
    failures: int
    paused_until: int
    """Microseconds UTC."""

    def as_json(self) -> dict[str, Any]:
        return {
            "key": self.key,
            "version": self.version,
            "spec": without_secrets(self.spec),
            "pending": self.pending,
            "failures": self.failures,
            "paused_until": to_iso(self.paused_until) if self.failures else None,
        }


class ChannelStore:
    """All methods raise what `RETRYABLE` lists."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def put(self, organisation: str, key: str, spec: object) -> tuple[Outcome, int]:
        """Returns what happened and the version in force. Raises DefinitionError.

        What waits for a channel that has changed is tried at once: the change may be what it waited for.
        """
        check_key(key)
        if not isinstance(spec, Mapping):
            raise DefinitionError("spec", "must be an object")
        async with self._pool.acquire() as connection, connection.transaction():
            present = await connection.fetchrow(
                "SELECT version, spec FROM alerting.channels WHERE organisation = $1 AND key = $2 FOR NO KEY UPDATE",
                organisation,
                key,
            )
            complete = with_kept_secrets(spec, None if present is None else present["spec"])
            wanted = parse_channel(complete)
            if present is not None and parse_channel(present["spec"]) == wanted:
                return Outcome.UNCHANGED, present["version"]
            version: int = await connection.fetchval(
                "INSERT INTO alerting.channels AS c (organisation, key, version, spec) VALUES ($1, $2, 1, $3) "
                "ON CONFLICT (organisation, key) DO UPDATE SET version = c.version + 1, spec = excluded.spec, "
                "updated_at = now(), failures = 0, paused_until = now() RETURNING version",
                organisation,
                key,
                complete,
            )
            await connection.execute(
                "UPDATE alerting.notifications SET next_attempt_at = now() "
                "WHERE organisation = $1 AND channel = $2 AND state = 'pending'",
                organisation,
                key,
            )
        return (Outcome.CREATED if version == 1 else Outcome.CHANGED), version

    async def get(self, organisation: str, key: str) -> StoredChannel | None:
        row = await self._pool.fetchrow(f"{_SELECT} AND c.key = $2", organisation, key)
        return None if row is None else _stored(row)

    async def all(self, organisation: str) -> list[StoredChannel]:
        """In order of their keys."""
        return [_stored(row) for row in await self._pool.fetch(f"{_SELECT} ORDER BY c.key", organisation)]

    async def remove(self, organisation: str, key: str) -> bool:
        """Whether it was there. What waited for it has failed."""
        async with self._pool.acquire() as connection, connection.transaction():
            removed = await connection.fetchval(
                "DELETE FROM alerting.channels WHERE organisation = $1 AND key = $2 RETURNING key", organisation, key
            )
            if removed is None:
                return False
            await connection.execute(
                "UPDATE alerting.notifications SET state = 'failed', detail = $3, finished_at = now() "
                "WHERE organisation = $1 AND channel = $2 AND state = 'pending'",
                organisation,
                key,
                _REMOVED,
            )
        return True


_SELECT = """
SELECT c.key, c.version, c.spec, c.failures, c.paused_until,
       (SELECT count(*) FROM alerting.notifications n
        WHERE n.organisation = c.organisation AND n.channel = c.key AND n.state = 'pending') AS pending
FROM alerting.channels c WHERE c.organisation = $1
"""


def _stored(row: Any) -> StoredChannel:
    return StoredChannel(
        key=row["key"],
        version=row["version"],
        spec=row["spec"],
        channel=parse_channel(row["spec"]),
        pending=row["pending"],
        failures=row["failures"],
        paused_until=from_datetime(row["paused_until"]),
    )
