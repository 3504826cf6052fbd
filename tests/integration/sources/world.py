"""Ingest as processes that run sources, and what came into `events.v1` and the dead letters through them."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

from shared.kafka import Publisher, Tail
from shared.keys import describe_key, new_key
from shared.messages import DeadLetter, Event, Scope
from shared.sealing import new_sealing_key
from shared.topics import DEAD_LETTERS, EVENTS, KEYS
from tests.programs import Program
from tests.waiting import eventually

API_KEYS: dict[Scope, str] = {"admin": new_key(), "ingest": new_key(), "read": new_key()}
SOURCES = "/api/v1/streaming-analytics/data-sources"


async def publish_keys(kafka: str) -> None:
    publisher = Publisher(kafka)
    await publisher.start()
    for scope, key in API_KEYS.items():
        await publisher.publish(KEYS, describe_key(key, organisation="acme", scope=scope))
    await publisher.stop()


class Ingest(Program):
    """`admin`, `read`, `nobody` are clients with the key that their name says."""

    def __init__(self, kafka: str, postgres: str, directory: Path, *, name: str = "ingest") -> None:
        sealing = directory / "sealing.keys"
        if not sealing.exists():
            sealing.write_text(new_sealing_key() + "\n", encoding="ascii")
        env = {"TIDEGATE_KAFKA": kafka, "TIDEGATE_POSTGRES": postgres, "TIDEGATE_SEALING_KEYS": str(sealing)}
        super().__init__("services.ingest", log=directory / f"{name}.log", env=env)
        self.admin = self._client(API_KEYS["admin"])
        self.read = self._client(API_KEYS["read"])
        self.ingest = self._client(API_KEYS["ingest"])

    def _client(self, key: str) -> httpx.AsyncClient:
        return httpx.AsyncClient(base_url=self.url, headers={"X-API-Key": key}, timeout=30)

    async def close_clients(self) -> None:
        for client in (self.admin, self.read, self.ingest):
            await client.aclose()

    async def create(self, type: str, config: Mapping[str, Any], **more: Any) -> dict[str, Any]:
        """The source, with the key or name that is among `more`."""
        body = {"source_type": type, "connection_config": dict(config), **more}

        answer = await self.admin.post(SOURCES, json={"source_name": more.get("key"), **body})
        assert answer.status_code == 201, answer.text
        return dict(answer.json())

    async def source(self, id: int) -> dict[str, Any]:
        answer = await self.read.get(f"{SOURCES}/{id}")
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    async def health(self, id: int) -> dict[str, Any]:
        return dict((await self.source(id))["health"])

    async def becomes(self, id: int, state: str, *, seconds: float = 30) -> None:
        async def reached() -> bool:
            return bool((await self.health(id))["state"] == state)

        await eventually(reached, f"source {id} is {state}; see the log:\n{self.tail()}", seconds=seconds)

    async def metric(self, name: str, **labels: str) -> float | None:
        async with httpx.AsyncClient() as client:
            text = (await client.get(f"{self.url}/metrics")).text
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if sample.name == name and labels.items() <= sample.labels.items():
                    return sample.value
        return None


@asynccontextmanager
async def ingest(kafka: str, postgres: str, directory: Path, *, name: str = "ingest") -> AsyncIterator[Ingest]:
    program = Ingest(kafka, postgres, directory, name=name)
    async with program:
        try:
            yield program
        finally:
            await program.close_clients()


class Stored:
    """What our own Kafka holds of one source."""

    def __init__(self, events: Tail, letters: Tail) -> None:
        self._events = events
        self._letters = letters

    async def events(self, source_id: int) -> list[Event]:
        records = await self._events.read(1_000_000, deadline=60)
        decoded = (EVENTS.decode(record.value) for record in records)
        return [event for event in decoded if event.data_source_id == source_id]

    async def letters(self, origin: str) -> list[DeadLetter]:
        records = await self._letters.read(1_000_000, deadline=60)
        decoded = (DEAD_LETTERS.decode(record.value) for record in records)
        return [letter for letter in decoded if letter.origin == origin]

    async def counted(self, source_id: int, property: str = "n") -> Counter[Any]:
        """Property → how many distinct ids its events have: what the aggregator would count, which knows ids."""
        by_id = {event.event_id: event.properties.get(property) for event in await self.events(source_id)}
        return Counter(by_id.values())

    async def holds(self, source_id: int, wanted: Counter[Any], *, seconds: float = 60) -> None:
        """Returns once each of these is there, and fails if one is there twice or was never asked for."""

        async def complete() -> bool:
            return not wanted - await self.counted(source_id)

        await eventually(complete, f"source {source_id} has given all {sum(wanted.values())} events", seconds=seconds)
        assert await self.counted(source_id) == wanted


@asynccontextmanager
async def stored(kafka: str) -> AsyncIterator[Stored]:
    events, letters = Tail(kafka, EVENTS.name), Tail(kafka, DEAD_LETTERS.name)
    await events.start()
    await letters.start()
    try:
        yield Stored(events, letters)
    finally:
        await letters.stop()
        await events.stop()


def payload(letter: DeadLetter) -> bytes:
    return base64.b64decode(letter.payload) if isinstance(letter.payload, str) else letter.payload
