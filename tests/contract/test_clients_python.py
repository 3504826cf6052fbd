"""The Python SDKs of Segment, PostHog and CloudEvents, unmodified, against a process of ingest on real Kafka."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import pytest_asyncio
import requests
from cloudevents.core.bindings.http import to_binary_event, to_structured_event
from cloudevents.core.v1.event import CloudEvent
from posthog import Posthog
from segment.analytics.client import Client  # type: ignore[import-untyped]  # it ships no type information

from tests.contract.clients import FAULTS, SEGMENT_CALLS, Fault, Ingest, happened, shown

HAPPENED = datetime.now(UTC) - timedelta(hours=1)


@pytest_asyncio.fixture(scope="module")
async def ingest(kafka: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Ingest]:
    async with Ingest.running(kafka, tmp_path_factory.mktemp("ingest") / "log") as running:
        yield running


@pytest.mark.parametrize("faults", FAULTS)
@pytest.mark.parametrize("gzip", [False, True])
async def test_segments_client_delivers_every_call(ingest: Ingest, faults: Sequence[Fault], gzip: bool) -> None:
    project = await ingest.project()
    errors: list[Exception] = []

    def send(url: str) -> None:
        client = Client(
            project.key, host=url, gzip=gzip, upload_interval=0.1, on_error=lambda error, _: errors.append(error)
        )
        at = {"timestamp": HAPPENED}
        client.identify("u-1", {"plan": "pro"}, anonymous_id="a-1", message_id="m-identify", **at)
        client.track("u-1", "Order Completed", {"revenue": 19.9}, message_id="m-track", **at)
        client.page("u-1", "Docs", "Home", {"path": "/"}, message_id="m-page", **at)
        client.screen(None, "Shop", "Cart", anonymous_id="a-1", message_id="m-screen", **at)
        client.group("u-1", "acme", {"seats": 5}, message_id="m-group", **at)
        client.alias("a-2", "u-2", message_id="m-alias", **at)
        client.flush()
        client.shutdown()

    async with ingest.line(faults).open() as line:
        await asyncio.to_thread(send, line.url)
        assert not line.faults

    assert errors == []
    events = await project.arrived(6)
    assert happened(events, HAPPENED)
    assert shown(events) == SEGMENT_CALLS


async def test_segments_client_hears_why_a_batch_is_refused(ingest: Ingest) -> None:
    errors: list[Any] = []

    def send() -> None:
        client = Client("no-key", host=ingest.program.url, on_error=lambda error, _: errors.append(error))
        client.track("u-1", "Order Completed")
        client.flush()
        client.shutdown()

    await asyncio.to_thread(send)

    (error,) = errors
    assert (error.status, error.code) == (401, "key_unknown")
    assert error.message.startswith("send an API key")


@pytest.mark.parametrize("faults", FAULTS)
@pytest.mark.parametrize(("mode", "gzip"), [("v0", False), ("v0", True), ("v1", False)])
async def test_posthogs_client_delivers_every_event(
    ingest: Ingest, faults: Sequence[Fault], mode: str, gzip: bool
) -> None:
    project = await ingest.project()
    errors: list[Any] = []
    uuids = [f"0190a8f0-0000-7000-8000-00000000000{n}" for n in range(5)]

    def send(url: str) -> None:
        client = Posthog(
            project.key,
            host=url,
            gzip=gzip,
            capture_mode=mode,
            flush_interval=0.1,
            on_error=lambda error, _: errors.append(error),
        )
        capture = {"timestamp": HAPPENED}
        client.capture("order_completed", distinct_id="u-1", properties={"revenue": 19.9}, uuid=uuids[0], **capture)
        client.capture("$pageview", distinct_id="u-1", uuid=uuids[1], **capture)
        client.set(distinct_id="u-1", properties={"plan": "pro"}, uuid=uuids[2], **capture)
        client.alias("a-1", "u-1", uuid=uuids[3], **capture)
        client.group_identify("company", "acme", {"seats": 5}, uuid=uuids[4], **capture)
        client.flush()
        client.shutdown()

    async with ingest.line(faults).open() as line:
        await asyncio.to_thread(send, line.url)
        assert not line.faults

    assert errors == []
    events = await project.arrived(5)
    assert happened(events, HAPPENED)
    found = shown(events)
    assert {uuid: what[:3] for uuid, what in found.items()} == {
        uuids[0]: ("order_completed", "u-1", None),
        uuids[1]: ("$pageview", "u-1", None),
        uuids[2]: ("$set", "u-1", None),
        uuids[3]: ("$create_alias", "u-1", "a-1"),
        uuids[4]: ("$groupidentify", None, None),
    }
    assert found[uuids[0]][3]["revenue"] == 19.9
    assert found[uuids[2]][3]["$set"] == {"plan": "pro"}
    assert found[uuids[4]][3]["$group_set"] == {"seats": 5}


def order(n: int) -> CloudEvent:
    return CloudEvent(
        {
            "id": f"order-{n}",
            "source": "/shop",
            "type": "com.example.order.completed",
            "subject": "u-1",
            "time": HAPPENED,
        },
        {"revenue": 19.9, "n": n},
    )


async def test_cloudevents_arrive_in_every_mode(ingest: Ingest) -> None:
    project = await ingest.project()
    url, authorization = f"{ingest.program.url}/cloudevents", {"Authorization": f"Bearer {project.key}"}

    def send() -> list[int]:
        one, two = to_structured_event(order(1)), to_binary_event(order(2))
        many = [to_structured_event(order(n)).body for n in (3, 4)]
        batch = {"content-type": "application/cloudevents-batch+json"}
        posts = [
            (one.headers, one.body),
            (two.headers, two.body),
            (batch, b"[" + b",".join(many) + b"]"),
            (one.headers, one.body),
        ]
        return [
            requests.post(url, headers={**headers, **authorization}, data=body, timeout=30).status_code
            for headers, body in posts
        ]

    assert await asyncio.to_thread(send) == [202] * 4

    events = await project.arrived(4)
    assert len(events) == 5
    assert happened(events, HAPPENED)
    assert shown(events) == {
        f"/shop order-{n}": ("com.example.order.completed", "u-1", None, {"revenue": 19.9, "n": n})
        for n in range(1, 5)
    }


async def test_events_that_are_sent_while_ingest_is_dead_arrive_once_it_is_back(ingest: Ingest) -> None:
    project = await ingest.project()
    errors: list[Any] = []

    def note(error: Exception, _: object) -> None:
        errors.append(error)

    def by_segment() -> None:
        client = Client(project.key, host=ingest.program.url, upload_interval=0.1, on_error=note)
        for n in range(50):
            client.track(f"u-{n}", "Order Completed", message_id=f"segment-{n}", timestamp=HAPPENED)
        client.flush()
        client.shutdown()

    def by_posthog() -> None:
        client = Posthog(project.key, host=ingest.program.url, flush_interval=0.1, max_retries=5, on_error=note)
        for n in range(50):
            client.capture("order_completed", distinct_id=f"u-{n}", timestamp=HAPPENED)
        client.flush()
        client.shutdown()

    await ingest.program.kill()
    async with asyncio.TaskGroup() as clients:
        for send in (by_segment, by_posthog):
            clients.create_task(asyncio.to_thread(send))
        await ingest.program.start()

    assert errors == []
    events = await project.arrived(100)
    assert happened(events, HAPPENED)
    assert len(shown(events)) == len(events) == 100
