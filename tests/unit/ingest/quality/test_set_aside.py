"""Events that only their organisation's rules keep away, on every way in: the sender hears that all is well."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest

from services.ingest.domain.quality.aside import Aside, SetAside, Verdict
from services.ingest.domain.quality.inspection import Stage
from services.ingest.domain.quality.schema import SchemaCheck, parse_schema
from services.ingest.quality.inspections import Inspections
from shared.messages import Event
from tests.unit.ingest.compat.service import KEY
from tests.unit.ingest.compat.service import Service as CompatibleService
from tests.unit.ingest.letter_client import get, listed, post
from tests.unit.ingest.service import Service

MISMATCH = 'event_data: "n" is a required property (schema version 1)'


def _no_robots(event: Event, received_at: int) -> Verdict:
    return SetAside(Aside.BOT, "a robot sent it", event.event_id) if event.user_id == "robot" else event


def _apply(inspections: Inspections) -> None:
    """Three event types, called as their modes are."""
    schemas = {
        mode: parse_schema(mode, {"mode": mode, "versions": [{"version": 1, "schema": {"required": ["n"]}}]})
        for mode in ("warn", "quarantine", "reject")
    }
    inspections.put("acme", Stage.SCHEMA, SchemaCheck(schemas))
    inspections.put("acme", Stage.BOTS, _no_robots)


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    service = Service()
    _apply(service.inspections)
    async with service.client:
        yield service


@pytest.fixture
async def compatible() -> AsyncIterator[CompatibleService]:
    service = CompatibleService()
    _apply(service.inspections)
    async with service.client:
        yield service


async def test_a_single_event_is_answered_by_its_schemas_mode(service: Service) -> None:
    warned = await service.one({"event_type": "warn", "event_id": "e-1"})
    quarantined = await service.one({"event_type": "quarantine", "event_id": "e-2"})
    rejected = await service.one({"event_type": "reject", "event_id": "e-3"})
    dropped = await service.one({"event_type": "warn", "event_id": "e-4", "user_id": "robot"})

    assert (warned.status_code, warned.json()) == (
        202,
        {"event_id": "e-1", "status": "accepted", "warning": MISMATCH},
    )
    verdict = {"event_id": "e-2", "status": "quarantined", "reason": "schema_mismatch", "detail": MISMATCH}
    assert (quarantined.status_code, quarantined.json()) == (202, verdict)
    assert (rejected.status_code, rejected.json()["reason"]) == (422, "schema_mismatch")
    verdict = {"event_id": "e-4", "status": "dropped", "reason": "bot", "detail": "a robot sent it"}
    assert (dropped.status_code, dropped.json()) == (202, verdict)

    assert [event.event_id for event in service.stored()] == ["e-1"]
    assert [(letter.reason, letter.detail) for letter in service.dead()] == [("schema_mismatch", MISMATCH)] * 2
    assert json.loads(service.dead()[0].payload)["event_id"] == "e-2"


async def test_a_batch_counts_what_is_stored(service: Service) -> None:
    fits = {"event_type": "quarantine", "event_data": {"n": 1}}
    answer = await service.batch(
        [fits, {"event_type": "quarantine"}, {"event_type": "warn"}, {"event_type": "reject"}]
    )
    assert (answer.status_code, answer.json()["accepted"]) == (202, 2)
    statuses = [result["status"] for result in answer.json()["results"]]
    assert statuses == ["accepted", "quarantined", "accepted", "invalid"]


async def test_a_batch_of_which_nothing_is_stored_is_refused_only_if_all_of_it_is_invalid(service: Service) -> None:
    for kind in ("batch", "lines"):
        for other, status in (("quarantine", 202), ("reject", 422)):
            events = [{"event_type": "reject"}, {"event_type": other}]
            if kind == "batch":
                answer = await service.batch(events)
            else:
                answer = await service.lines(b"\n".join(json.dumps(event).encode() for event in events))
            assert (answer.status_code, answer.json()["accepted"]) == (status, 0), (kind, other)


async def test_lines_add_up(service: Service) -> None:
    types = ["warn", "quarantine", "reject", "else"]
    answer = await service.lines(b"".join(b'{"event_type":"%s"}\n' % name.encode() for name in types))
    counts = {name: answer.json()[name] for name in ("accepted", "invalid", "set_aside")}
    assert counts == {"accepted": 2, "invalid": 1, "set_aside": 1}
    assert [result["status"] for result in answer.json()["results"]] == [
        "accepted",
        "quarantined",
        "invalid",
        "accepted",
    ]


async def test_everything_is_counted_once(service: Service) -> None:
    await service.batch([{"event_type": name} for name in ("warn", "quarantine", "reject", "else")])
    await service.one({"event_type": "else", "user_id": "robot"})
    for mode in ("warn", "quarantine", "reject"):
        assert service.metric("schema_violations_total", mode=mode) == 1, mode
    assert service.metric("events_set_aside_total", reason="schema_mismatch") == 1
    assert service.metric("events_set_aside_total", reason="bot") == 1
    assert service.metric("events_invalid_total", reason="schema_mismatch") == 1
    assert service.metric("events_accepted_total") == 2
    assert service.metric("dead_letters_total") == 2


async def test_a_quarantined_event_is_replayed_once_it_fits(service: Service) -> None:
    await service.one({"event_type": "quarantine", "event_id": "e-1"})
    letter = (await listed(service, limit=1))["items"][0]["id"]

    still = await post(service, f"/{letter}/replay", {"patch": {"event_data": {"m": 1}}})
    state = (await get(service, f"/{letter}")).json()["state"]
    many = await post(service, "/replay", {"filter": {"reason": "schema_mismatch"}})
    fits = await post(service, f"/{letter}/replay", {"patch": {"event_data": {"n": 1}}})

    assert (still.status_code, still.json()["reason"], state) == (422, "schema_mismatch", "open")
    assert many.json()["invalid"] == {"schema_mismatch": 1}
    assert (fits.status_code, fits.json()["event_id"]) == (202, "e-1")
    assert [(event.event_id, event.properties) for event in service.stored()] == [("e-1", {"n": 1})]
    assert len(service.dead()) == 1


async def test_an_organisation_without_rules_is_not_inspected(service: Service) -> None:
    service.inspections.put("acme", Stage.SCHEMA, None)
    dropped = await service.one({"event_type": "reject", "user_id": "robot"})
    service.inspections.put("acme", Stage.BOTS, None)
    accepted = await service.one({"event_type": "reject", "user_id": "robot"})
    assert (dropped.json()["status"], accepted.json()["status"]) == ("dropped", "accepted")
    assert service.inspections.of("acme") is None


async def test_clients_of_other_products_send_nothing_again(compatible: CompatibleService) -> None:
    message = {"userId": "u", "event": "quarantine"}
    segment = await compatible.send("/v1/track", {**message, "writeKey": KEY})
    batch = await compatible.send("/v1/batch", {"writeKey": KEY, "batch": [{**message, "type": "track"}]})
    event = {"event": "quarantine", "distinct_id": "u", "uuid": "0190a0de-0000-7000-8000-000000000001"}
    posthog = await compatible.send("/capture", {**event, "api_key": KEY})
    newer = await compatible.send("/i/v1/analytics/events", {"api_key": KEY, "batch": [event]})

    assert [answer.status_code for answer in (segment, batch, posthog, newer)] == [200] * 4
    assert (segment.json(), batch.json(), posthog.json()) == ({"success": True}, {"success": True}, {"status": 1})
    assert newer.json() == {"results": {event["uuid"]: {"result": "ok"}}}
    assert compatible.stored() == []
    assert {letter.reason for letter in compatible.dead()} == {"schema_mismatch"}
    assert len(compatible.dead()) == 4


async def test_clients_of_other_products_hear_of_what_is_rejected(compatible: CompatibleService) -> None:
    answer = await compatible.send("/v1/track", {"userId": "u", "event": "reject", "writeKey": KEY})
    assert (answer.status_code, answer.json()["reason"]) == (422, "schema_mismatch")
