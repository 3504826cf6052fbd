"""From Postgres to Kafka: what was committed is published before the answer, else soon after; at start, all of it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from aiokafka.errors import KafkaError

from services.assignment.directory import Directory
from services.assignment.domain.experiment import Definition, to_message
from services.assignment.experiment_store import ExperimentStore
from services.assignment.key_store import KeyStore
from shared.http import Problem
from shared.kafka import Publisher
from shared.keys import KeyRing
from shared.messages import ApiKey
from shared.postgres import RETRYABLE
from shared.topics import EXPERIMENTS, KEYS

logger = logging.getLogger(__name__)

_DEADLINE = 5.0
_PAUSE = 1.0


class Publication:
    """Publishes experiments and keys; this process knows them as soon as Kafka does."""

    def __init__(
        self,
        publisher: Publisher,
        experiments: ExperimentStore,
        keys: KeyStore,
        directory: Directory,
        ring: KeyRing,
    ) -> None:
        self._publisher = publisher
        self._experiments = experiments
        self._keys = keys
        self._directory = directory
        self._ring = ring

    async def experiment(self, identity: int) -> None:
        """Raises Problem when Kafka or Postgres does not take it now; the change is stored and follows later."""
        await self._now(self._experiments.publish(identity, self._send_experiment))

    async def key(self, prefix: str) -> None:
        """As `experiment`."""
        await self._now(self._keys.publish(prefix, self._send_key))

    async def run(self, bootstrap: Callable[[], Any]) -> None:
        """Until cancelled: waits for Postgres, runs `bootstrap`, republishes all, then whatever is left behind."""
        complete = False
        while True:
            try:
                if not complete:
                    await bootstrap()
                for prefix in await (self._keys.unpublished() if complete else self._keys.every()):
                    await self._keys.publish(prefix, self._send_key, again=not complete)
                for identity in await (self._experiments.unpublished() if complete else self._experiments.every()):
                    await self._experiments.publish(identity, self._send_experiment, again=not complete)
                if not complete:
                    logger.info("all definitions and keys are published")
                    complete = True
            except (*RETRYABLE, KafkaError) as error:
                logger.warning("publication waits", extra={"error": repr(error)})
            await asyncio.sleep(_PAUSE)

    async def _now(self, publishing: Any) -> None:
        try:
            await publishing
        except (*RETRYABLE, KafkaError) as error:
            logger.warning("published later", extra={"error": repr(error)})
            raise Problem(
                503,
                "stored_not_published",
                "the change is stored; it takes effect as soon as Kafka takes it",
                headers={"Retry-After": "1"},
            ) from error

    async def _send_experiment(self, definition: Definition) -> None:
        message = to_message(definition)
        await self._publisher.publish(EXPERIMENTS, message, deadline=_DEADLINE)
        self._directory.learn(message)

    async def _send_key(self, key: ApiKey) -> None:
        await self._publisher.publish(KEYS, key, deadline=_DEADLINE)
        self._ring.learn(key)
