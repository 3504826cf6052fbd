"""The import product's own tables in a fresh database, emptied for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from examples.imports import schema
from shared.postgres import Pool, create_pool


@pytest_asyncio.fixture(loop_scope="session")
async def pool(postgres: str) -> AsyncIterator[Pool]:
    opened = await create_pool(postgres, name="imports-test", size=6)
    try:
        await schema.prepare(opened)
        await opened.execute("TRUNCATE imports.jobs")
        yield opened
    finally:
        await opened.close()
