"""Alerting as a process, on real Kafka and Postgres; the aggregator's part is played by the tests."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from shared.kafka import Publisher
from tests.integration.alerting.process import Aggregator, Alerting, Listener, alerting, listening, publish_keys


@pytest_asyncio.fixture(scope="module")
async def publisher(kafka: str) -> AsyncIterator[Publisher]:
    publisher = Publisher(kafka)
    await publisher.start()
    await publish_keys(publisher)
    yield publisher
    await publisher.stop()


@pytest_asyncio.fixture(scope="module")
async def aggregator(publisher: Publisher) -> AsyncIterator[Aggregator]:
    async with Aggregator(publisher) as aggregator:
        yield aggregator


@pytest_asyncio.fixture(scope="module")
async def service(
    kafka: str, postgres: str, publisher: Publisher, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Alerting]:
    async with alerting(kafka, postgres, tmp_path_factory.mktemp("alerting") / "log") as running:
        yield running


@pytest_asyncio.fixture
async def listener(kafka: str) -> AsyncIterator[Listener]:
    async with listening(kafka) as listener:
        yield listener
