"""Schemas over REST, on definitions in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry

from services.ingest.api import ingest_api
from services.ingest.domain.quality.schema import parse_schema
from services.ingest.quality.schema_api import ADMIN_PREFIX, HISTORY_PREFIX, needed_scope, schema_routes
from services.ingest.quality.schema_history import Past
from shared.definitions import Outcome, Stored
from shared.http import service_app
from shared.keys import KeyRing, describe_key, new_key
from shared.messages import Scope

NOW = 1_729_593_000_000_000
SPEC = {"mode": "reject", "versions": [{"version": 1, "schema": {"required": ["n"]}}]}
MISMATCH = 'event_data: "n" is a required property (schema version 1)'


class Memory:
    """Definitions and what they have been; `removed` stands as in Postgres."""

    def __init__(self) -> None:
        self._past: dict[tuple[str, str], list[dict[str, Any]]] = {}

    async def put(self, organisation: str, key: str, spec: object) -> tuple[Outcome, int]:
        parse_schema(key, spec)
        assert isinstance(spec, dict)
        present = await self.get(organisation, key)
        past = self._past.setdefault((organisation, key), [])
        if present is not None and present.spec == spec:
            return Outcome.UNCHANGED, len(past)
        past.append(spec)
        return (Outcome.CREATED if present is None else Outcome.CHANGED), len(past)

    async def get(self, organisation: str, key: str) -> Stored | None:
        past = self._past.get((organisation, key), [])
        if not past or past[-1] == {"removed": True}:
            return None
        return Stored(organisation, key, len(past), past[-1])

    async def all(self, organisation: str) -> Sequence[Stored]:
        found = [await self.get(organisation, key) for owner, key in sorted(self._past) if owner == organisation]
        return [stored for stored in found if stored is not None]

    async def remove(self, organisation: str, key: str) -> bool:
        if await self.get(organisation, key) is None:
            return False
        self._past[organisation, key].append({"removed": True})
        return True

    async def of(self, organisation: str, event_type: str, *, limit: int, below: int | None) -> Sequence[Past]:
        numbered = enumerate(self._past.get((organisation, event_type), []), 1)
        at = datetime(2026, 1, 2, tzinfo=UTC)
        found = [Past(version, spec, at) for version, spec in numbered if below is None or version < below]
        return found[::-1][:limit]


class Api:
    def __init__(self) -> None:
        memory = Memory()
        keys: dict[Scope, str] = {"ingest": new_key(), "read": new_key(), "admin": new_key()}
        ring = KeyRing([describe_key(key, organisation="acme", scope=scope) for scope, key in keys.items()])
        app = service_app(
            ingest_api(schema_routes(memory, memory, lambda: NOW)),
            keys=ring,
            needed=lambda method, path: needed_scope(path),
            ready=lambda: None,
            registry=CollectorRegistry(),
        )
        self.clients = {
            scope: httpx.AsyncClient(
                transport=httpx.ASGITransport(app), base_url="http://ingest", headers={"X-API-Key": key}
            )
            for scope, key in keys.items()
        }

    async def ask(self, method: str, path: str, body: object = None, scope: Scope = "admin") -> httpx.Response:
        return await self.clients[scope].request(method, ADMIN_PREFIX + path, json=body)

    async def past(self, path: str, scope: Scope = "admin") -> httpx.Response:
        return await self.clients[scope].get(HISTORY_PREFIX + path)


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    api = Api()
    yield api
    for client in api.clients.values():
        await client.aclose()


async def test_a_schema_is_put_shown_listed_and_removed(api: Api) -> None:
    puts = [await api.ask("PUT", "/order", SPEC), await api.ask("PUT", "/order", SPEC)]
    puts.append(await api.ask("PUT", "/order", {**SPEC, "mode": "warn"}))
    assert [(put.status_code, put.json()["status"], put.json()["version"]) for put in puts] == [
        (201, "created", 1),
        (200, "unchanged", 1),
        (200, "changed", 2),
    ]
    shown = (await api.ask("GET", "/order")).json()
    assert shown == {"key": "order", "version": 2, "spec": {**SPEC, "mode": "warn"}}
    assert (await api.ask("GET", "")).json() == [shown]

    assert (await api.ask("DELETE", "/order")).json() == {"key": "order", "status": "removed"}
    for method in ("GET", "DELETE"):
        gone = await api.ask(method, "/order")
        assert (gone.status_code, gone.json()["reason"]) == (404, "schema_unknown")
    assert (await api.ask("GET", "")).json() == []
    assert (await api.ask("PUT", "/order", SPEC)).status_code == 201


async def test_an_event_type_may_hold_slashes(api: Api) -> None:
    assert (await api.ask("PUT", "/page%2Fview", SPEC)).json()["key"] == "page/view"
    assert (await api.ask("GET", "/page%2Fview")).json()["key"] == "page/view"
    assert (await api.past("/page%2Fview")).json()["history"][0]["version"] == 1


async def test_the_history_goes_back_page_by_page(api: Api) -> None:
    for mode in ("warn", "quarantine", "reject"):
        await api.ask("PUT", "/order", {**SPEC, "mode": mode})
    await api.ask("DELETE", "/order")

    first = (await api.past("/order?limit=2")).json()
    second = (await api.past(f"/order?limit=2&below={first['next_below']}")).json()
    shown = [
        (past["version"], past["spec"] and past["spec"]["mode"]) for past in [*first["history"], *second["history"]]
    ]
    assert shown == [(4, None), (3, "reject"), (2, "quarantine"), (1, "warn")]
    assert first["history"][0]["stored_at"] == "2026-01-02T00:00:00Z"
    assert second["next_below"] is None
    assert (await api.past("/other")).status_code == 404


async def test_samples_are_judged_and_nothing_is_stored(api: Api) -> None:
    samples = [
        {"event_data": {"n": 1}},
        {},
        {"event_timestamp": "1999-01-01T00:00:00Z"},
        {"event_data": {"n": 1}, "context": {"schemaVersion": 2}},
    ]
    tried = await api.ask("POST", "/test", {"event_type": "order", "spec": SPEC, "samples": samples})
    assert tried.json()["results"] == [
        {"status": "accepted"},
        {"status": "invalid", "reason": "schema_mismatch", "detail": MISMATCH},
        {
            "status": "invalid",
            "reason": "timestamp_before_2000",
            "detail": "event_timestamp 1999-01-01T00:00:00Z is before 2000",
        },
        {
            "status": "invalid",
            "reason": "schema_mismatch",
            "detail": "context.schemaVersion names no version of the schema; there are 1",
        },
    ]
    assert (await api.ask("GET", "")).json() == []


async def test_without_a_spec_samples_are_judged_by_the_schema_in_force(api: Api) -> None:
    body = {"event_type": "order", "samples": [{"event_type": "another", "event_data": {}}]}
    unknown = await api.ask("POST", "/test", body)
    assert (unknown.status_code, unknown.json()["reason"]) == (404, "schema_unknown")
    for mode, result in (
        ("warn", {"status": "accepted", "warning": MISMATCH}),
        ("quarantine", {"status": "quarantined", "reason": "schema_mismatch", "detail": MISMATCH}),
    ):
        await api.ask("PUT", "/order", {**SPEC, "mode": mode})
        assert (await api.ask("POST", "/test", body)).json()["results"] == [result]


@pytest.mark.parametrize("method", ["PUT", "POST"])
async def test_a_faulty_schema_is_refused_with_its_place(api: Api, method: str) -> None:
    broken = {"mode": "warn", "versions": [{"version": 1, "schema": {"properties": {"a": {"type": "strng"}}}}]}
    if method == "PUT":
        answer = await api.ask("PUT", "/order", broken)
    else:
        answer = await api.ask("POST", "/test", {"event_type": "order", "spec": broken, "samples": [{}]})
    assert (answer.status_code, answer.json()["reason"]) == (422, "definition_invalid")
    assert answer.json()["place"] == "spec.versions[0].schema.properties.a.type"


@pytest.mark.parametrize("body", [[], 5, "x", None], ids=str)
async def test_a_body_that_is_no_schema_is_a_fault_of_the_client(api: Api, body: object) -> None:
    assert (await api.ask("PUT", "/order", body)).status_code in (400, 422)
    assert (await api.ask("POST", "/test", body)).status_code in (400, 422)


async def test_all_of_it_takes_an_admin_key(api: Api) -> None:
    for scope in ("ingest", "read"):
        for method, path in (
            ("GET", ""),
            ("GET", "/order"),
            ("PUT", "/order"),
            ("DELETE", "/order"),
            ("POST", "/test"),
        ):
            answer = await api.clients[scope].request(method, ADMIN_PREFIX + path)
            assert answer.status_code == 403, (scope, method, path)
        assert (await api.past("/order", scope)).status_code == 403
