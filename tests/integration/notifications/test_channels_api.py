"""Channels over REST: applied, shown without secrets, tested, removed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import pytest_asyncio
from prometheus_client import CollectorRegistry

from examples.imports.receivers import Fault, Receivers
from services.alerting.channels_api import channel_routes
from shared.clock import system_clock
from shared.definition_error import DefinitionError
from shared.definitions import Outcome
from shared.http import new_api, service_app
from shared.keys import KeyRing, describe_key, new_key
from tests.integration.notifications.world import CHANNELS, World


@pytest_asyncio.fixture
async def admin(world: World) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the routes, with an admin key of the world's organisation."""
    key = new_key()
    ring = KeyRing([describe_key(key, organisation=world.organisation, scope="admin")])
    api = new_api("test", "alerting", "")
    async with world.delivery() as delivery:
        api.include_router(channel_routes(world.store, delivery.sender, system_clock, delivery.wake))
        app = service_app(api, keys=ring, needed=lambda *_: "admin", ready=lambda: None, registry=CollectorRegistry())
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(
            transport=transport, base_url="http://test/api/v1/admin/channels", headers={"X-API-Key": key}
        ) as client:
            yield client


async def test_channels_are_applied_shown_tested_and_removed(
    world: World, receivers: Receivers, admin: httpx.AsyncClient
) -> None:
    for channel in CHANNELS:
        spec = world.spec(channel)
        answers = [await admin.put(f"/{channel}", json=spec) for _ in range(2)]
        assert [(a.status_code, a.json()["status"]) for a in answers] == [(201, "created"), (200, "unchanged")]
        shown = (await admin.get(f"/{channel}")).json()
        assert shown["version"] == 1
        assert shown["spec"]["type"] == channel
        tested = await admin.post(f"/{channel}/test")
        assert tested.status_code == 200
        assert tested.json()["outcome"] == "delivered"
    everything = (await admin.get("")).text
    assert receivers.routing_key not in everything
    assert receivers.slack_url not in everything
    assert list(receivers.incidents().values()) == ["resolve"]
    assert [m.title for m in receivers.of("slack")] == ["Test message from Tidegate"]

    receivers.misbehave("slack", Fault("answer", 403, f"token {receivers.slack_url} is not allowed"))
    refused = (await admin.post("/slack/test")).json()
    assert refused["outcome"] == "permanent"
    assert refused["detail"] == "HTTP 403: token *** is not allowed"

    assert (await admin.delete("/slack")).status_code == 200
    assert (await admin.delete("/slack")).status_code == 404
    assert (await admin.post("/slack/test")).status_code == 404


BAD_SPECS: list[tuple[Any, str]] = [
    ({}, "spec.type"),
    ({"type": "slack", "url": "***"}, "spec.url"),
    ({"type": "slack", "url": "https://x/" + "a" * 1_000_000}, "spec.url"),
    ({"type": "slack", "url": "https://x", "chanel": "#a"}, "spec.chanel"),
    ({"type": "email", "host": "h", "port": 2**60}, "spec.port"),
    ({"type": "email", "host": "h", "from": "a@b", "to": ["a@b\r\nBcc: c@d"]}, "spec.to[0]"),
]


async def test_a_bad_spec_is_refused_with_its_place(admin: httpx.AsyncClient) -> None:
    for spec, place in BAD_SPECS:
        answer = await admin.put("/bad", json=spec)
        assert answer.status_code == 422, (spec, answer.text[:500])
        assert answer.json()["reason"] == "definition_invalid"
        assert answer.json()["place"] == place, (spec, answer.text[:500])
    assert (await admin.get("/bad")).status_code == 404


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b'{"type": NaN}',
        b'{"type": 1180591620717411303424}',
        b'{"type": "a\\u0000"}',
        b'{"type": "\\ud800"}',
        b'{"type": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"type": "slack", "\xff": 1}',
    ],
)
async def test_bad_json_never_is_our_fault(admin: httpx.AsyncClient, body: bytes) -> None:
    answer = await admin.put("/bad", content=body, headers={"Content-Type": "application/json"})
    assert 400 <= answer.status_code < 500
    for key in ("%00", "a%20b", "-a", "a" * 200):
        assert 400 <= (await admin.put(f"/{key}", json={"type": "slack", "url": "https://x"})).status_code < 500
        for method, path in (("GET", key), ("DELETE", key), ("POST", f"{key}/test")):
            assert 400 <= (await admin.request(method, f"/{path}")).status_code < 500


async def test_a_kept_secret_stays_and_moves_to_no_other_host(world: World) -> None:
    spec = world.spec("email") | {"username": "tidegate", "password": "correct horse"}
    assert await world.store.put(world.organisation, "mail", spec) == (Outcome.CREATED, 1)
    hidden = spec | {"password": "***"}
    assert await world.store.put(world.organisation, "mail", hidden) == (Outcome.UNCHANGED, 1)
    assert await world.store.put(world.organisation, "mail", hidden | {"to": ["a@b.example"]}) == (Outcome.CHANGED, 2)
    stored = await world.store.get(world.organisation, "mail")
    assert stored is not None
    assert stored.channel.secrets == ("correct horse",)
    assert stored.as_json()["spec"]["password"] == "***"
    with pytest.raises(DefinitionError, match="must be given again"):
        await world.store.put(world.organisation, "mail", hidden | {"host": "evil.example"})
