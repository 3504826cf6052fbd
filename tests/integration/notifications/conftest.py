"""Receivers, and an organisation that may tell them things."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from examples.imports.receivers import Receivers, open_receivers
from shared.postgres import Pool, create_pool
from tests.integration.notifications.world import World


@pytest_asyncio.fixture(scope="module")
async def pool(postgres: str) -> AsyncIterator[Pool]:
    pool = await create_pool(postgres, name="test", schema="alerting", size=8)
    yield pool
    await pool.close()


@pytest_asyncio.fixture
async def receivers() -> AsyncIterator[Receivers]:
    async with open_receivers() as receivers:
        yield receivers


@pytest_asyncio.fixture
async def world(pool: Pool, receivers: Receivers) -> AsyncIterator[World]:
    await pool.execute("TRUNCATE alerting.channels, alerting.notifications")
    yield World(pool, receivers)
