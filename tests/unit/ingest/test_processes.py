"""The parent of several processes starts them, starts again what dies, and ends with all of them."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from services.ingest.processes import Workers
from tests.waiting import eventually

POLITE = """
import os, signal, sys, threading
number, directory = sys.argv[1:]
with open(os.path.join(os.environ["TOLD"], "log"), "a") as log:
    print(number, os.getpid(), os.environ["TIDEGATE_INSTANCE"], os.path.isdir(directory), file=log)
done = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
sys.stdin.read()
"""
STUBBORN = POLITE.replace("lambda *_: sys.exit(0)", "signal.SIG_IGN")


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


class Told:
    """What the workers said when they started."""

    def __init__(self, directory: Path) -> None:
        self._log = directory / "log"

    def starts(self) -> list[tuple[str, int, str, str]]:
        lines = self._log.read_text().splitlines() if self._log.exists() else []
        return [(number, int(pid), name, there) for number, pid, name, there in map(str.split, lines)]

    async def until(self, count: int) -> None:
        async def enough() -> bool:
            return len(self.starts()) >= count

        await eventually(enough, f"{count} workers were started")


@asynccontextmanager
async def _running(program: str, directory: Path, port: int | None = None) -> AsyncIterator[tuple[Workers, Told]]:
    environment = {**os.environ, "TOLD": str(directory), "TIDEGATE_INSTANCE": "7"}
    command = (sys.executable, "-c", program)
    port = port or _free_port()
    workers = Workers(2, host="127.0.0.1", port=port, environment=environment, command=command, patience=0.5)
    running = asyncio.create_task(workers.run())
    try:
        yield workers, Told(directory)
    finally:
        workers.stop()
        await running


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_each_worker_has_a_number_a_name_and_the_common_directory(tmp_path: Path) -> None:
    async with _running(POLITE, tmp_path) as (_, told):
        await told.until(2)
    starts = told.starts()
    assert sorted((number, name, there) for number, _, name, there in starts) == [
        ("0", "7-0", "True"),
        ("1", "7-1", "True"),
    ]
    assert not any(_lives(pid) for _, pid, _, _ in starts)


async def test_a_worker_that_dies_is_started_again_with_its_number(tmp_path: Path) -> None:
    async with _running(POLITE, tmp_path) as (_, told):
        await told.until(2)
        number, pid, _, _ = told.starts()[0]
        os.kill(pid, signal.SIGKILL)
        await told.until(3)
        assert told.starts()[2][0] == number


async def test_a_worker_that_does_not_end_is_killed(tmp_path: Path) -> None:
    async with _running(STUBBORN, tmp_path) as (_, told):
        await told.until(2)
    assert not any(_lives(pid) for _, pid, _, _ in told.starts())


async def test_a_port_that_is_taken_is_an_error_before_anything_starts(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(OSError, match="cannot listen on"):
            async with _running(POLITE, tmp_path, taken.getsockname()[1]):
                await asyncio.sleep(0)
    assert Told(tmp_path).starts() == []
