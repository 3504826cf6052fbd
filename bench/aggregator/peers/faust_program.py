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

from bench.aggregator.peers.protocol import Done, Progress, Started, Task, task_from, tell

_PROGRESS_EVERY = 2_000


class Meter:
    """Told of every event that was processed. The time from the first to the last of `events` + 1 is what counts."""

    def __init__(self, events: int) -> None:
        self._events = events
        self._processed = -1
        self._began = 0.0

    def processed(self) -> None:
        self._processed = done = self._processed + 1
        if not done:
            tell(Started())
            self._began = time.perf_counter()
        elif done == self._events:
            tell(Done(done, time.perf_counter() - self._began))
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
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    task = task_from(sys.argv[1:])

    async def serve() -> None:
        app = define(task, Meter(task.events))
        await app.start()
        await app.wait_until_stopped()
        raise RuntimeError(f"Faust stopped by itself: {app.crash_reason!r}")

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve())
