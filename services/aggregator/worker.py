"""The Faust worker: one agent on `events.v1` that hands record batches to the partitions' folders."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any, cast

import faust
from aiokafka.errors import KafkaError
from faust.types import TP
from prometheus_client import CollectorRegistry

from services.aggregator.backfiller import Backfiller
from services.aggregator.catalogue import Catalogue
from services.aggregator.event_log import EventLog, LogTail
from services.aggregator.heartbeats import Heartbeats
from services.aggregator.listeners import Listeners
from services.aggregator.maintenance import Maintenance
from services.aggregator.partitions import Partitions
from services.aggregator.record_batches import (
    MAX_FETCH,
    MAX_RECORDS,
    BatchConsumer,
    BatchTransport,
    Gate,
    RawSchema,
    RecordBatch,
)
from services.aggregator.scratch_files import ScratchFiles
from services.aggregator.shard_clocks import ShardClocks
from services.aggregator.shard_folder import Tools
from services.aggregator.store.series import SeriesIds
from services.aggregator.telemetry import WorkerMetrics
from services.aggregator.updates import Updates
from services.aggregator.watchdog import Pulses, Watchdog
from shared import topics
from shared.clock import Clock
from shared.http import Problem, Server, send_problem, service_app
from shared.kafka import Publisher
from shared.keys import KeyRing
from shared.postgres import create_pool, wait_until_ready
from shared.settings import Settings

logger = logging.getLogger(__name__)

GROUP = "aggregator"
_SESSION = 10.0
"""Seconds without a sign of life after which a worker's partitions go to others: with what follows, 15 at most."""
_REPORT_EVERY = 5.0
"""Seconds between commits to Kafka, which only lag tools read."""


class WorkerError(Exception):
    """The worker cannot go on; a restart continues exactly where Postgres stands."""


class TablelessApp(faust.App):
    """Keeps no tables, so it needs no directories on disk either."""

    def _create_directories(self) -> None:
        pass


def new_app(settings: Settings, events_topic: str, partitions: Partitions, gate: Gate) -> faust.App:
    """A Faust app without tables, web server or topic management: those are done elsewhere, or not needed."""
    app = TablelessApp(
        GROUP,
        broker=[f"kafka://{server}" for server in settings.kafka.split(",")],
        store="memory://",
        topic_allow_declare=False,
        topic_disable_leader=True,
        web_enabled=False,
        autodiscover=False,
        stream_wait_empty=False,
        consumer_auto_offset_reset="earliest",
        consumer_group_instance_id=f"{GROUP}-{settings.instance}",
        broker_session_timeout=_SESSION,
        broker_heartbeat_interval=2.0,
        broker_max_poll_records=MAX_RECORDS,
        consumer_max_fetch_size=MAX_FETCH,
        stream_recovery_delay=0.0,
    )
    app.transport = BatchTransport(
        app.conf.broker,
        app,
        loop=asyncio.get_running_loop(),
        events_topic=events_topic,
        positions=partitions,
        gate=gate,
    )
    topic = app.topic(events_topic, schema=RawSchema(), acks=False)

    @app.agent(topic, name="fold")
    async def fold(batches: Any) -> None:
        batch: RecordBatch
        async for batch in batches:
            await partitions.submit(batch)

    return app


async def run_worker(settings: Settings, clock: Clock) -> None:
    """Runs until a signal asks it to stop. Raises whatever made going on impossible."""
    _collect_garbage_rarely()
    scratch = ScratchFiles(settings.scratch)
    scratch.check()
    registry = CollectorRegistry()
    metrics = WorkerMetrics(registry)
    failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def fail(error: BaseException) -> None:
        if not failed.done():
            failed.set_exception(error)

    async with AsyncExitStack() as stack:
        pool = await create_pool(
            settings.postgres,
            name="aggregator-worker",
            size=8,
            schema="aggregator",
            synchronous_commit=False,
            reset=False,
        )
        stack.push_async_callback(_close_pool, pool)
        gate = Gate()
        publisher = Publisher(settings.kafka)
        catalogue = Catalogue(settings.kafka, clock)
        listeners = Listeners()
        updates = Updates(publisher, pool, clock, metrics, listeners)
        tools = Tools(
            pool,
            SeriesIds(),
            catalogue,
            publisher,
            updates,
            listeners,
            metrics,
            clock,
            topics.EVENTS.name,
            scratch.create,
        )
        partitions = Partitions(tools, EventLog(settings.kafka, topics.EVENTS.name), gate, fail)
        server = Server(
            service_app(
                _no_routes,
                keys=KeyRing(),
                needed=lambda method, path: None,
                ready=lambda: listeners.waiting_for() if partitions.ready else "waiting for partitions",
                registry=registry,
            ),
            host=settings.host,
            port=settings.port,
        )
        serving = asyncio.create_task(server.run(), name="http")
        stack.push_async_callback(_stop_server, server, serving)
        await wait_until_ready(pool)
        maintenance = Maintenance(pool, clock)
        maintaining = await maintenance.start()
        stack.push_async_callback(maintenance.stop)
        await publisher.start()
        stack.push_async_callback(publisher.stop)
        await catalogue.start()
        stack.push_async_callback(catalogue.stop)
        await listeners.start(settings.kafka, clock)
        stack.push_async_callback(listeners.stop)
        tail = LogTail(settings.kafka, topics.EVENTS.name)
        await tail.start()
        stack.push_async_callback(tail.stop)
        updating = updates.start()
        stack.push_async_callback(updates.stop)
        pulses = Pulses()
        pulsing = asyncio.create_task(pulses.run(), name="pulses")
        stack.callback(pulsing.cancel)
        clocks = ShardClocks(tail, partitions, pool, pulses, metrics, clock)
        watchdog = Watchdog(pulses, os._exit, metrics.show_stalled)
        watchdog.start()
        stack.callback(watchdog.stop)
        app = new_app(settings, topics.EVENTS.name, partitions, gate)
        await app.start()
        stack.push_async_callback(_stop_quietly, app.stop)
        beating = asyncio.create_task(
            Heartbeats(publisher, tail, partitions, updates, clocks, clock).run(), name="heartbeats"
        )
        stack.callback(beating.cancel)
        timing = asyncio.create_task(clocks.run(), name="clocks")
        stack.callback(timing.cancel)
        backfilling = asyncio.create_task(Backfiller(tools, partitions, settings.kafka).run(), name="backfills")
        stack.callback(backfilling.cancel)
        reporting = asyncio.create_task(_report(app, partitions), name="report")
        stack.callback(reporting.cancel)
        running = asyncio.create_task(app.wait_until_stopped(), name="faust")
        done, _ = await asyncio.wait(
            {serving, updating, running, failed, reporting, beating, timing, backfilling, maintaining},
            return_when=asyncio.FIRST_COMPLETED,
        )
        for finished in done:
            await finished
        if serving not in done:
            raise WorkerError(f"Faust stopped by itself: {app.crash_reason!r}")


def _collect_garbage_rarely() -> None:
    """A batch makes objects by the ten thousand that die with it, without cycles: collecting only walks them."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 20, 100)


async def _report(app: faust.App, partitions: Partitions) -> None:
    """Tells Kafka how far we are, for tools that show a group's lag. Nothing reads it back."""
    while True:
        await asyncio.sleep(_REPORT_EVERY)
        positions = partitions.positions()
        if not positions or app.rebalancing:
            continue
        try:
            consumer = cast(BatchConsumer, app.consumer)
            await consumer.report({TP(topics.EVENTS.name, p): offset for p, offset in positions.items()})
        except (KafkaError, TimeoutError) as error:
            logger.info("lag could not be reported", extra={"error": repr(error)})


async def _no_routes(scope: Any, receive: Any, send: Any) -> None:
    await send_problem(send, Problem(404, "not_found", "the worker has /metrics, /healthz and /readyz only"))


async def _stop_server(server: Server, serving: asyncio.Task[None]) -> None:
    server.stop()
    await asyncio.wait([serving], timeout=12)


async def _stop_quietly(stop: Callable[[], Awaitable[None]]) -> None:
    """A worker that stops must not hang: the cursor is in Postgres, nothing is lost."""
    try:
        async with asyncio.timeout(15):
            await stop()
    except TimeoutError:
        logger.warning("Faust did not stop in time")


async def _close_pool(pool: Any) -> None:
    try:
        async with asyncio.timeout(5):
            await pool.close()
    except TimeoutError:
        pool.terminate()
