"""One stack for all tests of faults: they add to one log, which is replayed in the end."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.faults.progress import Progress
from tests.faults.settings import FaultSettings
from tests.faults.site import Site

_SETTINGS = FaultSettings.from_environment(os.environ)

collect_ignore = [] if _SETTINGS.far_ends else ["test_far_ends.py"]


@pytest.fixture(scope="session")
def fault_settings() -> FaultSettings:
    return _SETTINGS


@pytest.fixture(scope="session")
def progress() -> Progress:
    return Progress()


@pytest_asyncio.fixture(scope="package")
async def site(tmp_path_factory: pytest.TempPathFactory, progress: Progress) -> AsyncIterator[Site]:
    async with Site(tmp_path_factory.mktemp("faults")) as running:
        progress.say("the stack is ready")
        yield running
