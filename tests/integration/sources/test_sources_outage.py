"""Sources while Postgres is away and while processes hang: events go on, and nobody writes who may not."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import pytest
import pytest_asyncio

from services.ingest.sources.leases import Lease, LeaseLostError, Leases
from shared.postgres import create_pool
from tests.faults.proxy import Proxy
from tests.integration.sources.far_end import TOKEN, far_end
from tests.integration.sources.test_kafka_source import MAPPING as ORDERS
from tests.integration.sources.test_kafka_source import config as orders_of
from tests.integration.sources.test_kafka_source import foreign_topic, send
from tests.integration.sources.world import SOURCES, Ingest, Stored, ingest, publish_keys
from tests.waiting import eventually

EVENTS = "/api/v1/streaming-analytics/events"
MEASURED = {"event_type": "type", "event_data": {"n": "id"}}
ODD = "a\x00 \ud800 ä \\u0000"
"""Text that JSON can hold, and that Postgres would not take as it is."""


async def test_without_postgres_events_and_kafka_go_on_and_the_rest_waits_for_its_lease(
    kafka: str, postgres: str, log: Stored, tmp_path: Path
) -> None:
    await publish_keys(kafka)
    parts = urlsplit(postgres)
    async with Proxy(parts.port or 5432) as proxy, far_end() as shop, foreign_topic(kafka) as (topic, producer):
        netloc = f"{parts.netloc.rpartition(':')[0]}:{proxy.port}"
        async with ingest(kafka, urlunsplit(parts._replace(netloc=netloc)), tmp_path) as service:
            orders = await service.create("kafka", orders_of(kafka, topic), key="orders", mapping=ORDERS)
            stream = {"url": f"{shop.url}/sse", "auth_token": TOKEN}
            measured = await service.create("sse", stream, key="measured", mapping=MEASURED)
            await send(producer, topic, range(10))
            shop.add(10)
            await log.holds(orders["id"], Counter(range(10)))
            await log.holds(measured["id"], Counter(range(10)))

            await proxy.refuse()
            await send(producer, topic, range(10, 20))
            sent = await service.ingest.post(EVENTS, json={"event_type": "a"})
            refused = await service.read.get(SOURCES)

            assert sent.status_code == 202
            assert (refused.status_code, "Retry-After" in refused.headers) == (503, True)
            await log.holds(orders["id"], Counter(range(20)))

            async def stopped() -> bool:
                return await _up(service, "measured") is None

            await eventually(stopped, "the stream is given up before its lease has run out", seconds=9)
            assert await _up(service, "orders") == 1
            assert (await service.read.get("/readyz")).status_code == 200

            shop.add(10)
            await send(producer, topic, range(20, 30))
            await log.holds(orders["id"], Counter(range(30)))
            await proxy.accept()
            await log.holds(measured["id"], Counter(range(20)))


async def _up(service: Ingest, source: str) -> float | None:
    return await service.metric("tidegate_ingest_source_up", source=source)


async def test_a_process_that_hung_longer_than_its_lease_loses_the_source_and_doubles_nothing(
    kafka: str, postgres: str, log: Stored, tmp_path: Path
) -> None:
    await publish_keys(kafka)
    async with far_end() as shop, ingest(kafka, postgres, tmp_path, name="one") as one:
        stream = {"url": f"{shop.url}/sse", "auth_token": TOKEN}
        source = await one.create("sse", stream, key="hung", mapping=MEASURED)
        shop.add(10)
        await log.holds(source["id"], Counter(range(10)))
        async with ingest(kafka, postgres, tmp_path, name="two") as two:
            with one.stopped():
                shop.add(10)

                async def moved() -> bool:
                    return await _up(two, "hung") == 1

                await eventually(moved, "the other process runs it")
                await log.holds(source["id"], Counter(range(20)))

            async def lost() -> bool:
                return await _up(one, "hung") is None

            await eventually(lost, "the first has noticed")
            shop.add(10)
            await log.holds(source["id"], Counter(range(30)))


@pytest_asyncio.fixture
async def rivals(postgres: str) -> AsyncIterator[tuple[Leases, Leases]]:
    pool = await create_pool(postgres, name="test", size=4)
    yield Leases(pool, "first", seconds=0.3), Leases(pool, "second", seconds=0.3)
    await pool.close()


async def _take_over(leases: Leases, source_id: int) -> Lease:
    found: Lease | None = None

    async def taken() -> bool:
        nonlocal found
        found = await leases.acquire(source_id)
        return found is not None

    await eventually(taken, "the lease has run out", seconds=5)
    assert found is not None
    return found


async def test_whoever_lost_a_lease_can_neither_renew_nor_save(rivals: tuple[Leases, Leases]) -> None:
    first, second = rivals
    mine = await first.acquire(900)
    assert mine is not None
    assert await second.acquire(900) is None
    await first.save(mine, {"cursor": ODD})
    assert await first.renew({900: mine.token}, {900: {"events": 3}}) == {900}

    theirs = await _take_over(second, 900)

    assert theirs.token > mine.token
    assert theirs.health == {"events": 3}
    assert await second.position(theirs) == {"cursor": ODD}
    assert await first.renew({900: mine.token}, {900: {}}) == set()
    with pytest.raises(LeaseLostError):
        await first.save(mine, {"cursor": "b"})
    with pytest.raises(LeaseLostError):
        await first.position(mine)
    await first.release(mine, {})
    assert await first.acquire(900) is None


async def test_a_released_lease_is_free_at_once_and_a_late_one_is_renewed_if_nobody_took_it(
    rivals: tuple[Leases, Leases],
) -> None:
    first, second = rivals
    mine = await first.acquire(901)
    assert mine is not None
    await eventually(lambda: _is_free(first, 901), "the lease has run out", seconds=5)
    assert await first.renew({901: mine.token}, {901: {}}) == {901}
    assert await second.acquire(901) is None

    await first.release(mine, {"events": 1})

    taken = await second.acquire(901)
    assert taken is not None
    assert taken.health == {"events": 1}


async def _is_free(leases: Leases, source_id: int) -> bool:
    return await leases.free([source_id]) == [source_id]


async def test_of_many_that_take_a_free_source_one_gets_it(rivals: tuple[Leases, Leases]) -> None:
    found = await asyncio.gather(*(leases.acquire(902) for leases in rivals * 5))
    assert sum(lease is not None for lease in found) == 1


async def test_processes_that_live_are_counted(rivals: tuple[Leases, Leases]) -> None:
    first, second = rivals
    await first.count_processes()
    assert await second.count_processes() == 2
    await first.leave()
    assert await second.count_processes() == 1


async def test_a_process_that_ends_lets_go_of_its_sources_at_once(kafka: str, postgres: str, tmp_path: Path) -> None:
    await publish_keys(kafka)
    async with far_end() as shop, ingest(kafka, postgres, tmp_path) as service:
        stream = {"url": f"{shop.url}/sse", "auth_token": TOKEN}
        source = await service.create("sse", stream, key="handed-over", mapping=MEASURED)
        await service.becomes(source["id"], "running")

        assert await service.terminate() == 0

    pool = await create_pool(postgres, name="test", size=1)
    next_process = Leases(pool, "next")
    assert await next_process.acquire(source["id"]) is not None
    assert await next_process.count_processes() == 1
    await pool.close()
