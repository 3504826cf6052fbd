"""Delivery until acknowledged, whatever the gateway does in between."""

from __future__ import annotations

import asyncio
import random

import pytest

from examples.imports.domain.behaviour import Malformation
from examples.imports.domain.events import Session
from examples.imports.domain.ledger import Ledger
from examples.imports.sender import EventSender, Malformed
from examples.imports.transport import Api, open_session
from tests.unit.imports.conftest import OpenClient

_NOW = 1_760_000_000_000_000


def _malformed(session: Session) -> Malformed:
    return Malformed(session.pageview(_NOW, "/x"), Malformation.LONE_SURROGATE)


@pytest.mark.parametrize("batched", [True, False])
async def test_events_are_sent_again_with_the_same_ids_until_acknowledged(
    open_client: OpenClient, batched: bool
) -> None:
    session = Session("key", "u")
    events = [session.pageview(_NOW, path) for path in ("/a", "/b", "/c")]
    async with open_client(lambda number: {1: "before", 2: "after"}.get(number)) as client:
        await client.sender.send(events, {}, batched=batched)
    truth = client.ledger.truth()
    assert set(client.gateway.events) == {event.event_id for event in events}
    assert truth.accepted == 3
    assert truth.duplicates_certain <= client.gateway.duplicates <= truth.duplicates_sent
    assert client.gateway.duplicates == (3 if batched else 1)
    assert client.complaints == []


async def test_what_is_not_acknowledged_by_the_deadline_stays_unacknowledged(open_client: OpenClient) -> None:
    async with open_client(lambda _: "before", patience=0.3) as client:
        await client.sender.send([Session("key", "u").pageview(_NOW, "/")], {}, batched=True)
    truth = client.ledger.truth()
    assert (truth.accepted, truth.unacknowledged) == (0, 1)
    assert "503" in client.complaints[0]


async def test_a_malformed_event_in_a_batch_is_refused_alone(open_client: OpenClient) -> None:
    session = Session("key", "u")
    async with open_client() as client:
        await client.sender.send_batch([session.pageview(_NOW, "/")], _malformed(session), {})
    truth = client.ledger.truth()
    assert (truth.accepted, truth.malformed_sent) == (1, 1)
    assert len(client.gateway.letters) == 1
    assert client.complaints == []


async def test_a_malformed_event_alone_is_refused_and_not_tried_again(open_client: OpenClient) -> None:
    async with open_client() as client:
        await client.sender.send_malformed(_malformed(Session("key", "u")), {})
    assert client.ledger.truth().malformed_sent == 1
    assert client.gateway.requests["events"] == 1


async def test_a_refused_valid_event_is_a_complaint_and_not_accepted(open_client: OpenClient) -> None:
    too_old = Session("key", "u").pageview(0, "/")
    async with open_client() as client:
        await client.sender.send([too_old], {}, batched=False)
        await client.sender.send([too_old], {}, batched=True)
    assert client.ledger.truth().accepted == 0
    assert len(client.complaints) == 2


async def test_while_nothing_listens_nothing_counts_as_sent(unused_tcp_port: int) -> None:
    ledger, complaints = Ledger(("realtime",)), list[str]()
    async with open_session(connections=1) as session:
        url = f"http://127.0.0.1:{unused_tcp_port}"
        api = Api(session, url, "key", concurrency=asyncio.Semaphore(1), dice=random.Random(1))
        deadline = asyncio.get_running_loop().time() + 0.3
        sender = EventSender(api, ledger, deadline=deadline, complain=complaints.append)
        await sender.send([Session("key", "u").pageview(_NOW, "/")], {}, batched=True)
    truth = ledger.truth()
    assert (truth.accepted, truth.unacknowledged, truth.duplicates_sent) == (0, 0, 0)
    assert "connection refused" in complaints[0]
