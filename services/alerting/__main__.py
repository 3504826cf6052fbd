"""The alerting service: `python -m services.alerting`, configured by the environment (`shared.settings`)."""

from __future__ import annotations

import asyncio
import os
from contextlib import AsyncExitStack

import uvloop
from prometheus_client import CollectorRegistry

from services.alerting.domain.progress import Progress
from services.alerting.domain.revisions import Bounds, LatestUpdates
from services.alerting.metrics import MAX_SERIES_SHOWN, AlertingMetrics, SeriesMetrics
from services.alerting.updates import UpdateReader
from shared.clock import system_clock
from shared.http import Server, new_api, service_app
from shared.kafka import Replica
from shared.keys import KeyRing
from shared.messages import Scope
from shared.settings import Settings
from shared.telemetry import configure_logging
from shared.topics import KEYS

_DESCRIPTION = """Follows every metric as it changes.

`/metrics` on the service's own port shows each subject's revision and lag."""


def needed_scope(method: str, path: str) -> Scope | None:
    """The schema is open; everything else takes a read key."""
    return None if path.startswith("/api/v1/openapi/") else "read"


async def main() -> None:
    settings = Settings.from_environment(os.environ)
    configure_logging("alerting", settings.log_level)
    registry = CollectorRegistry()
    latest = LatestUpdates(Bounds())
    progress = Progress(MAX_SERIES_SHOWN)
    registry.register(SeriesMetrics(latest, progress, system_clock))
    reader = UpdateReader(
        settings.kafka, latest=latest, progress=progress, metrics=AlertingMetrics(registry), clock=system_clock
    )
    async with AsyncExitStack() as resources:
        ring = KeyRing()
        keys = Replica(settings.kafka, KEYS, ring.learn)
        resources.push_async_callback(keys.stop)
        await keys.start()
        app = service_app(
            new_api("Tidegate alerting", "alerting", _DESCRIPTION),
            keys=ring,
            needed=needed_scope,
            ready=reader.waiting_for,
            registry=registry,
        )
        # If the reader fails, the process must not go on as if it watched.
        async with asyncio.TaskGroup() as group:
            reading = group.create_task(reader.run())
            await Server(app, host=settings.host, port=settings.port).run()
            reading.cancel()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
