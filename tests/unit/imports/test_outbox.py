"""A client's good and bad manners."""

from __future__ import annotations

import random
from dataclasses import replace

from examples.imports.domain.behaviour import FileChoice, Malformation, Network, UserPlan, draw_plan
from examples.imports.domain.events import Session
from examples.imports.outbox import Deliveries, Outbox
from tests.unit.imports.conftest import Client, OpenClient

_NOW = 1_760_000_000_000_000
_CALM = Network(True, frozenset(), frozenset(), {}, {}, None)


def _plan(network: Network) -> UserPlan:
    plan = draw_plan(1, 0, nominal_seconds=1, files=(FileChoice(1, 1_000),))
    return replace(plan, network=network)


async def _flush_three(client: Client, network: Network) -> list[str]:
    """Two steps: one of three events, one of none. The ids in the order in which they arrived."""
    session, later = Session("key", "u"), Deliveries()
    outbox = Outbox(_plan(network), session, client.sender, later, pace=0.01, dice=random.Random(3))
    for path in ("/a", "/b", "/c"):
        outbox.add(session.pageview(_NOW, path))
    await outbox.flush()
    await outbox.flush()
    await later.settled()
    return list(client.gateway.events)


async def test_a_calm_network_delivers_each_event_once_in_order(open_client: OpenClient) -> None:
    async with open_client() as client:
        assert await _flush_three(client, _CALM) == ["u_1", "u_2", "u_3"]
    assert client.gateway.duplicates == 0
    assert client.gateway.requests["events"] == 1


async def test_without_batching_each_event_is_a_request(open_client: OpenClient) -> None:
    async with open_client() as client:
        await _flush_three(client, replace(_CALM, batches=False))
    assert client.gateway.requests["events"] == 3


async def test_resent_and_doubled_steps_arrive_twice_under_the_same_ids(open_client: OpenClient) -> None:
    for network in (replace(_CALM, resent=frozenset({0})), replace(_CALM, doubled=frozenset({0}))):
        async with open_client() as client:
            assert len(await _flush_three(client, network)) == 3
        truth = client.ledger.truth()
        assert client.gateway.duplicates == truth.duplicates_sent == truth.duplicates_certain == 3


async def test_held_events_arrive_later_with_their_true_times(open_client: OpenClient) -> None:
    async with open_client() as client:
        session, later = Session("key", "u"), Deliveries()
        network = replace(_CALM, held={0: 5.0})
        outbox = Outbox(_plan(network), session, client.sender, later, pace=0.01, dice=random.Random(3))
        for number in range(6):
            outbox.add(session.pageview(_NOW + number, "/early"))
        await outbox.flush()
        outbox.add(session.pageview(_NOW + 10, "/late"))
        await outbox.flush()
        assert [e.time for e in client.gateway.events.values()] == [_NOW + 10]
        await later.settled()
        times = [e.time for e in client.gateway.events.values()]
    assert sorted(times[1:]) == [_NOW + number for number in range(6)]
    assert times[1:] != sorted(times[1:])


async def test_a_malformed_event_goes_with_the_step_it_is_planned_for(open_client: OpenClient) -> None:
    for batches in (True, False):
        network = replace(_CALM, batches=batches, malformed={0: Malformation.NUL, 1: Malformation.NUL})
        async with open_client() as client:
            assert len(await _flush_three(client, network)) == 3
        assert client.ledger.truth().malformed_sent == len(client.gateway.letters) == 1
