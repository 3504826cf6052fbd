"""Data sources within the ingest service: started in the background, whatever is away at the moment."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import uuid
from contextlib import AsyncExitStack

from aiokafka.errors import KafkaError
from fastapi import APIRouter
from prometheus_client import CollectorRegistry

from services.ingest.intake import Intake
from services.ingest.sources.api import admin_source_routes, source_routes
from services.ingest.sources.catalogue import Catalogue
from services.ingest.sources.definitions import SourceDefinitions, SourceSpecs
from services.ingest.sources.following import follow
from services.ingest.sources.leases import Leases
from services.ingest.sources.manager import SourceManager
from services.ingest.sources.readers import reader_of
from services.ingest.sources.telemetry import SourceMetrics
from services.ingest.sources.webhooks import Webhooks, webhook_routes
from shared.clock import Clock
from shared.kafka import Publisher, Replica
from shared.messages import Source
from shared.postgres import RETRYABLE, Pool, create_pool
from shared.sealing import sealer_of
from shared.settings import Settings
from shared.topics import SOURCES

logger = logging.getLogger(__name__)

_RETRY_SECONDS = 1.0
_LONGEST_RETRY_SECONDS = 10.0


class SourceService:
    """`routes` answer at once: with 503 while Postgres is away, which no event waits for."""

    def __init__(
        self,
        settings: Settings,
        pool: Pool,
        publisher: Publisher,
        intake: Intake,
        registry: CollectorRegistry,
        clock: Clock,
    ) -> None:
        specs = SourceSpecs(sealer_of(settings.sealing_keys))
        leases = Leases(pool, process_name())
        self.catalogue = Catalogue(specs)
        self._kafka = settings.kafka
        self._definitions = SourceDefinitions(pool, publisher, specs)
        self._manager = SourceManager(self.catalogue, leases, intake, reader_of, clock)
        self._webhooks = Webhooks(self.catalogue, leases, intake, clock)
        self.routes: tuple[APIRouter, ...] = (
            source_routes(self._definitions, leases, clock),
            webhook_routes(self._webhooks),
            admin_source_routes(self._definitions, leases),
        )
        registry.register(SourceMetrics(self._manager.runs))

    async def run(self) -> None:
        """Until it is cancelled; the sources of this process are let go of then."""
        try:
            async with asyncio.TaskGroup() as beside:
                beside.create_task(follow(self._new_copy), name="copy of sources")
                beside.create_task(self._prepare(), name="source definitions")
                beside.create_task(self._webhooks.run(), name="counts of webhooks")
                await self._manager.run()
        finally:
            await self._definitions.stop()

    def _new_copy(self) -> Replica[Source]:
        return Replica(self._kafka, SOURCES, self.catalogue.learn)

    async def _prepare(self) -> None:
        pause = _RETRY_SECONDS
        while True:
            try:
                await self._definitions.prepare(self._kafka)
                break
            except (KafkaError, *RETRYABLE) as error:
                logger.warning("definitions of sources wait for Postgres", extra={"error": repr(error)})
            except Exception:  # the tables may not be there yet
                logger.exception("definitions of sources cannot be prepared")
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_RETRY_SECONDS)
        await self._definitions.start()


async def start_sources(
    settings: Settings,
    intake: Intake,
    registry: CollectorRegistry,
    clock: Clock,
    resources: AsyncExitStack,
) -> SourceService:
    """Waits for Kafka, not for Postgres. `resources` stops it. Raises SettingsError or KafkaError."""
    pool = await create_pool(settings.postgres, name="ingest", size=4, command_timeout=5)
    resources.push_async_callback(_close, pool)
    publisher = Publisher(settings.kafka)
    resources.push_async_callback(publisher.stop)
    await publisher.start()
    service = SourceService(settings, pool, publisher, intake, registry, clock)
    task = asyncio.create_task(service.run(), name="sources")
    task.add_done_callback(_complain)
    resources.push_async_callback(_end, task)
    return service


def process_name() -> str:
    """Of this process among all that ever run sources."""
    return f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"


def _complain(task: asyncio.Task[None]) -> None:
    """Events go on without sources, but somebody should know."""
    if not task.cancelled() and task.exception() is not None:
        logger.error("sources run no more", exc_info=task.exception())


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def _close(pool: Pool) -> None:
    """Stopping must not hang on a Postgres that is away."""
    try:
        async with asyncio.timeout(2):
            await pool.close()
    except TimeoutError:
        pool.terminate()
