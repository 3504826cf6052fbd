"""Intake rules as users meet them: two processes, real Kafka and Postgres."""

from __future__ import annotations

import asyncio
import uuid
from contextlib import AsyncExitStack
from pathlib import Path

import httpx

from shared.kafka import Publisher, Tail
from shared.keys import describe_key, new_key
from shared.messages import Event
from shared.topics import EVENTS, KEYS
from tests.integration.sources.world import Ingest, ingest
from tests.waiting import eventually

RULES = "/api/v1/admin/intake-rules"
EVENT = "/api/v1/streaming-analytics/events"
MAIL = "ada@example.com"


async def test_processes_apply_a_rule_alike_from_its_put_to_its_removal(
    kafka: str, postgres: str, tmp_path: Path
) -> None:
    organisation, key = f"quiet-{uuid.uuid4().hex[:8]}", new_key()
    publisher = Publisher(kafka)
    await publisher.start()
    await publisher.publish(KEYS, describe_key(key, organisation=organisation, scope="admin"))
    await publisher.stop()
    headers = {"X-API-Key": key}

    async def send(process: Ingest, event_id: str) -> httpx.Response:
        body = {"event_type": "signup", "event_id": event_id, "event_data": {"email": MAIL, "phone": "555"}}
        return await process.ingest.post(EVENT, json=body, headers=headers)

    async with AsyncExitStack() as running, asyncio.timeout(60):
        one, two = await asyncio.gather(
            *(running.enter_async_context(ingest(kafka, postgres, tmp_path, name=name)) for name in ("one", "two"))
        )
        rule = {"hash": ["event_data.email"], "rotate": "month"}
        made = await one.admin.put(f"{RULES}/mail", json=rule, headers=headers)
        dropped = await two.admin.put(f"{RULES}/phone", json={"drop": ["event_data.phone"]}, headers=headers)
        refused = await two.admin.put(f"{RULES}/bad", json={"hash": ["user_id"], "rotate": "day"}, headers=headers)
        assert (made.status_code, dropped.status_code, refused.status_code) == (201, 201, 422)
        assert refused.json()["place"] == "spec.hash[0]"
        again = await two.admin.put(f"{RULES}/mail", json=rule, headers=headers)
        assert again.json() == {"key": "mail", "version": 1, "status": "unchanged"}
        listed = await two.admin.get(RULES, headers=headers)
        assert [found["key"] for found in listed.json()] == ["mail", "phone"]

        async def tried(process: Ingest) -> dict[str, str]:
            sample = {"event_type": "signup", "event_data": {"email": MAIL, "phone": "555"}}
            answer = await process.admin.post(f"{RULES}/test", json={"samples": [sample]}, headers=headers)
            properties: dict[str, str] = answer.json()["results"][0]["event"]["properties"]
            return properties

        for process in (one, two):

            async def in_force(process: Ingest = process) -> bool:
                found = await tried(process)
                return "phone" not in found and found["email"].startswith("h1_")

            await eventually(in_force, f"the rules are in force; see the log:\n{process.tail()}")
        assert await tried(one) == await tried(two)
        assert [(await send(process, name)).status_code for process, name in ((one, "1"), (two, "2"))] == [202, 202]

        assert (await two.admin.delete(f"{RULES}/mail", headers=headers)).json()["status"] == "removed"
        assert (await two.admin.get(f"{RULES}/mail", headers=headers)).status_code == 404

        async def gone() -> bool:
            return (await tried(one))["email"] == MAIL

        await eventually(gone, "the rule is no longer in force")
        assert (await send(one, "3")).status_code == 202

    events = await _events(kafka, organisation)
    assert [event.properties for event in events] == [
        {"email": events[0].properties["email"]},
        {"email": events[0].properties["email"]},
        {"email": MAIL},
    ]
    assert events[0].properties["email"].startswith("h1_")


async def _events(kafka: str, organisation: str) -> list[Event]:
    """In order of their ids."""
    tail = Tail(kafka, EVENTS.name)
    await tail.start()
    try:
        events = [EVENTS.decode(record.value) for record in await tail.read(1_000_000, deadline=30)]
    finally:
        await tail.stop()
    return sorted((event for event in events if event.organisation == organisation), key=lambda event: event.event_id)
