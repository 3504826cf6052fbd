"""HTTP polling, server-sent events and WebSockets as sources, whose far end goes away again and again."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest
import pytest_asyncio

from tests.integration.sources.far_end import TOKEN, FarEnd, far_end
from tests.integration.sources.world import SOURCES, Ingest, Stored
from tests.waiting import eventually

MAPPING = {"event_type": "type", "event_data": {"n": "id"}}
POLL = {"interval_seconds": 1, "items": "data", "item_id": "id"}
WAYS: Mapping[str, tuple[str, str, Mapping[str, Any]]] = {
    "list": ("http", "/list", POLL),
    "cursor": ("http", "/cursor", {**POLL, "cursor": "meta.last", "cursor_parameter": "after"}),
    "pages": ("http", "/pages", {**POLL, "next_link": "links.next"}),
    "sse": ("sse", "/sse", {}),
    "ws": ("websocket", "/ws", {"resume": "id", "resume_parameter": "after"}),
}


@pytest_asyncio.fixture
async def shop() -> AsyncIterator[FarEnd]:
    async with far_end() as server:
        yield server


def config(shop: FarEnd, way: str, **more: Any) -> dict[str, Any]:
    type, path, settings = WAYS[way]
    url = (shop.url if type != "websocket" else shop.url.replace("http", "ws")) + path
    return {"url": url, "auth_token": TOKEN, **settings, **more}


async def create(service: Ingest, shop: FarEnd, way: str, key: str, **more: Any) -> int:
    source = await service.create(WAYS[way][0], config(shop, way, **more), key=key, mapping=MAPPING)
    number: int = source["id"]
    return number


async def test_while_the_far_end_restarts_nothing_is_lost_and_nothing_comes_twice(
    service: Ingest, shop: FarEnd, log: Stored
) -> None:
    shop.add(10)
    sources = [await create(service, shop, way, f"restarted-{way}") for way in WAYS]
    for source in sources:
        await log.holds(source, Counter(range(10)))
    for _ in range(3):
        shop.add(15)
        await asyncio.sleep(0.15)  # sometimes in mid-stream, sometimes after it: both must be harmless
        await shop.restart()
        shop.add(5)

    for source in sources:
        await log.holds(source, Counter(range(70)))
        health = await service.health(source)
        assert health["last_error"] is None or TOKEN not in health["last_error"]
    assert TOKEN not in service.tail()


@pytest.mark.parametrize("way", ["cursor", "sse", "ws"])
async def test_a_source_that_was_paused_goes_on_where_it_was(
    service: Ingest, shop: FarEnd, log: Stored, way: str
) -> None:
    shop.add(20)
    source = await create(service, shop, way, f"paused-{way}")
    await log.holds(source, Counter(range(20)))
    await service.admin.post(f"{SOURCES}/{source}/pause")

    async def let_go() -> bool:
        return await service.metric("tidegate_ingest_source_up", source=f"paused-{way}") is None

    await eventually(let_go, "the source is let go of")
    shop.add(20)
    shop.asked_after.clear()
    await service.admin.post(f"{SOURCES}/{source}/resume")

    await log.holds(source, Counter(range(40)))
    assert shop.asked_after[0] == "19"


async def test_a_list_that_has_not_changed_is_not_sent_again(service: Ingest, shop: FarEnd, log: Stored) -> None:
    shop.add(3)
    source = await create(service, shop, "list", "unchanged")
    await log.holds(source, Counter(range(3)))

    async def asked_again() -> bool:
        return any(headers.get("If-None-Match") == '"3"' for _, headers in shop.requests)

    await eventually(asked_again, "the list is asked for by its ETag")
    shop.add(1)
    await log.holds(source, Counter(range(4)))


async def test_a_far_end_that_refuses_is_left_alone_for_as_long_as_it_asks(
    service: Ingest, shop: FarEnd, log: Stored
) -> None:
    shop.statuses = [503, 500] * 50
    shop.add(3)
    source = await create(service, shop, "list", "refusing")

    async def told() -> bool:
        health = await service.health(source)
        refused = health["restarts"] >= 2 and str(health["last_error"]).startswith("HTTP 50")
        return bool(refused and health["state"] == "retrying")

    await eventually(told, "the health tells of the refusal")
    shop.statuses.clear()
    await log.holds(source, Counter(range(3)))


async def test_a_wrong_token_shows_in_the_health_but_never_the_token(service: Ingest, shop: FarEnd) -> None:
    source = await create(service, shop, "ws", "wrong-token", auth_token="wrong-secret-token")

    async def told() -> bool:
        return "401" in str((await service.health(source))["last_error"])

    await eventually(told, "the health tells of 401")
    shown = (await service.read.get(f"{SOURCES}/{source}")).text
    assert "wrong-secret-token" not in shown
    assert "wrong-secret-token" not in service.tail()


@pytest.mark.parametrize("way", ["sse", "ws"])
async def test_what_is_no_event_is_dead_lettered_and_the_stream_goes_on(
    service: Ingest, shop: FarEnd, log: Stored, way: str
) -> None:
    shop.extra = "no json at all"
    shop.add(5)
    source = await create(service, shop, way, f"noisy-{way}")

    await log.holds(source, Counter(range(5)))

    (letter,) = await log.letters(f"source:noisy-{way}")
    assert (letter.payload, letter.reason) == (b"no json at all", "malformed_json")
