"""Exposures on their way to Kafka: each is retried until it is acknowledged; how many may wait is bounded."""

from __future__ import annotations

import asyncio
import logging
from typing import Protocol

from aiokafka.errors import KafkaError
from prometheus_client import CollectorRegistry, Counter, Gauge

from shared.messages import Event
from shared.topics import EVENTS, Topic

logger = logging.getLogger(__name__)

_RETRY_SECONDS = 0.5


class EventPublisher(Protocol):
    async def publish(self, topic: Topic[Event], message: Event, *, deadline: float = 10) -> tuple[int, int]: ...


class Exposures:
    """Delivers events; their ids make repetitions harmless, so an attempt that timed out is simply made again."""

    def __init__(self, publisher: EventPublisher, registry: CollectorRegistry, *, capacity: int = 20_000) -> None:
        self._publisher = publisher
        self._capacity = capacity
        self._pending: set[asyncio.Task[None]] = set()
        self._failing = False
        self._delivered = Counter(
            "tidegate_assignment_exposures_delivered_total", "Exposures that Kafka has", registry=registry
        )
        self._refused = Counter(
            "tidegate_assignment_exposures_refused_total",
            "Exposures not taken because too many wait; the unit's next request tries again",
            registry=registry,
        )
        Gauge(
            "tidegate_assignment_exposures_pending", "Exposures that Kafka does not have yet", registry=registry
        ).set_function(lambda: len(self._pending))

    def deliver(self, event: Event) -> asyncio.Task[None] | None:
        """A task that ends with the acknowledgement; None if too many wait already."""
        if len(self._pending) >= self._capacity:
            self._refused.inc()
            return None
        task = asyncio.get_running_loop().create_task(self._deliver(event))
        self._pending.add(task)
        task.add_done_callback(self._pending.discard)
        return task

    async def drain(self, *, seconds: float = 5) -> None:
        """Waits until all are delivered, at most so long; then gives up."""
        if not self._pending:
            return
        _, left = await asyncio.wait(self._pending, timeout=seconds)
        if left:
            logger.error("exposures given up at shutdown", extra={"count": len(left)})
        for task in left:
            task.cancel()

    async def _deliver(self, event: Event) -> None:
        while True:
            try:
                await self._publisher.publish(EVENTS, event)
            except (KafkaError, TimeoutError, OSError) as error:
                if not self._failing:
                    logger.warning("exposures wait for Kafka", extra={"error": repr(error)})
                self._failing = True
                await asyncio.sleep(_RETRY_SECONDS)
            else:
                if self._failing:
                    logger.info("exposures reach Kafka again")
                self._failing = False
                self._delivered.inc()
                return
