"""The alerting service: `python -m services.alerting`, configured by the environment (`shared.settings`)."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from typing import Any

import uvloop
from aiokafka.errors import KafkaError
from prometheus_client import CollectorRegistry

from services.alerting.admin_api import breaker_routes, rule_routes
from services.alerting.alerts_api import alert_routes
from services.alerting.channel_store import ChannelStore
from services.alerting.channels.sender import new_session
from services.alerting.channels_api import channel_routes
from services.alerting.committer import Committer
from services.alerting.committer import Progress as TopicProgress
from services.alerting.definitions import breaker_definitions, rule_definitions
from services.alerting.delivery import Delivery, DeliveryMetrics
from services.alerting.domain.progress import Progress
from services.alerting.domain.revisions import Bounds, LatestUpdates
from services.alerting.guard import Guard
from services.alerting.http import needed_scope, rest_api
from services.alerting.installer import Installer
from services.alerting.metrics import MAX_SERIES_SHOWN, AlertingMetrics, SeriesMetrics
from services.alerting.outbox import ALERT_ROWS, SWITCH_ROWS, Outbox
from services.alerting.pipeline import Pipeline
from services.alerting.store.states import StateStore
from shared.clock import SECOND, system_clock
from shared.http import Server, service_app
from shared.kafka import Publisher, Replica
from shared.keys import KeyRing
from shared.messages import ApiKey, Switch
from shared.postgres import create_pool
from shared.settings import Settings
from shared.telemetry import configure_logging
from shared.topics import KEYS

logger = logging.getLogger(__name__)


async def serve(settings: Settings, resources: AsyncExitStack, background: asyncio.TaskGroup) -> None:
    """Answers over HTTP from the start, whatever is away; returns after SIGINT or SIGTERM."""
    registry = CollectorRegistry()
    metrics = AlertingMetrics(registry)
    latest, series = LatestUpdates(Bounds()), Progress(MAX_SERIES_SHOWN)
    registry.register(SeriesMetrics(latest, series, system_clock))

    # Decisions never wait for a connection that a request or a delivery holds.
    decisions = await create_pool(settings.postgres, name="alerting-decisions", size=2, command_timeout=10)
    resources.push_async_callback(_close, decisions)
    pool = await create_pool(settings.postgres, name="alerting", size=4, command_timeout=5)
    resources.push_async_callback(_close, pool)
    publisher = Publisher(settings.kafka)
    resources.push_async_callback(publisher.stop)
    http = await resources.enter_async_context(new_session())

    delivery = Delivery(pool, http, system_clock, DeliveryMetrics(registry))
    begun = asyncio.Event()
    switches = Outbox(
        SWITCH_ROWS, decisions, publisher, may_begin=begun.wait, on_published=lambda s: _observe(metrics, s)
    )
    alerts = Outbox(ALERT_ROWS, pool, publisher, may_begin=begun.wait)
    states = StateStore(decisions)
    committer = Committer(
        states,
        TopicProgress(),
        switches=switches,
        alerts=alerts,
        delivery=delivery,
        metrics=metrics,
        clock=system_clock,
    )
    guard = Guard(committer, latest, metrics, system_clock)
    pipeline = Pipeline(
        settings.kafka,
        guard,
        Installer(guard, system_clock),
        decisions,
        begun=begun,
        latest=latest,
        series=series,
        metrics=metrics,
        clock=system_clock,
    )
    rules, breakers = rule_definitions(pool, publisher), breaker_definitions(pool, publisher)
    keys = Keys(settings.kafka)
    resources.push_async_callback(keys.stop)
    read = StateStore(pool)

    async def with_kafka() -> None:
        """What cannot begin before Kafka answers."""
        await _patiently(publisher)
        await keys.start()  # from here on requests are let in, which may publish
        for definitions in (rules, breakers):
            await definitions.start()
            resources.push_async_callback(definitions.stop)
        async with asyncio.TaskGroup() as sending:
            sending.create_task(switches.run(), name="switches")
            sending.create_task(alerts.run(), name="alerts")

    for work in (with_kafka(), pipeline.run(), delivery.run()):
        _run(background, resources, work)
    app = service_app(
        rest_api(
            rule_routes(rules, read, guard),
            breaker_routes(breakers, read, guard),
            alert_routes(pool, alerts, system_clock, delivery.wake),
            channel_routes(ChannelStore(pool), delivery.sender, system_clock, delivery.wake),
        ),
        keys=keys.ring,
        needed=needed_scope,
        ready=lambda: keys.waiting_for() or pipeline.waiting_for(),
        registry=registry,
    )
    await Server(app, host=settings.host, port=settings.port).run()


class Keys:
    """The copy of the keys, begun as soon as Kafka answers."""

    def __init__(self, kafka: str) -> None:
        self.ring = KeyRing()
        self._kafka = kafka
        self._replica: Replica[ApiKey] | None = None
        self._kept = False

    async def start(self) -> None:
        while not self._kept:
            self._replica = Replica(self._kafka, KEYS, self.ring.learn)
            try:
                await self._replica.start()
                self._kept = True
            except (KafkaError, TimeoutError, OSError) as error:
                logger.warning("keys cannot be read yet", extra={"error": repr(error)})
                await self._replica.stop()

    async def stop(self) -> None:
        if self._replica is not None:
            await self._replica.stop()

    def waiting_for(self) -> str | None:
        if self._replica is None or not self._kept:
            return "Kafka"
        return self._replica.waiting_for()


async def _patiently(publisher: Publisher) -> None:
    while True:
        try:
            await publisher.start()
            return
        except (KafkaError, OSError) as error:
            logger.warning("nothing can be published yet", extra={"error": repr(error)})


async def _close(pool: Any) -> None:
    """Stopping must not hang on a Postgres that is away: what counts is committed."""
    try:
        async with asyncio.timeout(5):
            await pool.close()
    except TimeoutError:
        pool.terminate()


def _observe(metrics: AlertingMetrics, switch: Switch) -> None:
    decided_on = switch.evidence.get("update_published_at")
    if isinstance(decided_on, int):
        metrics.switch_seconds.observe(max(0, system_clock() - decided_on) / SECOND)


def _run(background: asyncio.TaskGroup, resources: AsyncExitStack, work: Coroutine[Any, Any, None]) -> None:
    """Runs `work` until the resources are released; if it fails, the process ends."""
    task = background.create_task(work)
    resources.callback(task.cancel)


async def main() -> None:
    settings = Settings.from_environment(os.environ)
    configure_logging("alerting", settings.log_level)
    async with asyncio.TaskGroup() as background, AsyncExitStack() as resources:
        await serve(settings, resources, background)


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
