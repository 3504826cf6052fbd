"""Starts our services as processes of their own, and ends them in every way a process can end."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx

from tests.waiting import eventually


class Program:
    """`python -m MODULE ARGS` on a port of its own; as a context manager it is ready when entered."""

    def __init__(self, *module: str, log: Path, env: Mapping[str, str]) -> None:
        self.port = _free_port()
        self.log = log
        self._module = module
        self._env = {**os.environ, **env, "TIDEGATE_HOST": "127.0.0.1", "TIDEGATE_PORT": str(self.port)}
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self, *, wait_until_ready: bool = True) -> None:
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", *self._module, env=self._env, stdout=log, stderr=log
            )
        if wait_until_ready:
            await eventually(
                self.is_ready, f"{' '.join(self._module)} is ready; see its log:\n{self.tail()}", seconds=60
            )

    async def is_ready(self) -> bool:
        assert self._process is not None
        if self._process.returncode is not None:
            raise AssertionError(f"{' '.join(self._module)} ended with {self._process.returncode}:\n{self.tail()}")
        try:
            async with httpx.AsyncClient() as client:
                return (await client.get(f"{self.url}/readyz", timeout=2)).status_code == 200
        except httpx.HTTPError:
            return False

    async def kill(self) -> None:
        """SIGKILL: no chance to clean up."""
        await self._end(signal.SIGKILL)

    async def terminate(self) -> int:
        """SIGTERM, and the exit code."""
        return await self._end(signal.SIGTERM)

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """SIGSTOP, and SIGCONT at the end of the block."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    async def wait(self, seconds: float = 60) -> int:
        """The exit code of a program that should end by itself."""
        assert self._process is not None
        async with asyncio.timeout(seconds):
            return await self._process.wait()

    def tail(self) -> str:
        return self.log.read_text(errors="replace")[-4_000:] if self.log.exists() else ""

    async def _end(self, how: signal.Signals) -> int:
        assert self._process is not None
        if self._process.returncode is None:
            self._process.send_signal(how)
        try:
            async with asyncio.timeout(30):
                return await self._process.wait()
        except TimeoutError:
            self._process.kill()
            return await self._process.wait()

    async def __aenter__(self) -> Self:
        try:
            await self.start()
        except BaseException:
            await self.__aexit__(None, None, None)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None and self._process.returncode is None:
            await self.terminate()


@asynccontextmanager
async def aggregator(kafka: str, postgres: str, log: Path, instance: str = "0") -> AsyncIterator[Program]:
    env = {"TIDEGATE_KAFKA": kafka, "TIDEGATE_POSTGRES": postgres, "TIDEGATE_INSTANCE": instance}
    async with Program("services.aggregator", "worker", log=log, env=env) as program:
        yield program


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
