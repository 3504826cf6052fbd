"""Ingest's WebSocket in front of a log in memory, served for real, and a client that counts its acknowledgements."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from prometheus_client import CollectorRegistry
from websockets.asyncio.client import ClientConnection, connect

from services.ingest.balances import OwnBalances
from services.ingest.intake import Intake
from services.ingest.metrics import IngestMetrics
from services.ingest.quality.inspections import Inspections
from services.ingest.rate_limits import RateLimits
from services.ingest.socket_connection import StreamLimits
from services.ingest.websocket import STREAM_PATH, EventStream
from shared.clock import system_clock
from shared.http import Server, admitted, service_app
from shared.keys import KeyRing, Principal, describe_key, new_key
from shared.messages import DeadLetter, Event, Scope
from shared.topics import DEAD_LETTERS, EVENTS
from tests.unit.ingest.fakes import MemoryLog
from tests.waiting import eventually


class Site:
    """A server with one ingest key and one read key of organisation `acme`."""

    def __init__(self, events: MemoryLog | None = None, limits: StreamLimits | None = None) -> None:
        self.events = events or MemoryLog()
        self.letters = MemoryLog()
        self.registry = CollectorRegistry()
        self.ring = KeyRing()
        self.keys: dict[Scope, str] = {"ingest": new_key(), "read": new_key()}
        for scope, key in self.keys.items():
            self.ring.learn(describe_key(key, organisation="acme", scope=scope))
        metrics = IngestMetrics(self.registry)
        ids = iter(range(10_000_000))
        self.intake = Intake(
            events=self.events,
            letters=self.letters,
            clock=system_clock,
            new_id=lambda: f"id-{next(ids)}",
            metrics=metrics,
            inspections=Inspections(),
            rates=RateLimits(OwnBalances(), now=time.monotonic, chance=lambda: 0.0, metrics=metrics.rates),
        )
        stream = EventStream(
            self.intake,
            admit=self.admit,
            metrics=metrics.sockets,
            limits=limits,
        )
        app = service_app(
            stream, keys=self.ring, needed=lambda *_: "read", ready=lambda: None, registry=self.registry
        )
        self.port = free_port()
        self.server = Server(app, host="127.0.0.1", port=self.port, drain=stream.drain)
        self.url = f"ws://127.0.0.1:{self.port}{STREAM_PATH}"

    def admit(self, key: str | None) -> Principal:
        return admitted(key, "ingest", self.ring, lambda: None)

    def connecting(self, scope: Scope = "ingest", headers: Mapping[str, str] | None = None) -> connect:
        return connect(self.url, additional_headers={"X-API-Key": self.keys[scope], **(headers or {})})

    def revoke(self, scope: Scope) -> None:
        record = describe_key(self.keys[scope], organisation="acme", scope=scope, version=2)
        self.ring.learn(msgspec.structs.replace(record, revoked=True))

    def limit(self, events_per_second: float, burst: int) -> None:
        """From now on, of the ingest key."""
        self.ring.learn(
            describe_key(
                self.keys["ingest"],
                organisation="acme",
                scope="ingest",
                events_per_second=events_per_second,
                burst=burst,
            )
        )

    def stored(self) -> list[Event]:
        return [EVENTS.decode(value) for _, value in self.events.records()]

    def dead(self) -> list[DeadLetter]:
        return [DEAD_LETTERS.decode(value) for _, value in self.letters.records()]

    def metric(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(f"tidegate_ingest_{name}", labels)


@asynccontextmanager
async def opened(events: MemoryLog | None = None, limits: StreamLimits | None = None) -> AsyncIterator[Site]:
    site = Site(events, limits)
    serving = asyncio.create_task(site.server.run())

    async def listens() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", site.port)) == 0

    await eventually(listens, "the server listens")
    try:
        yield site
    finally:
        site.server.stop()
        await serving


class GatedLog(MemoryLog):
    """Takes records only while `gate` is open."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = asyncio.Event()
        self.gate.set()
        self.waiting = 0

    async def append(self, records: Sequence[tuple[str, bytes]]) -> None:
        self.waiting += 1
        await self.gate.wait()
        self.waiting -= 1
        await super().append(records)


async def heard(client: ClientConnection) -> dict[str, Any]:
    async with asyncio.timeout(10):
        said: dict[str, Any] = json.loads(await client.recv())
    return said


async def greeted(client: ClientConnection) -> dict[str, Any]:
    welcome = await heard(client)
    assert welcome["type"] == "welcome"
    return welcome


async def settled(client: ClientConnection, message: int) -> list[dict[str, Any]]:
    """All acknowledgements until that of `message`."""
    said = [await heard(client)]
    while said[-1]["message"] < message:
        said.append(await heard(client))
    return said


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
