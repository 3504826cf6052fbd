"""The ingest service: `python -m services.ingest`, configured by the environment (`shared.settings`)."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import signal
import sys
import time
import uuid
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import uvloop
from prometheus_client import CollectorRegistry

from services.ingest.api import ingest_api
from services.ingest.background import start_backends
from services.ingest.balances import Balances, OwnBalances, SharedBalances
from services.ingest.compat.routes import CompatibleRoutes
from services.ingest.domain.letters.readers import reader_of
from services.ingest.http import EventRoutes, max_body, needed_scope
from services.ingest.intake import Intake
from services.ingest.kafka_producer import KafkaProducer
from services.ingest.kinds_api import kind_routes
from services.ingest.letters.desk import letter_desk
from services.ingest.metrics import IngestMetrics
from services.ingest.prediction_copies import CopiedPredictions
from services.ingest.processes import COMMAND, Place, Workers, orphaned
from services.ingest.producer import Limits, SharedBatches
from services.ingest.quality.inspections import Inspections
from services.ingest.quality.intake_rule_api import needed_scope as rule_scope
from services.ingest.quality.intake_rule_service import start_intake_rules
from services.ingest.quality.schema_api import needed_scope as schema_scope
from services.ingest.quality.schema_service import start_schemas
from services.ingest.rate_limits import RateLimits
from services.ingest.sources.api import needed_scope as source_scope
from services.ingest.sources.service import start_sources
from services.ingest.sources.webhooks import PREFIX as WEBHOOKS
from services.ingest.websocket import EventStream
from services.ingest.worker_metrics import WorkerMetrics
from shared.clock import system_clock
from shared.http import AsgiApp, Server, admitted, service_app
from shared.kafka import Replica
from shared.keys import KeyRing, rate_limit
from shared.messages import Scope
from shared.settings import Settings
from shared.telemetry import configure_logging
from shared.topics import DEAD_LETTER_MARKS, DEAD_LETTERS, EVENTS, KEYS, PREDICTIONS

DEAD_LETTER_LIMITS = Limits(pending_bytes=16 * 1024 * 1024)
"""A flood of invalid events may take less memory than events may, and so may copies of predictions."""


async def ingest_app(
    settings: Settings, resources: AsyncExitStack, place: Place | None = None
) -> tuple[AsgiApp, EventStream]:
    """The application with everything it needs started, and what in it must be drained before it ends.

    `resources` stops it all, last started first. `place` is ours among several processes.
    """
    registry = CollectorRegistry()
    metrics = IngestMetrics(registry)

    rate = settings.key_events_per_second
    ring = KeyRing(default=None if rate is None else rate_limit(rate))
    keys = Replica(settings.kafka, KEYS, ring.learn)
    resources.push_async_callback(keys.stop)
    await keys.start()

    def log_of(topic: str, limits: Limits) -> SharedBatches:
        connect = lambda: KafkaProducer(settings.kafka)  # noqa: E731
        log = SharedBatches(topic, connect, limits, metrics.of_topic(topic))
        resources.push_async_callback(log.stop)
        return log

    # One producer each: a flood of dead letters must not hold up events.
    events = log_of(EVENTS.name, Limits())
    letters = log_of(DEAD_LETTERS.name, DEAD_LETTER_LIMITS)
    marks = log_of(DEAD_LETTER_MARKS.name, DEAD_LETTER_LIMITS)
    copies = log_of(PREDICTIONS.name, DEAD_LETTER_LIMITS)
    await asyncio.gather(events.start(), letters.start(), marks.start(), copies.start())
    kept = CopiedPredictions(events, copies)

    balances: Balances = OwnBalances()
    if place is not None:
        balances = shared_balances = SharedBalances(place.directory / "balances")
        resources.callback(shared_balances.close)
    inspections = Inspections()
    intake = Intake(
        events=kept,
        letters=letters,
        clock=system_clock,
        new_id=lambda: str(uuid.uuid4()),
        metrics=metrics,
        inspections=inspections,
        rates=RateLimits(balances, now=time.monotonic, chance=random.random, metrics=metrics.rates),
    )
    backends = await start_backends(settings, resources)
    # Before any event comes in: what a rule hides must not be stored.
    intake_rules, schemas = await asyncio.gather(
        start_intake_rules(settings, backends, inspections, registry, system_clock, resources),
        start_schemas(backends, inspections, system_clock, resources),
    )
    sources = await start_sources(settings, backends, intake, registry, system_clock, resources)
    dead_letters, marks_wait_for = await letter_desk(
        settings.kafka,
        intake=intake,
        events=kept,
        marks=marks,
        reader_of=lambda letter: sources.catalogue.reader(letter.organisation, letter.origin) or reader_of(letter),
        metrics=metrics,
        resources=resources,
    )
    ready = lambda: events.waiting_for() or letters.waiting_for() or keys.waiting_for() or marks_wait_for()  # noqa: E731
    admit = lambda key: admitted(key, "ingest", ring, ready)  # noqa: E731
    stream = EventStream(intake, admit=admit, metrics=metrics.sockets)
    shown = None
    if place is not None:
        shown = WorkerMetrics(registry, place.number, place.directory)
        resources.push_async_callback(shown.stop)
        await shown.start()
    rest = ingest_api(*dead_letters, kind_routes(), schemas, intake_rules, *sources.routes)
    app = service_app(
        EventRoutes(intake, CompatibleRoutes(intake, admit, system_clock, rest)),
        keys=ring,
        needed=_needed,
        ready=ready,
        registry=registry,
        max_body=max_body,
        sockets=stream,
        exposition=None if shown is None else shown.text,
    )
    return app, stream


def _needed(method: str, path: str) -> Scope | None:
    """A webhook is let in by its signature."""
    if path.startswith(f"{WEBHOOKS}/"):
        return None
    return source_scope(method, path) or schema_scope(path) or rule_scope(path) or needed_scope(method, path)


def _calm_collector() -> None:
    """What is there by now stays; what events leave behind has no cycles, so that looking for some can wait.

    By default Python looks each time that there are 700 new objects, some events' worth, and now and then at all.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


async def serve(settings: Settings, place: Place | None = None) -> None:
    """Returns after SIGINT or SIGTERM, as one of several processes also when their parent is gone."""
    server: Server | None = None

    def end(alone: asyncio.Task[None]) -> None:
        if alone.cancelled():
            return
        if server is None:  # a start waits for Kafka without end, and owes nobody an answer
            signal.raise_signal(signal.SIGTERM)
        else:
            server.stop()

    async with AsyncExitStack() as resources:
        shared = place is not None
        if shared:
            alone = asyncio.create_task(orphaned())
            alone.add_done_callback(end)
            resources.callback(alone.cancel)
        app, stream = await ingest_app(settings, resources, place)
        _calm_collector()
        server = Server(app, host=settings.host, port=settings.port, drain=stream.drain, shared=shared)
        await server.run()


async def main(arguments: Sequence[str]) -> None:
    settings = Settings.from_environment(os.environ)
    configure_logging("ingest", settings.log_level)
    if arguments:
        number, directory = arguments
        await serve(settings, Place(int(number), Path(directory)))
    elif settings.processes > 1:
        await Workers(
            settings.processes, host=settings.host, port=settings.port, environment=os.environ, command=COMMAND
        ).run()
    else:
        await serve(settings)


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(sys.argv[1:]))
