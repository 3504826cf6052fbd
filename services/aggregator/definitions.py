"""Metric definitions: stored with a version, published to `metrics.v1`, republished at start.

A definition's row is its own outbox: while published_version < version it is still to be sent.
"""

from __future__ import annotations

import asyncio
import logging
from enum import Enum
from typing import Any

import msgspec
from aiokafka.errors import KafkaError

from services.aggregator.domain.metrics import Definition, canonical, parse_definition
from services.aggregator.domain.problems import DefinitionError
from shared import topics
from shared.kafka import Publisher
from shared.messages import Metric
from shared.postgres import RETRYABLE, Pool

logger = logging.getLogger(__name__)

_RETRY_SECONDS = 1.0
_MAX_SPEC = 64 * 1024
"""Bytes: Kafka takes no message of more than a megabyte, and every event passes through every filter."""


class Outcome(Enum):
    CREATED = "created"
    CHANGED = "changed"
    UNCHANGED = "unchanged"


class Definitions:
    def __init__(self, pool: Pool, publisher: Publisher) -> None:
        self._pool = pool
        self._publisher = publisher
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Republishes everything, so that a topic that lost its data is whole again."""
        async with self._pool.acquire() as connection:
            await connection.execute("UPDATE metrics SET published_version = 0")
        self._task = asyncio.create_task(self._run(), name="metric outbox")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def put(self, organisation: str, key: str, spec: Any) -> tuple[Outcome, int]:
        """Stores a checked spec as a new version unless it means the same as the present one, and publishes it.

        Returns what happened and the version in force. Raises DefinitionError, or what `RETRYABLE` lists.
        """
        parse_definition(organisation, key, 1, spec)
        if len(msgspec.json.encode(spec)) > _MAX_SPEC:
            raise DefinitionError("spec", f"must have at most {_MAX_SPEC} bytes")
        async with self._pool.acquire() as connection, connection.transaction():
            present = await connection.fetchrow(
                "SELECT version, spec FROM metrics WHERE organisation = $1 AND key = $2 FOR UPDATE", organisation, key
            )
            if present is None:
                outcome = Outcome.CREATED
            elif canonical(present["spec"]) == canonical(spec):
                return Outcome.UNCHANGED, present["version"]
            else:
                outcome = Outcome.CHANGED
            version: int = await connection.fetchval(
                "INSERT INTO metrics AS m (organisation, key, version, spec) VALUES ($1, $2, 1, $3) "
                "ON CONFLICT (organisation, key) DO UPDATE SET version = m.version + 1, spec = excluded.spec, "
                "updated_at = now() RETURNING version",
                organisation,
                key,
                spec,
            )
        try:
            await self._publish(organisation, key)
        except (KafkaError, TimeoutError) as error:
            logger.warning("the metric is stored and will be published later", extra={"error": repr(error)})
        return outcome, version

    async def get(self, organisation: str, key: str) -> tuple[Definition, dict[str, Any]] | None:
        row = await self._pool.fetchrow(
            "SELECT version, spec FROM metrics WHERE organisation = $1 AND key = $2", organisation, key
        )
        return (
            None if row is None else (parse_definition(organisation, key, row["version"], row["spec"]), row["spec"])
        )

    async def all(self, organisation: str) -> list[Definition]:
        rows = await self._pool.fetch(
            "SELECT key, version, spec FROM metrics WHERE organisation = $1 ORDER BY key", organisation
        )
        return [parse_definition(organisation, key, version, spec) for key, version, spec in rows]

    async def _publish(self, organisation: str, key: str) -> None:
        """Until what was published last is the version in force: compaction keeps the last record of a key."""
        version = None
        while version is None:
            row = await self._pool.fetchrow(
                "SELECT version, spec FROM metrics WHERE organisation = $1 AND key = $2", organisation, key
            )
            message = Metric(organisation=organisation, key=key, version=row["version"], spec=row["spec"])
            await self._publisher.publish(topics.METRICS, message)
            version = await self._pool.fetchval(
                "UPDATE metrics SET published_version = $3 "
                "WHERE organisation = $1 AND key = $2 AND version = $3 RETURNING version",
                organisation,
                key,
                row["version"],
            )

    async def _run(self) -> None:
        while True:
            try:
                for organisation, key in await self._pool.fetch(
                    "SELECT organisation, key FROM metrics WHERE published_version < version"
                ):
                    await self._publish(organisation, key)
            except (KafkaError, *RETRYABLE) as error:
                logger.warning("definitions wait to be published", extra={"error": repr(error)})
            await asyncio.sleep(_RETRY_SECONDS)
