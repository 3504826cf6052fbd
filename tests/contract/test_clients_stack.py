"""Other products' clients before the whole platform: repetitions count once, and visitors keep their variant."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import httpx
import pytest
import pytest_asyncio
from posthog import Posthog
from segment.analytics.client import Client  # type: ignore[import-untyped]  # it ships no type information

from deploy.local.stack import LocalStack
from tests.contract.clients import Fault, Line
from tests.patient import PatientClient
from tests.waiting import eventually

METRICS = "/api/v1/streaming-analytics/metrics"
EXPERIMENT = "checkout"
PEOPLE = 12


@pytest_asyncio.fixture(scope="module")
async def admin(stack: LocalStack) -> AsyncIterator[PatientClient]:
    client = PatientClient(stack.gateway, stack.keys["admin"])
    yield client
    await client.close()


def line_to(stack: LocalStack, *faults: Fault) -> Line:
    port = urlsplit(stack.gateway).port
    assert port is not None
    return Line(port, faults)


async def test_what_clients_send_again_is_counted_once(stack: LocalStack, admin: PatientClient) -> None:
    for key, event in (("segment_orders", "Order Completed"), ("posthog_orders", "order_completed")):
        await admin.ask("PUT", f"/api/v1/admin/metrics/{key}", {"type": "count", "event": event})

    def by_segment(url: str) -> None:
        client = Client(stack.keys["ingest"], host=url, upload_interval=0.1)
        for n in range(10):
            client.track(f"u-{n}", "Order Completed", {"revenue": n})
        client.flush()
        client.shutdown()

    def by_posthog(url: str) -> None:
        client = Posthog(stack.keys["ingest"], host=url, flush_interval=0.1)
        for n in range(10):
            client.capture("order_completed", distinct_id=f"u-{n}", properties={"revenue": n})
        client.flush()
        client.shutdown()

    for send in (by_segment, by_posthog):
        async with line_to(stack, Fault.SWALLOWED).open() as line:
            await asyncio.to_thread(send, line.url)
            assert not line.faults

    async def all_counted() -> bool:
        totals = [
            (await admin.ask("GET", f"{METRICS}/{key}"))["totals"] for key in ("segment_orders", "posthog_orders")
        ]
        return all(found["counted"] == 10 and found["duplicates"] > 0 for found in totals)

    await eventually(all_counted, "ten orders of each client are counted, and what came again is not")


async def test_a_visitor_keeps_its_variant_after_logging_in(stack: LocalStack, admin: PatientClient) -> None:
    variants = [
        {"name": "old", "type": "control", "traffic_percentage": 50},
        {"name": "new", "type": "treatment", "traffic_percentage": 50},
    ]
    await admin.ask("PUT", f"/api/v1/admin/experiments/{EXPERIMENT}", {"status": "running", "variants": variants})

    async def variant_of(**ids: str) -> str:
        answer = await admin.ask("POST", "/api/v1/ab-testing/assign", {"experiment_key": EXPERIMENT, **ids})
        name: str = answer["variant"]["variant_name"]
        return name

    visitors = {f"person-{n}": f"visitor-{n}" for n in range(PEOPLE)}
    before = {user: await variant_of(anonymous_id=visitor) for user, visitor in visitors.items()}
    assert set(before.values()) == {"old", "new"}

    def log_in() -> None:
        segment = Client(stack.keys["ingest"], host=stack.gateway, upload_interval=0.1)
        for user, visitor in visitors.items():
            segment.identify(user, {"plan": "pro"}, anonymous_id=visitor)
        segment.flush()
        segment.shutdown()

    await asyncio.to_thread(log_in)
    await linked(stack, visitors)

    asked_with_both = {user: await variant_of(user_id=user, anonymous_id=visitors[user]) for user in visitors}
    asked_later = {user: await variant_of(user_id=user) for user in visitors}
    assert asked_with_both == asked_later == before


async def linked(stack: LocalStack, visitors: dict[str, str]) -> None:
    connection = await asyncpg.connect(stack.postgres)

    async def known() -> bool:
        rows = await connection.fetch("SELECT user_id, anonymous_id FROM aggregator.v1_identity_links")
        return visitors.items() <= {row["user_id"]: row["anonymous_id"] for row in rows}.items()

    try:
        await eventually(known, "every visitor is linked to its user")
    finally:
        await connection.close()


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/t", {"event": "e", "userId": "u"}),
        ("/v1/batch", {"batch": []}),
        ("/capture/", {"event": "e", "distinct_id": "u"}),
        ("/batch", {"batch": []}),
        ("/i/v0/e/", {"event": "e", "distinct_id": "u"}),
        ("/i/v1/analytics/events", {"batch": []}),
    ],
)
async def test_every_path_is_open_at_the_gateway(stack: LocalStack, path: str, body: dict[str, Any]) -> None:
    async with httpx.AsyncClient(base_url=stack.gateway, auth=(stack.keys["ingest"], "")) as client:
        answer = await client.post(path, json=body)

    assert answer.status_code == 200, answer.text
