"""The ingest service: `python -m services.ingest`, configured by the environment (`shared.settings`)."""

from __future__ import annotations

import asyncio
import os
import uuid
from contextlib import AsyncExitStack

import uvloop
from prometheus_client import CollectorRegistry

from services.ingest.api import ingest_api
from services.ingest.http import EventRoutes, needed_scope
from services.ingest.intake import Intake
from services.ingest.kafka_producer import KafkaProducer
from services.ingest.metrics import IngestMetrics
from services.ingest.producer import Limits, SharedBatches
from shared.clock import system_clock
from shared.http import AsgiApp, Server, service_app
from shared.kafka import Replica, Tail
from shared.keys import KeyRing
from shared.settings import Settings
from shared.telemetry import configure_logging
from shared.topics import DEAD_LETTERS, EVENTS, KEYS

DEAD_LETTER_LIMITS = Limits(pending_bytes=16 * 1024 * 1024)
"""A flood of invalid events may take less memory than events may."""


async def ingest_app(settings: Settings, resources: AsyncExitStack) -> AsgiApp:
    """The application with everything it needs started; `resources` stops it all, last started first."""
    registry = CollectorRegistry()
    metrics = IngestMetrics(registry)

    ring = KeyRing()
    keys = Replica(settings.kafka, KEYS, ring.learn)
    resources.push_async_callback(keys.stop)
    await keys.start()

    tail = Tail(settings.kafka, DEAD_LETTERS.name)
    resources.push_async_callback(tail.stop)
    await tail.start()

    def log_of(topic: str, limits: Limits) -> SharedBatches:
        connect = lambda: KafkaProducer(settings.kafka)  # noqa: E731
        log = SharedBatches(topic, connect, limits, metrics.of_topic(topic))
        resources.push_async_callback(log.stop)
        return log

    # One producer each: a flood of dead letters must not hold up events.
    events = log_of(EVENTS.name, Limits())
    letters = log_of(DEAD_LETTERS.name, DEAD_LETTER_LIMITS)
    await asyncio.gather(events.start(), letters.start())

    intake = Intake(
        events=events,
        letters=letters,
        clock=system_clock,
        new_id=lambda: str(uuid.uuid4()),
        metrics=metrics,
    )
    return service_app(
        EventRoutes(intake, ingest_api(tail)),
        keys=ring,
        needed=needed_scope,
        ready=lambda: events.waiting_for() or letters.waiting_for() or keys.waiting_for(),
        registry=registry,
    )


async def main() -> None:
    settings = Settings.from_environment(os.environ)
    configure_logging("ingest", settings.log_level)
    async with AsyncExitStack() as resources:
        app = await ingest_app(settings, resources)
        await Server(app, host=settings.host, port=settings.port).run()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
