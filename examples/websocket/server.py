"""The server: runs jobs, sends their progress to whoever watches, and records what S3 records.

Only what concerns telemetry is more than a few lines: `telemetry.job` around the work, `job.connection` around each
client's socket, and `sent`, `throttled`, `ping` and `pong` where messages go and come.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import time

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from tidegate.telemetry import ClientContext, Connection, Job, Telemetry

THROTTLE_SECONDS = 0.05
"""S3's is 500 ms; jobs are shorter here."""
HEARTBEAT_SECONDS = 0.1


class ProgressServer:
    """`handle` serves one client of the job that the URL's path names. Jobs go on while nobody watches."""

    def __init__(self, telemetry: Telemetry, pipeline: str, draw: random.Random) -> None:
        self._telemetry = telemetry
        self._pipeline = pipeline
        self._draw = draw
        self._jobs: dict[str, RunningJob] = {}

    async def handle(self, socket: ServerConnection) -> None:
        request = socket.request
        if request is None:
            return
        context = ClientContext.from_headers(request.headers.raw_items())
        job_id = request.path.strip("/")
        running = self._jobs.get(job_id)
        connection = None if running is None else running.job.connection(context=context)
        if running is None or connection is None:
            running = self._jobs[job_id] = RunningJob(self._telemetry, job_id, self._pipeline, context, self._draw)
            connection = running.job.connection(context=context)
            connection.connected()
        else:
            running.returns += 1
            connection.reconnected(running.returns)
        await _watched(socket, connection, running)

    async def finish(self) -> None:
        await asyncio.gather(*(running.work for running in self._jobs.values()))


class RunningJob:
    """A job in the background and how far it is."""

    def __init__(
        self, telemetry: Telemetry, job_id: str, pipeline: str, context: ClientContext, draw: random.Random
    ) -> None:
        self.job = telemetry.job(job_id, pipeline=pipeline, context=context)
        self.returns = 0
        self.done = 0
        self.total = draw.randint(20, 60)
        self._draw = draw
        self.work = asyncio.create_task(self._run())

    async def _run(self) -> None:
        failures = 0
        self.job.started(self.total)
        while self.done < self.total:
            await asyncio.sleep(self._draw.uniform(0.002, 0.03))
            self.done += 1
            self.job.progress(self.done, self.total)  # not told unless the policy asks for it
            if self._draw.random() < 0.01:
                failures += 1
                self.job.error("E_GEMINI_TIMEOUT", provider="gemini", retryable=True)
        _end(self.job, self.total, failures)


def _end(job: Job, total: int, failures: int) -> None:
    if failures > 1:
        job.failed("E_ENRICHMENT_FAILED", total - failures, failures)
    else:
        job.completed(total - failures, failures)


async def _watched(socket: ServerConnection, connection: Connection, running: RunningJob) -> None:
    beating = asyncio.create_task(_heartbeats(socket, connection))
    listening = asyncio.create_task(_listen(socket, connection))
    try:
        await _show_progress(socket, connection, running)
        await socket.close(1000)
        connection.disconnected(1000)
    except ConnectionClosed as closed:
        connection.disconnected(closed.rcvd.code if closed.rcvd else 1006)
    finally:
        beating.cancel()
        listening.cancel()


async def _show_progress(socket: ServerConnection, connection: Connection, running: RunningJob) -> None:
    """The latest state at most every THROTTLE_SECONDS; what is passed over is throttled."""
    shown, shown_at = -1, 0.0
    while shown < running.total:
        await asyncio.sleep(0.005)
        if running.done == shown:
            continue
        if time.monotonic() - shown_at < THROTTLE_SECONDS and running.done < running.total:
            continue
        if shown >= 0 and running.done > shown + 1:
            connection.throttled(running.done - shown - 1)
        shown, shown_at = running.done, time.monotonic()
        await _send(socket, connection, {"type": "progress", "done": shown, "total": running.total})


async def _heartbeats(socket: ServerConnection, connection: Connection) -> None:
    with contextlib.suppress(ConnectionClosed):
        while True:
            await _send(socket, connection, {"type": "ping", "nonce": connection.ping()})
            await asyncio.sleep(HEARTBEAT_SECONDS)


async def _listen(socket: ServerConnection, connection: Connection) -> None:
    with contextlib.suppress(ConnectionClosed):
        async for message in socket:
            connection.received()
            connection.pong(json.loads(message)["nonce"])


async def _send(socket: ServerConnection, connection: Connection, message: dict[str, object]) -> None:
    text = json.dumps(message)
    await socket.send(text)
    connection.sent(len(text))
