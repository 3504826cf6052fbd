"""Several processes behind one port: a parent that only starts them, and starts again what dies.

    parent: holds the port, does not listen ──start──► worker 0: listens on it too (SO_REUSEPORT) ──► Kafka
                                            ──start──► worker 1: …          (the kernel spreads connections over them)

Each worker has a pipe from its parent as standard input: its end tells the worker that it is alone, so that nobody
listens on behind a parent that was killed. What one worker's `/metrics` shows is that of all (`worker_metrics`).
"""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from shared.http import bound

logger = logging.getLogger(__name__)

COMMAND = (sys.executable, "-m", "services.ingest")
"""The number of the worker and the directory that all share follow."""
STOP_SECONDS = 35.0
"""As long as a worker may need with Kafka gone: WebSockets 14, requests 10, producers 10."""
_FIRST_PAUSE = 0.2
_LONGEST_PAUSE = 10.0
_STEADY_SECONDS = 10.0
"""Who lived so long is started again at once."""


@dataclass(frozen=True, slots=True)
class Place:
    """A worker's own: its number among all, and the directory that they share while their parent lives."""

    number: int
    directory: Path


class Workers:
    """`command` is run `count` times, in `environment`. Who does not end within `patience` seconds is killed."""

    def __init__(
        self,
        count: int,
        *,
        host: str,
        port: int,
        environment: Mapping[str, str],
        command: Sequence[str],
        patience: float = STOP_SECONDS,
    ) -> None:
        self._patience = patience
        self._count = count
        self._address = (host, port)
        self._environment = dict(environment)
        self._command = command
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Returns after SIGINT or SIGTERM, when all workers have ended. Raises OSError if the port is taken."""
        loop = asyncio.get_running_loop()
        for end in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(end, self._stopping.set)
        # Without the option first: with it, the port of a stranger who also has it would look free.
        bound(*self._address, shared=False).close()
        with bound(*self._address, shared=True), tempfile.TemporaryDirectory(prefix="tidegate-ingest-") as directory:
            async with asyncio.TaskGroup() as group:
                for number in range(self._count):
                    group.create_task(self._keep(number, Path(directory)))

    def stop(self) -> None:
        self._stopping.set()

    async def _keep(self, number: int, directory: Path) -> None:
        """One worker after the other, until all are to end."""
        pause, loop = _FIRST_PAUSE, asyncio.get_running_loop()
        while not self._stopping.is_set():
            began = loop.time()
            code = await self._live(number, directory)
            if self._stopping.is_set():
                return
            logger.error("a worker has ended and is started again", extra={"worker": number, "code": code})
            pause = _FIRST_PAUSE if loop.time() - began > _STEADY_SECONDS else min(2 * pause, _LONGEST_PAUSE)
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._stopping.wait()

    async def _live(self, number: int, directory: Path) -> int:
        """From a worker's start to its end; asks it to end when all are to. Returns its exit code."""
        environment = {**self._environment, "TIDEGATE_INSTANCE": self._instance(number)}
        worker = await asyncio.create_subprocess_exec(
            *self._command, str(number), str(directory), stdin=asyncio.subprocess.PIPE, env=environment
        )
        ending = asyncio.create_task(self._stopping.wait())
        ended = asyncio.create_task(worker.wait())
        try:
            await asyncio.wait((ending, ended), return_when=asyncio.FIRST_COMPLETED)
        finally:
            ending.cancel()
            if not ended.done():
                await self._end(worker, ended)
        return ended.result()

    async def _end(self, worker: asyncio.subprocess.Process, ended: asyncio.Task[int]) -> None:
        with suppress(ProcessLookupError):
            worker.send_signal(signal.SIGTERM)
        done, _ = await asyncio.wait((ended,), timeout=self._patience)
        if not done:
            with suppress(ProcessLookupError):
                worker.kill()
            await ended

    def _instance(self, number: int) -> str:
        """A stable name of its own for each: group membership is by it."""
        return f"{self._environment.get('TIDEGATE_INSTANCE', '0')}-{number}"


async def orphaned() -> None:
    """In a worker: returns when the parent is gone."""
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    await reader.read()
