from collections.abc import AsyncIterator

import pytest

from tests.unit.ingest.compat.service import Service


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    service = Service()
    async with service.client:
        yield service
