"""Data sources within the ingest service: started in the background, whatever is away at the moment."""

from __future__ import annotations

import asyncio
import os
import socket
import uuid
from contextlib import AsyncExitStack
from functools import partial

from fastapi import APIRouter
from prometheus_client import CollectorRegistry

from services.ingest.background import Backends, run_in_background
from services.ingest.intake import Intake
from services.ingest.kept_definitions import patiently
from services.ingest.sources.api import admin_source_routes, source_routes
from services.ingest.sources.catalogue import Catalogue
from services.ingest.sources.definitions import SourceDefinitions, SourceSpecs
from services.ingest.sources.following import follow
from services.ingest.sources.leases import Leases
from services.ingest.sources.manager import SourceManager
from services.ingest.sources.own_kafka import OwnKafka
from services.ingest.sources.readers import reader_of
from services.ingest.sources.telemetry import SourceMetrics
from services.ingest.sources.webhooks import Webhooks, webhook_routes
from shared.clock import Clock
from shared.kafka import Publisher, Replica
from shared.messages import Source
from shared.postgres import Pool
from shared.sealing import sealer_of
from shared.settings import Settings
from shared.topics import SOURCES


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
        self._manager = SourceManager(
            self.catalogue, leases, intake, partial(reader_of, own=OwnKafka(settings.kafka)), clock
        )
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
        await patiently("definitions of sources", lambda: self._definitions.prepare(self._kafka))
        await self._definitions.start()


async def start_sources(
    settings: Settings,
    backends: Backends,
    intake: Intake,
    registry: CollectorRegistry,
    clock: Clock,
    resources: AsyncExitStack,
) -> SourceService:
    """Waits for nothing. `resources` stops it. Raises SettingsError."""
    service = SourceService(settings, backends.pool, backends.publisher, intake, registry, clock)
    run_in_background(service.run(), "sources", resources)
    return service


def process_name() -> str:
    """Of this process among all that ever run sources."""
    return f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
