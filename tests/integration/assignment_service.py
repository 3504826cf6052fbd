"""The assignment service inside the test's process or as one of its own, and a line to Postgres that can be cut."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import httpx

from services.assignment.__main__ import assignment_app
from shared.http import AsgiApp
from shared.keys import new_key
from shared.messages import Scope
from shared.settings import Settings
from tests.programs import Program
from tests.waiting import eventually

KEYS: dict[Scope, str] = {"admin": new_key(), "ingest": new_key(), "read": new_key()}


class Service:
    """One process of the service; `admin`, `ingest`, `read` are clients with keys, `nobody` has none."""

    def __init__(self, app: AsgiApp) -> None:
        self._app = app
        self.admin = self.client(KEYS["admin"])
        self.ingest = self.client(KEYS["ingest"])
        self.read = self.client(KEYS["read"])
        self.nobody = self.client(None)

    def client(self, key: str | None) -> httpx.AsyncClient:
        headers = {"Content-Type": "application/json", **({} if key is None else {"X-API-Key": key})}
        transport = httpx.ASGITransport(self._app)
        return httpx.AsyncClient(transport=transport, base_url="http://test", headers=headers, timeout=30)

    async def is_ready(self) -> bool:
        return (await self.nobody.get("/readyz")).status_code == 200


@asynccontextmanager
async def assignment_service(kafka: str, postgres: str) -> AsyncIterator[Service]:
    settings = Settings(
        kafka=kafka,
        postgres=postgres,
        host="127.0.0.1",
        port=0,
        log_level="INFO",
        instance="0",
        bootstrap_keys=json.dumps(KEYS),
    )
    async with asyncio.TaskGroup() as background, AsyncExitStack() as resources:
        service = Service(await assignment_app(settings, resources, background))
        await eventually(service.is_ready, "assignment is ready")
        yield service


def assignment_program(kafka: str, postgres: str, log: Path) -> Program:
    """A process of its own, not started yet; it knows the same keys."""
    env = {"TIDEGATE_KAFKA": kafka, "TIDEGATE_POSTGRES": postgres, "TIDEGATE_BOOTSTRAP_KEYS": json.dumps(KEYS)}
    return Program("services.assignment", log=log, env=env)


class Cable:
    """A TCP connection to Postgres that can be pulled out and put back."""

    def __init__(self, postgres: str) -> None:
        self._target = urlsplit(postgres)
        self._server: asyncio.Server | None = None
        self._streams: set[asyncio.StreamWriter] = set()
        self._port = 0

    @property
    def url(self) -> str:
        credentials = self._target.netloc.rpartition("@")[0]
        return urlunsplit(self._target._replace(netloc=f"{credentials}@127.0.0.1:{self._port}"))

    async def plug(self) -> None:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", self._port)
        self._port = self._server.sockets[0].getsockname()[1]

    async def pull(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        for stream in list(self._streams):
            stream.transport.abort()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(self._target.hostname, self._target.port)
        await asyncio.gather(self._copy(reader, back), self._copy(there, writer))

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._streams.add(writer)
        try:
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            self._streams.discard(writer)
            writer.transport.abort()


@asynccontextmanager
async def cable(postgres: str) -> AsyncIterator[Cable]:
    plugged = Cable(postgres)
    await plugged.plug()
    try:
        yield plugged
    finally:
        await plugged.pull()
