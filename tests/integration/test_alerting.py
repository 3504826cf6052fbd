"""Alerting on real Kafka: it follows the topic from its beginning and shows how far it is."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest_asyncio
from prometheus_client.parser import text_string_to_metric_families

from shared.clock import DAY, MINUTE, SECOND, system_clock
from shared.kafka import Publisher, new_producer
from shared.messages import MetricUpdate
from shared.topics import METRIC_UPDATES
from tests.waiting import eventually


class Alerting:
    """A running process of the service."""

    def __init__(self, process: asyncio.subprocess.Process, client: httpx.AsyncClient) -> None:
        self.process = process
        self.client = client

    async def metric(self, name: str, **labels: str) -> float | None:
        """The sample called `name` with at least these labels."""
        text = (await self.client.get("/metrics")).text
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if sample.name == name and labels.items() <= sample.labels.items():
                    return sample.value
        return None


@asynccontextmanager
async def running_alerting(kafka: str) -> AsyncIterator[Alerting]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {
        "TIDEGATE_KAFKA": kafka,
        "TIDEGATE_POSTGRES": "postgresql://nobody@127.0.0.1:1/none",
        "TIDEGATE_PORT": str(port),
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services.alerting", env={**os.environ, **environment}
    )
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
            await eventually(lambda: _is_ready(client), "alerting is ready")
            yield Alerting(process, client)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def _is_ready(client: httpx.AsyncClient) -> bool:
    try:
        return (await client.get("/readyz")).status_code == 200
    except httpx.TransportError:
        return False


@pytest_asyncio.fixture(scope="module")
async def publisher(kafka: str) -> AsyncIterator[Publisher]:
    publisher = Publisher(kafka)
    await publisher.start()
    yield publisher
    await publisher.stop()


def _update(subject: str, revision: int, *, shard: int = 0, window: int | None = None, age: int = 0) -> MetricUpdate:
    now = system_clock()
    return MetricUpdate(
        organisation="acme",
        subject_kind="metric",
        subject=subject,
        version=1,
        series='["count"]',
        window_start=(now // MINUTE) * MINUTE if window is None else window,
        shard=shard,
        revision=revision,
        watermark=now - age,
        published_at=now,
    )


async def test_what_was_published_before_the_start_is_known_when_ready(kafka: str, publisher: Publisher) -> None:
    for revision in (10, 20, 30):
        await publisher.publish(METRIC_UPDATES, _update("before", revision, window=0, age=5 * SECOND))

    async with running_alerting(kafka) as alerting:
        assert await alerting.metric("tidegate_alerting_revision", subject="before", shard="0") == 30
        lag = await alerting.metric("tidegate_alerting_lag_seconds", subject="before", shard="0")
        assert lag is not None
        assert 5 <= lag < 60


async def test_revisions_are_checked_and_bad_records_do_not_stop_the_reader(kafka: str, publisher: Publisher) -> None:
    async with running_alerting(kafka) as alerting:
        before = {
            verdict: await alerting.metric("tidegate_alerting_updates_total", verdict=verdict) or 0
            for verdict in ("newer", "repeat", "stale", "expired")
        }
        undecodable = await alerting.metric("tidegate_alerting_undecodable_total") or 0
        producer = new_producer(kafka)
        await producer.start()
        hostile = [
            b"",
            b"nonsense",
            b"null",
            b'{"organisation":5}',
            b'{"shard":NaN}',
            b'{"series":"\xff"}',
            b'{"x":' + b"[" * 100_000,
        ]
        for n, value in enumerate(hostile):
            for partition in range(METRIC_UPDATES.partitions):
                await producer.send_and_wait(METRIC_UPDATES.name, value, key=b"bad-%d" % n, partition=partition)
        await producer.send_and_wait(METRIC_UPDATES.name, None, key=b"tombstone", partition=0)
        await producer.stop()
        for update in (
            _update("checked", 7, window=0),
            _update("checked", 8, window=0),
            _update("checked", 8, window=0),
            _update("checked", 3, window=0),
            _update("checked", 9, window=system_clock() - 2 * DAY),
        ):
            await publisher.publish(METRIC_UPDATES, update)

        async def all_read() -> bool:
            return (
                await alerting.metric("tidegate_alerting_updates_total", verdict="expired") == before["expired"] + 1
            )

        await eventually(all_read, "the last update is read")
        expected = {"newer": 2, "repeat": 1, "stale": 1, "expired": 1}
        for verdict, count in expected.items():
            total = await alerting.metric("tidegate_alerting_updates_total", verdict=verdict)
            assert total == before[verdict] + count, verdict
        assert await alerting.metric("tidegate_alerting_undecodable_total") == undecodable + 4 * len(hostile)
        assert await alerting.metric("tidegate_alerting_revision", subject="checked", shard="0") == 9
        assert (await alerting.client.get("/readyz")).status_code == 200

        async def no_lag() -> bool:
            lags = [
                await alerting.metric("tidegate_alerting_position_lag_records", partition=str(partition))
                for partition in range(METRIC_UPDATES.partitions)
            ]
            return lags == [0] * METRIC_UPDATES.partitions

        await eventually(no_lag, "everything is read")


async def test_the_schema_is_open_and_sigterm_ends_it_cleanly(kafka: str) -> None:
    async with running_alerting(kafka) as alerting:
        schema = await alerting.client.get("/api/v1/openapi/alerting.json")
        other = await alerting.client.get("/api/v1/streaming-analytics/alerts")
        assert schema.json()["info"]["title"] == "Tidegate alerting"
        assert other.status_code == 401

        alerting.process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(alerting.process.wait(), 20) == 0
