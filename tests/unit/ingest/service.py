"""The whole HTTP application of ingest in front of a log in memory."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from itertools import count
from typing import Any

import httpx
from prometheus_client import CollectorRegistry

from services.ingest.api import ingest_api
from services.ingest.balances import OwnBalances
from services.ingest.domain.letters.ledger import Ledger
from services.ingest.domain.normalise import read_event
from services.ingest.http import BATCH_PATH, EVENT_PATH, EventRoutes, max_body, needed_scope
from services.ingest.intake import Intake
from services.ingest.letters.replay import Replayer
from services.ingest.letters.replay_routes import replay_routes
from services.ingest.letters.routes import LetterBox, letter_routes
from services.ingest.letters.search import LetterSearch
from services.ingest.metrics import IngestMetrics
from services.ingest.ndjson import UploadLimits
from services.ingest.quality.inspections import Inspections
from services.ingest.rate_limits import RateLimits
from shared.http import service_app
from shared.keys import KeyRing, describe_key, new_key
from shared.messages import DeadLetter, Event, Scope
from shared.topics import DEAD_LETTERS, EVENTS
from tests.unit.ingest.fakes import MemoryLog
from tests.unit.ingest.letter_topic import LetterTopic, MarkTopic, StoredEvents

NOW = 1_729_593_000_000_000
DEAD_LETTER_PATH = "/api/v1/streaming-analytics/dead-letters"
JSON = {"Content-Type": "application/json"}
NDJSON = {"Content-Type": "application/x-ndjson"}


class Service:
    """The whole HTTP application on logs in memory, and a client with an ingest key of organisation `acme`."""

    def __init__(self, events: MemoryLog | None = None, uploads: UploadLimits | None = None) -> None:
        self.events = events or MemoryLog()
        self.letters = LetterTopic(NOW)
        self.ledger = Ledger()
        self.marks = MarkTopic(self.ledger)
        self.elsewhere = StoredEvents()
        self.inspections = Inspections()
        self.clock = NOW
        self.seconds = 0.0
        self.ticks = False
        """Whether time goes on by itself for those who wait until they may send more."""
        self.registry = CollectorRegistry()
        ring = self.ring = KeyRing()
        self.keys: dict[Scope, str] = {"ingest": new_key(), "read": new_key(), "admin": new_key()}
        for scope, key in self.keys.items():
            ring.learn(describe_key(key, organisation="acme", scope=scope))
        ids = iter(range(1_000_000))
        metrics = IngestMetrics(self.registry)
        intake = Intake(
            events=self.events,
            letters=self.letters,
            clock=lambda: self.clock,
            new_id=lambda: f"id-{next(ids)}",
            metrics=metrics,
            inspections=self.inspections,
            rates=RateLimits(
                OwnBalances(),
                now=lambda: self.seconds + (time.monotonic() if self.ticks else 0.0),
                chance=lambda: 0.0,
                metrics=metrics.rates,
            ),
        )
        box = LetterBox(LetterSearch(self.letters, lambda: self.seconds), self.ledger, self._catch_up)
        replayer = Replayer(
            intake=intake,
            events=self.events,
            marks=self.marks,
            ledger=self.ledger,
            catch_up=self._catch_up,
            finder=self.elsewhere,
            reader_of=lambda letter: read_event,
            clock=lambda: self.clock,
            metrics=metrics,
        )
        attempts = (f"attempt-{n}" for n in count())
        desk = (letter_routes(box), replay_routes(box, replayer, lambda: next(attempts)))
        routes = EventRoutes(intake, ingest_api(*desk), uploads)
        app = service_app(
            routes,
            keys=ring,
            needed=needed_scope,
            ready=lambda: None,
            registry=self.registry,
            max_body=max_body,
        )
        self.client = httpx.AsyncClient(
            transport=httpx.ASGITransport(app),
            base_url="http://ingest",
            headers={"X-API-Key": self.keys["ingest"]},
        )

    def limit(self, events_per_second: float, burst: int | None = None, scope: Scope = "ingest") -> None:
        """From now on, of the key with that scope."""
        self.ring.learn(
            describe_key(
                self.keys[scope],
                organisation="acme",
                scope=scope,
                events_per_second=events_per_second,
                burst=burst,
            )
        )

    async def _catch_up(self) -> None:
        """The ledger reads along."""

    async def one(self, body: Any, **headers: str) -> httpx.Response:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return await self.client.post(EVENT_PATH, content=content, headers={**JSON, **headers})

    async def batch(self, body: Any, **headers: str) -> httpx.Response:
        content = body if isinstance(body, bytes) else json.dumps({"events": body}).encode()
        return await self.client.post(BATCH_PATH, content=content, headers={**JSON, **headers})

    async def lines(self, body: Any, headers: Mapping[str, str] | None = None, **query: Any) -> httpx.Response:
        """`body` is bytes, or parts of them that are sent in chunks."""
        return await self.client.post(BATCH_PATH, params=query, content=body, headers={**NDJSON, **(headers or {})})

    async def shown(self, **query: Any) -> list[dict[str, Any]]:
        headers = {"X-API-Key": self.keys["read"]}
        answer = await self.client.get(DEAD_LETTER_PATH, params=query, headers=headers)
        assert answer.status_code == 200, answer.text
        items: list[dict[str, Any]] = answer.json()["items"]
        return items

    def stored(self) -> list[Event]:
        return [EVENTS.decode(value) for _, value in self.events.records()]

    def dead(self) -> list[DeadLetter]:
        return [DEAD_LETTERS.decode(value) for _, value in self.letters.records()]

    def metric(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(f"tidegate_ingest_{name}", labels)
