"""Metric definitions: checked, stored with a version, published to `metrics.v1`."""

from __future__ import annotations

import logging
from typing import Any

from services.aggregator.domain.metrics import Definition, canonical, parse_definition
from shared import topics
from shared.definition_error import DefinitionError
from shared.definitions import DefinitionStore, Outcome, Stored
from shared.kafka import Publisher
from shared.messages import Metric
from shared.postgres import Pool

logger = logging.getLogger(__name__)


class Definitions:
    def __init__(self, pool: Pool, publisher: Publisher) -> None:
        self._store: DefinitionStore[Metric] = DefinitionStore(
            pool, publisher, topic=topics.METRICS, table="metrics", canonical=canonical
        )

    async def restore(self, kafka: str) -> int:
        """Before `start`: takes over what Kafka knows and Postgres does not. Raises what `DefinitionStore` says."""
        return await self._store.restore(kafka, parse_definition)

    async def start(self) -> None:
        await self._store.start()

    async def stop(self) -> None:
        await self._store.stop()

    async def put(self, organisation: str, key: str, spec: Any) -> tuple[Outcome, int]:
        """Returns what happened and the version in force. Raises DefinitionError, or what `RETRYABLE` lists."""
        parse_definition(organisation, key, 1, spec)
        return await self._store.put(organisation, key, spec)

    async def get(self, organisation: str, key: str) -> tuple[Definition, dict[str, Any]] | None:
        stored = await self._store.get(organisation, key)
        if stored is None:
            return None
        return parse_definition(organisation, key, stored.version, stored.spec), dict(stored.spec)

    async def stored(self, organisation: str) -> list[Stored]:
        """As they were written, in order of their keys."""
        return await self._store.all(organisation)

    async def all(self, organisation: str) -> list[Definition]:
        """Without those that an earlier version of the service accepted and this one refuses: they count no more."""
        found = []
        for stored in await self.stored(organisation):
            try:
                found.append(parse_definition(organisation, stored.key, stored.version, stored.spec))
            except DefinitionError as error:
                logger.error("metric definition ignored", extra={"metric": stored.key, "error": str(error)})
        return found
