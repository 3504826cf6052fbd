"""One source, read again and again: after every failure a pause, longer each time."""

from __future__ import annotations

import asyncio
import logging
import random

from services.ingest.domain.sources.backoff import delay
from services.ingest.domain.sources.connections import KafkaConnection, secrets_of
from services.ingest.domain.sources.definition import SourceDefinition
from services.ingest.domain.sources.health import Health
from services.ingest.domain.sources.secrets import HIDDEN
from services.ingest.sources.delivery import Delivery
from services.ingest.sources.leases import Lease, LeaseLostError
from services.ingest.sources.reader import Read, ReadError, RefusedError
from shared.cancelling import cancel_until_ended
from shared.clock import Clock

logger = logging.getLogger(__name__)

_LEAVING_SECONDS = 10.0
"""Enough to leave a consumer group, or to hand on what has been read."""


class Run:
    """A source that this process holds. `valid_until` (event loop time) is when its lease runs out for us."""

    def __init__(self, definition: SourceDefinition, lease: Lease, health: Health, valid_until: float) -> None:
        self.definition = definition
        self.lease = lease
        self.health = health
        self.valid_until = valid_until
        self._task: asyncio.Task[None] | None = None

    @property
    def outlives_its_lease(self) -> bool:
        """A consumer group keeps two readers apart by itself, and its position is not ours to store."""
        return isinstance(self.definition.connection, KafkaConnection)

    def start(self, read: Read, delivery: Delivery, clock: Clock) -> None:
        self._task = asyncio.create_task(self._repeat(read, delivery, clock), name=self.definition.origin)

    async def stop(self) -> None:
        """Returns when nothing of it is under way any more."""
        if self._task is not None:
            await cancel_until_ended(self._task, patience=_LEAVING_SECONDS)

    def has_ended(self) -> bool:
        """By itself: the source belongs to another process."""
        return self._task is not None and self._task.done()

    async def _repeat(self, read: Read, delivery: Delivery, clock: Clock) -> None:
        named = {"source": self.definition.key, "organisation": self.definition.organisation}
        while True:
            asked, judged = 0.0, self.health.failed
            try:
                await read(delivery)
                error = "the far end has ended the stream"
            except LeaseLostError:
                logger.warning("another process runs the source", extra=named)
                return
            except Exception as failure:  # of any kind: a source must never end for good, nor take others with it
                asked = failure.retry_after if isinstance(failure, ReadError) else 0.0
                judged = self.health.refused if isinstance(failure, RefusedError) else judged
                error = self._without_secrets(_told(failure))
            judged(error, clock())
            pause = delay(self.health.failures, random.random(), asked)
            logger.warning("a source starts again", extra={**named, "error": error, "seconds": round(pause, 1)})
            await asyncio.sleep(pause)

    def _without_secrets(self, text: str) -> str:
        for secret in secrets_of(self.definition.connection):
            text = text.replace(secret, HIDDEN)
        return text


def _told(failure: Exception) -> str:
    """What went wrong, with the kind of error where its text does not say it by itself."""
    kind, text = type(failure).__name__, str(failure)
    return text if isinstance(failure, ReadError) or text.startswith(kind) else f"{kind}: {text}".removesuffix(": ")
