"""Fixtures on real Kafka and Postgres. Each module that asks gets an empty log and a database of its own."""

from __future__ import annotations

import logging
import uuid
from collections.abc import AsyncIterator
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest
import pytest_asyncio
from aiokafka.admin import AIOKafkaAdminClient
from hypothesis import settings

from deploy.local.migrations import migrate
from deploy.local.stack import LocalStack
from shared.kafka import create_topics
from tests.backends import Backends, containers, docker_answers, embedded
from tests.waiting import eventually

# A busy machine is no finding.
settings.register_profile("tidegate", deadline=None)
settings.load_profile("tidegate")

# Clients that wait for a broker to come up complain at every attempt.
logging.getLogger("aiokafka").setLevel(logging.CRITICAL)


@pytest_asyncio.fixture(scope="session")
async def backends(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Backends]:
    """One Kafka and one Postgres for the whole run."""
    opened = containers() if docker_answers() else embedded(tmp_path_factory.mktemp("backends"))
    async with opened as found:
        yield found


@pytest_asyncio.fixture(scope="module")
async def kafka(backends: Backends) -> str:
    """Bootstrap servers; all of our topics exist and are empty."""
    client = AIOKafkaAdminClient(bootstrap_servers=backends.kafka)
    await client.start()
    try:
        present = [t for t in await client.list_topics() if not t.startswith("__")]
        if present:
            await client.delete_topics(present)

            async def gone() -> bool:
                return not set(present) & set(await client.list_topics())

            await eventually(gone, "the old topics are gone")
    finally:
        await client.close()
    await create_topics(backends.kafka)
    return backends.kafka


@pytest_asyncio.fixture(scope="module")
async def postgres(backends: Backends, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """URL of a fresh database with all migrations applied."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    admin = await asyncpg.connect(backends.postgres)
    try:
        await admin.execute(f"CREATE DATABASE {name}")
        url = urlunsplit(urlsplit(backends.postgres)._replace(path=f"/{name}"))
        await migrate(url, cwd=tmp_path_factory.mktemp("migrate"))
        yield url
        await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
    finally:
        await admin.close()


@pytest_asyncio.fixture(scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LocalStack]:
    """The whole platform, every process its own, behind its gateway."""
    async with LocalStack(tmp_path_factory.mktemp("stack")) as running:
        yield running
