"""Trying intake rules over REST."""

from __future__ import annotations

from typing import Any, cast

import httpx
from prometheus_client import CollectorRegistry

from services.ingest.api import ingest_api
from services.ingest.quality.inspections import Inspections
from services.ingest.quality.intake_rule_api import ADMIN_PREFIX, intake_rule_routes, needed_scope
from services.ingest.quality.intake_rules import IntakeRules
from shared.http import service_app
from shared.keys import KeyRing, describe_key, new_key
from tests.unit.ingest.quality.rules import put_rules

NOW = 1_729_593_000_000_000


async def test_what_is_tried_while_the_rules_cannot_be_followed_is_not_shown_as_if_it_would_be_stored() -> None:
    inspections = Inspections()
    keys = put_rules(inspections, {"mail": {"hash": ["event_data.email"], "rotate": "day"}})
    keys.missing = True
    key, nothing = new_key(), cast(Any, None)
    routes = intake_rule_routes(nothing, nothing, inspections.of, IntakeRules(inspections).alone, lambda: NOW)
    app = service_app(
        ingest_api(routes),
        keys=KeyRing([describe_key(key, organisation="acme", scope="admin")]),
        needed=lambda method, path: needed_scope(path),
        ready=lambda: None,
        registry=CollectorRegistry(),
    )
    body = {"samples": [{"event_type": "a", "event_data": {"email": "ada@example.com", "plan": "pro"}}]}
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://i", headers={"X-API-Key": key}) as client:
        waiting = await client.post(f"{ADMIN_PREFIX}/test", json=body)
        keys.missing = False
        tried = await client.post(f"{ADMIN_PREFIX}/test", json=body)

    assert (waiting.status_code, waiting.json()["reason"]) == (503, "intake_rules_unavailable")
    (result,) = tried.json()["results"]
    assert result["event"]["properties"]["email"].startswith("h1_")
