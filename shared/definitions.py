"""Versioned definitions (metrics, flags, rules, ...): stored in Postgres, published on a compacted topic.

    PUT ─► row, version + 1 ─► publish ─► published_version = version      (a row is its own outbox)

While published_version < version the row is still to be sent; at start every row is sent again, so that a topic
that lost its data is whole. Consumers ignore lower versions. The other way round, `restore` gives a Postgres that
lost its data what the topic holds.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Generic, TypeVar

import msgspec
from aiokafka.errors import KafkaError

from shared.cancelling import cancel_until_ended
from shared.definition_error import DefinitionError
from shared.kafka import Publisher, Replica
from shared.messages import Breaker, Flag, IntakeRule, Metric, Rule, Schema, Source
from shared.postgres import RETRYABLE, Pool
from shared.topics import Topic

logger = logging.getLogger(__name__)

T = TypeVar("T", Metric, Flag, Rule, Breaker, Source, IntakeRule, Schema)

_RETRY_SECONDS = 1.0
MAX_SPEC = 64 * 1024
"""Bytes of a spec: Kafka takes no message of more than a megabyte, and what is read often should be short."""


class OutdatedError(Exception):
    """What a change was made from is no longer in force: read it again."""


class Outcome(Enum):
    CREATED = "created"
    CHANGED = "changed"
    UNCHANGED = "unchanged"


@dataclass(frozen=True, slots=True)
class Stored:
    """A definition as it is in force."""

    organisation: str
    key: str
    version: int
    spec: Mapping[str, Any]

    def as_json(self) -> dict[str, Any]:
        """As every service's REST shows it."""
        return {"key": self.key, "version": self.version, "spec": dict(self.spec)}


def check_size(spec: object) -> None:
    """Raises DefinitionError if the spec has more than `MAX_SPEC` bytes."""
    if len(msgspec.json.encode(spec)) > MAX_SPEC:
        raise DefinitionError("spec", f"a spec may have at most {MAX_SPEC} bytes")


class DefinitionStore(Generic[T]):
    """One kind of definition; `table` has columns organisation, key, version, published_version, spec, updated_at.

    Two specs with the same `canonical` form are the same definition.
    """

    def __init__(
        self,
        pool: Pool,
        publisher: Publisher,
        *,
        topic: Topic[T],
        table: str,
        canonical: Callable[[Any], Any],
    ) -> None:
        self._pool = pool
        self._publisher = publisher
        self._topic: Topic[T] = topic
        self._table = table
        self._canonical = canonical
        self._task: asyncio.Task[None] | None = None

    async def restore(self, kafka: str, check: Callable[[str, str, int, Any], object]) -> int:
        """Takes over what the topic holds and Postgres lacks, or has in a lower version; returns how many that were.

        So it is after Postgres was made anew or restored from a backup: consumers go by the topic, and would ignore
        whatever is put under a version that it has passed. Call it before `start`. `check` (organisation, key,
        version, spec) raises DefinitionError for what is no definition, which is left out.
        Raises KafkaError, TimeoutError or what `RETRYABLE` lists.
        """
        latest: dict[tuple[str, str], T] = {}

        def learn(message: T) -> None:
            known = latest.get((message.organisation, message.key))
            if known is None or message.version > known.version:
                latest[message.organisation, message.key] = message

        replica = Replica(kafka, self._topic, learn)
        try:
            await replica.start()
        finally:
            await replica.stop()
        restored = 0
        for (organisation, key), message in sorted(latest.items()):
            try:
                check(organisation, key, message.version, message.spec)
            except DefinitionError as error:
                logger.error("a definition is left out", extra={"key": key, "error": str(error)})
                continue
            restored += await self._pool.fetchval(
                f"WITH taken AS (INSERT INTO {self._table} AS t "
                "(organisation, key, version, published_version, spec) VALUES ($1, $2, $3, $3, $4) "
                "ON CONFLICT (organisation, key) DO UPDATE SET "
                "version = excluded.version, published_version = excluded.published_version, spec = excluded.spec, "
                "updated_at = now() WHERE t.version < excluded.version RETURNING 1) SELECT count(*) FROM taken",
                organisation,
                key,
                message.version,
                message.spec,
            )
        if restored:
            logger.warning("definitions were restored from Kafka", extra={"table": self._table, "number": restored})
        return restored

    async def start(self) -> None:
        """Begins to publish in the background, everything once; waits for nothing."""
        self._task = asyncio.create_task(self._run(), name=f"outbox of {self._table}")

    async def stop(self) -> None:
        if self._task is not None:
            await cancel_until_ended(self._task)

    async def put(
        self, organisation: str, key: str, spec: Mapping[str, Any], *, floor: int = 0, expected: int | None = None
    ) -> tuple[Outcome, int]:
        """Stores a checked spec as a new version unless it means the same as the present one, and publishes it.

        `floor` is the version that consumers already have: above the stored one if Postgres was restored from a
        backup or made anew. They ignore whatever is not above it, so the new version is. `expected` is the version
        (0: none) that the spec was made from.

        Returns what happened and the version in force. Raises DefinitionError, OutdatedError if another version than
        the expected one is in force, or what `RETRYABLE` lists.
        """
        check_size(spec)
        async with self._pool.acquire() as connection, connection.transaction():
            # Of several that create it at once one inserts; the others wait for it here and then see its row.
            version: int | None = await connection.fetchval(
                f"INSERT INTO {self._table} (organisation, key, version, spec) VALUES ($1, $2, $4 + 1, $3) "
                "ON CONFLICT DO NOTHING RETURNING version",
                organisation,
                key,
                spec,
                floor,
            )
            outcome = Outcome.CREATED
            if version is not None and expected:
                raise OutdatedError
            if version is None:
                present = await connection.fetchrow(
                    f"SELECT version, spec FROM {self._table} WHERE organisation = $1 AND key = $2 FOR UPDATE",
                    organisation,
                    key,
                )
                if expected is not None and present["version"] != expected:
                    raise OutdatedError
                if present["version"] >= floor and self._canonical(present["spec"]) == self._canonical(spec):
                    return Outcome.UNCHANGED, present["version"]
                outcome, version = Outcome.CHANGED, max(present["version"], floor) + 1
                await connection.execute(
                    f"UPDATE {self._table} SET version = $3, spec = $4, updated_at = now() "
                    "WHERE organisation = $1 AND key = $2",
                    organisation,
                    key,
                    version,
                    spec,
                )
        try:
            await self._publish(organisation, key)
        except (KafkaError, TimeoutError) as error:
            logger.warning("the definition is stored and will be published later", extra={"error": repr(error)})
        return outcome, version

    async def get(self, organisation: str, key: str) -> Stored | None:
        row = await self._pool.fetchrow(
            f"SELECT organisation, key, version, spec FROM {self._table} WHERE organisation = $1 AND key = $2",
            organisation,
            key,
        )
        return None if row is None else Stored(*row)

    async def all(self, organisation: str) -> list[Stored]:
        """In order of their keys."""
        rows = await self._pool.fetch(
            f"SELECT organisation, key, version, spec FROM {self._table} WHERE organisation = $1 ORDER BY key",
            organisation,
        )
        return [Stored(*row) for row in rows]

    async def _publish(self, organisation: str, key: str) -> None:
        """Until what was published last is the version in force: compaction keeps the last record of a key."""
        version = None
        while version is None:
            row = await self.get(organisation, key)
            if row is None:
                return
            message = self._topic.message(
                organisation=organisation, key=key, version=row.version, spec=dict(row.spec)
            )
            await self._publisher.publish(self._topic, message)
            version = await self._pool.fetchval(
                f"UPDATE {self._table} SET published_version = $3 "
                "WHERE organisation = $1 AND key = $2 AND version = $3 RETURNING version",
                organisation,
                key,
                row.version,
            )

    async def _run(self) -> None:
        complete = False
        while True:
            condition = "published_version < version" if complete else "true"
            try:
                for organisation, key in await self._pool.fetch(
                    f"SELECT organisation, key FROM {self._table} WHERE {condition} ORDER BY organisation, key"
                ):
                    await self._publish(organisation, key)
                complete = True
            except (KafkaError, *RETRYABLE) as error:
                logger.warning("definitions wait to be published", extra={"error": repr(error)})
            await asyncio.sleep(_RETRY_SECONDS)
