"""The import product's own tables in Postgres: staging tables, one for each dataset, and the job queue's."""

from __future__ import annotations

from examples.imports.domain.datasets import DATASETS, Dataset
from examples.imports.importer import SCHEMA
from shared.postgres import Pool

_JOBS = f"""
CREATE TABLE IF NOT EXISTS {SCHEMA}.jobs (
    id           text PRIMARY KEY,
    queue        text NOT NULL,
    user_id      text NOT NULL,
    priority     smallint NOT NULL,
    state        text NOT NULL CHECK (state IN ('queued', 'running', 'done', 'dead', 'cancelled')),
    path         text NOT NULL,
    dataset      text NOT NULL,
    estimated_ms bigint NOT NULL,
    attempts     smallint NOT NULL DEFAULT 0,
    run_at       timestamptz NOT NULL DEFAULT now(),
    lease_until  timestamptz,
    last_error   text,
    created_at   timestamptz NOT NULL DEFAULT now(),
    finished_at  timestamptz,
    outcome      jsonb
);
CREATE INDEX IF NOT EXISTS jobs_waiting ON {SCHEMA}.jobs (queue, priority, run_at)
    WHERE state IN ('queued', 'running');
"""
# Two runs that start at the same moment must not create the same table twice.
_PREPARE_LOCK = "SELECT pg_advisory_xact_lock(hashtext('tidegate imports example'))"


async def prepare(pool: Pool) -> None:
    """Creates what is missing and, unless another run is at work, empties what earlier runs have imported."""
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute(_PREPARE_LOCK)
        await connection.execute(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}")
        await connection.execute(_JOBS)
        for dataset in DATASETS.values():
            await connection.execute(_staging(dataset))
        busy = await connection.fetchval(
            f"SELECT EXISTS (SELECT FROM {SCHEMA}.jobs WHERE state IN ('queued', 'running')"
            " AND created_at > now() - interval '10 minutes')"
        )
        if not busy:
            tables = ", ".join(f"{SCHEMA}.{dataset.table}" for dataset in DATASETS.values())
            await connection.execute(f"TRUNCATE {SCHEMA}.jobs, {tables}")


def _staging(dataset: Dataset) -> str:
    """Staging rows can be imported again, so they need no write-ahead log."""
    columns = ", ".join(f"{f.name} {f.kind.value}" for f in dataset.fields)
    return (
        f"CREATE UNLOGGED TABLE IF NOT EXISTS {SCHEMA}.{dataset.table}"
        f" (job_id text NOT NULL, {columns}, line bigint NOT NULL)"
    )
