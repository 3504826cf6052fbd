"""One ingest process with sources, on real Kafka and Postgres."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.integration.sources.world import Ingest, Stored, ingest, publish_keys, stored


@pytest_asyncio.fixture(scope="module")
async def service(kafka: str, postgres: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Ingest]:
    await publish_keys(kafka)
    async with ingest(kafka, postgres, tmp_path_factory.mktemp("ingest")) as running:
        yield running


@pytest_asyncio.fixture(scope="module")
async def log(kafka: str) -> AsyncIterator[Stored]:
    async with stored(kafka) as found:
        yield found
