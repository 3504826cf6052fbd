"""What the two Faust programs share: an app without a web server, on the same event loop as our worker, and a clock.

Everything else stays as Faust sets it.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from collections.abc import Callable

import faust
import uvloop
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from bench.aggregator.peers.protocol import Done, GroupTotal, Progress, Started, Task, task_from, tell

_PROGRESS_EVERY = 2_000


class Meter:
    """Told of every event that was processed. The time from the first to the last of `events` is what counts.

    `totals` says at the end what the windows hold.
    """

    def __init__(self, events: int, totals: Callable[[], tuple[GroupTotal, ...]] = tuple) -> None:
        self._events = events
        self.totals = totals
        self._processed = 0
        self._began = 0.0

    def processed(self) -> None:
        self._processed = done = self._processed + 1
        if done == 1:
            tell(Started())
            self._began = time.perf_counter()
        if done == self._events:
            seconds = time.perf_counter() - self._began
            tell(Done(done, seconds, self.totals()))
        elif not done % _PROGRESS_EVERY:
            tell(Progress(done))


def new_app(name: str, task: Task) -> faust.App:
    return faust.App(
        name,
        broker=[f"kafka://{server}" for server in task.kafka.split(",")],
        store="memory://",
        value_serializer="json",
        topic_partitions=task.partitions,
        topic_disable_leader=True,
        web_enabled=False,
        autodiscover=False,
    )


def run(define: Callable[[Task, Meter], faust.App]) -> None:
    """Runs the app until this program is ended from outside."""
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    task = task_from(sys.argv[1:])

    async def serve() -> None:
        app = define(task, Meter(task.events))
        await _create_changelogs(app, task)
        await app.start()
        await app.wait_until_stopped()
        raise RuntimeError(f"Faust stopped by itself: {app.crash_reason!r}")

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve())


async def _create_changelogs(app: faust.App, task: Task) -> None:
    """Faust would create them itself, but now and then starts its agents before it knows their partitions."""
    names = [table.changelog_topic.get_topic_name() for table in app.tables.values()]
    if not names:
        return
    client = AIOKafkaAdminClient(bootstrap_servers=task.kafka)
    await client.start()
    try:
        settings = {"cleanup.policy": "compact,delete"}
        await client.create_topics([NewTopic(n, task.partitions, 1, topic_configs=settings) for n in names])
        while not set(names) <= set(await client.list_topics()):
            await asyncio.sleep(0.05)
    finally:
        await client.close()
