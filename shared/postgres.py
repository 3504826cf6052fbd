"""The connection pool every service takes: small, JSON-aware, patient at start."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import asyncpg
import orjson

logger = logging.getLogger(__name__)

Pool = Any
"""An `asyncpg.Pool`; asyncpg ships no types."""
Connection = Any

RETRYABLE: tuple[type[Exception], ...] = (
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # what releasing a connection raises after its server died in mid-answer
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.InsufficientResourcesError,  # a full disk, no memory, too many connections
    OSError,
    TimeoutError,
)
"""What goes away by itself: try the whole transaction again. Anything else is a fault of ours."""

_MOST_IDLE = "10s"
"""A process that hangs within a transaction would hold its locks for as long: nobody could take over its work."""


async def create_pool(
    dsn: str,
    *,
    name: str,
    size: int = 4,
    schema: str | None = None,
    command_timeout: float | None = 30,
    synchronous_commit: bool = True,
    reset: bool = True,
) -> Pool:
    """A pool whose connections read and write `json`/`jsonb` as Python values; opens no connection yet.

    `name` shows in `pg_stat_activity`; `schema` comes first on the search path. Call `wait_until_ready` before use.
    Without `reset`, which takes a round trip, whoever borrows a connection leaves the session as it was.
    """
    settings = {
        "application_name": f"tidegate-{name}",
        "timezone": "UTC",
        "idle_in_transaction_session_timeout": _MOST_IDLE,
    }
    if not synchronous_commit:
        settings["synchronous_commit"] = "off"
    if schema:
        settings["search_path"] = f"{schema},public"
    return await asyncpg.create_pool(
        dsn,
        min_size=0,
        max_size=size,
        command_timeout=command_timeout,
        timeout=5,
        init=_teach_json,
        reset=None if reset else _leave,
        server_settings=settings,
    )


async def wait_until_ready(pool: Pool, *, seconds: float = 60) -> None:
    """Returns once a query works. Raises TimeoutError that names the last error."""
    last: Exception | None = None
    try:
        async with asyncio.timeout(seconds):
            while True:
                try:
                    await pool.fetchval("SELECT 1")
                    return
                except RETRYABLE as error:
                    last = error
                    await asyncio.sleep(0.2)
    except TimeoutError:
        raise TimeoutError(f"Postgres did not answer within {seconds:g} s: {last!r}") from last


async def _leave(_: Connection) -> None:
    pass


async def _teach_json(connection: Connection) -> None:
    for kind in ("json", "jsonb"):
        await connection.set_type_codec(
            kind, schema="pg_catalog", encoder=lambda v: orjson.dumps(v).decode(), decoder=orjson.loads
        )
