"""The compatible paths on logs in memory, and a client of organisation `acme`."""

from __future__ import annotations

import base64
import json
from typing import Any

import httpx
from prometheus_client import CollectorRegistry

from services.ingest.balances import OwnBalances
from services.ingest.compat.routes import CompatibleRoutes
from services.ingest.http import needed_scope
from services.ingest.intake import Intake
from services.ingest.metrics import IngestMetrics
from services.ingest.quality.inspections import Inspections
from services.ingest.rate_limits import RateLimits
from shared.clock import to_datetime
from shared.http import AsgiScope, Problem, Receive, Send, admitted, service_app
from shared.keys import KeyRing, describe_key, new_key
from shared.messages import DeadLetter, Event
from shared.topics import DEAD_LETTERS, EVENTS
from tests.unit.ingest.fakes import MemoryLog

NOW = 1_795_307_421_000_000
"""2026-11-22T00:30:21Z"""
KEY = "tg_" + "0a" * 5 + "_" + "1b" * 24
READ_KEY = new_key()
BASIC = {"Authorization": "Basic " + base64.b64encode(f"{KEY}:".encode()).decode()}
JSON = {"Content-Type": "application/json"}


class Service:
    def __init__(self) -> None:
        self.events, self.letters = MemoryLog(), MemoryLog()
        self.not_ready: str | None = None
        registry = CollectorRegistry()
        metrics = IngestMetrics(registry)
        ring = self.ring = KeyRing(
            [
                describe_key(KEY, organisation="acme", scope="ingest"),
                describe_key(READ_KEY, organisation="acme", scope="read"),
            ]
        )
        ids = iter(range(1_000_000))
        self.inspections = Inspections()
        intake = Intake(
            events=self.events,
            letters=self.letters,
            clock=lambda: NOW,
            new_id=lambda: f"id-{next(ids)}",
            metrics=metrics,
            inspections=self.inspections,
            rates=RateLimits(OwnBalances(), now=lambda: 0.0, chance=lambda: 0.0, metrics=metrics.rates),
        )

        def ready() -> str | None:
            return self.not_ready

        async def rest(scope: AsgiScope, receive: Receive, send: Send) -> None:
            raise Problem(404, "not_found", "nothing here")

        routes = CompatibleRoutes(intake, lambda key: admitted(key, "ingest", ring, ready), lambda: NOW, rest)
        app = service_app(routes, keys=ring, needed=needed_scope, ready=ready, registry=registry)
        self.client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://ingest")

    async def send(self, path: str, body: Any, headers: dict[str, str] | None = None) -> httpx.Response:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return await self.client.post(path, content=content, headers=JSON if headers is None else headers)

    def stored(self) -> list[Event]:
        events = [EVENTS.decode(value) for _, value in self.events.records()]
        return sorted(events, key=lambda event: event.event_id)

    def only(self) -> Event:
        (event,) = self.stored()
        return event

    def dead(self) -> list[DeadLetter]:
        """In the order in which they were written."""
        letters = [DEAD_LETTERS.decode(value) for _, value in self.letters.records()]
        return sorted(letters, key=lambda letter: int(letter.id.removeprefix("id-")))


def iso(micros: int) -> str:
    return to_datetime(micros).isoformat()
