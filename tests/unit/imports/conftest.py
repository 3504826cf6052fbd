"""A user's client in front of a gateway in memory."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field

import pytest

from examples.imports.domain.ledger import Ledger
from examples.imports.sender import EventSender
from examples.imports.transport import Api, open_session
from tests.unit.imports.fake_gateway import FakeGateway, Mishap, serving


@dataclass(frozen=True, slots=True)
class Client:
    gateway: FakeGateway
    api: Api
    ledger: Ledger
    sender: EventSender
    complaints: list[str] = field(default_factory=list)


OpenClient = Callable[..., AbstractAsyncContextManager[Client]]


@pytest.fixture
def open_client() -> OpenClient:
    """Opens a client whose gateway has the given mishaps and who gives up after `patience` seconds."""

    @asynccontextmanager
    async def opened(mishap: Mishap = lambda _: None, *, patience: float = 10.0) -> AsyncIterator[Client]:
        gateway = FakeGateway(mishap)
        async with serving(gateway) as url, open_session(connections=4) as session:
            api = Api(session, url, "key", concurrency=asyncio.Semaphore(4), dice=random.Random(1))
            ledger, complaints = Ledger(("realtime", "background")), list[str]()
            deadline = asyncio.get_running_loop().time() + patience
            sender = EventSender(api, ledger, deadline=deadline, complain=complaints.append)
            yield Client(gateway, api, ledger, sender, complaints)

    return opened
