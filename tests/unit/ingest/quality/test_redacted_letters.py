"""Dead letters keep no more than events: over HTTP, on topics in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from services.ingest.domain.quality.aside import Aside, SetAside, Verdict
from services.ingest.domain.quality.inspection import Stage
from services.ingest.domain.quality.schema import SchemaCheck, parse_schema
from shared.clock import DAY, HOUR, SECOND, to_iso
from shared.messages import Event
from shared.topics import DEAD_LETTERS
from tests.unit.ingest.compat import service as compat
from tests.unit.ingest.letter_client import get, post
from tests.unit.ingest.quality.rules import put_rules
from tests.unit.ingest.service import NOW, Service

MAIL = "ada@example.com"
RULES: dict[str, dict[str, Any]] = {
    "mail": {"hash": ["event_data.email"], "rotate": "month"},
    "phone": {"drop": ["event_data.phone", "user_id"]},
    "ip": {"truncate_ip": ["context.ip"]},
}
FAULTY = {
    "event_type": "signup",
    "event_timestamp": "1999-01-01T00:00:00Z",
    "user_id": "user-17",
    "email": MAIL,
    "event_data": {"email": MAIL, "phone": "555-0100", "plan": "pro"},
    "context": {"ip": "203.0.113.77"},
}


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    service = Service()
    async with service.client:
        yield service


async def refused(service: Service, body: Any) -> dict[str, Any]:
    assert (await service.one(body)).status_code == 422
    (letter,) = await service.shown(limit=1)
    return letter


async def test_a_letter_keeps_what_the_event_would_have_kept(service: Service) -> None:
    put_rules(service.inspections, RULES)

    letter = await refused(service, FAULTY)

    (stored,) = service.dead()
    for secret in (MAIL, "555-0100", "user-17", "203.0.113.77"):
        assert secret.encode() not in DEAD_LETTERS.encode(stored)
        assert secret.encode() not in stored.payload
    assert (letter["kept"], letter["reason"], letter["origin"]) == ("redacted", "timestamp_before_2000", "http")
    assert letter["payload"]["event_data"]["plan"] == "pro"
    assert letter["payload"]["context"] == {"ip": "203.0.113.0"}
    exported = await get(service, "/export")
    assert MAIL not in exported.text
    assert letter["payload"]["event_data"]["email"] in exported.text


async def test_a_corrected_letter_has_the_hash_that_the_event_would_have_had(service: Service) -> None:
    put_rules(service.inspections, RULES)
    letter = await refused(service, FAULTY)
    await service.one({**FAULTY, "event_timestamp": None})

    answer = await post(service, f"/{letter['id']}/replay", {"patch": {"event_timestamp": None}})

    assert answer.status_code == 202, answer.text
    sent, replayed = service.stored()
    assert replayed.properties == sent.properties
    assert sent.properties["email"].startswith("h1_")


async def test_a_letter_whose_senders_clock_was_wrong_has_the_right_time_and_keeps_it(service: Service) -> None:
    put_rules(service.inspections, RULES)
    event = {"event_type": "", "event_timestamp": to_iso(NOW + DAY - SECOND), "user_id": "u", "event_data": {"a": 1}}
    letter = await refused(service, {**event, "sent_at": to_iso(NOW + DAY)})
    service.clock += HOUR

    answer = await post(service, f"/{letter['id']}/replay", {"patch": {"event_type": "a"}})

    assert answer.status_code == 202, answer.text
    assert [event.time for event in service.stored()] == [NOW - SECOND]


async def test_what_a_correction_brings_in_is_redacted_too(service: Service) -> None:
    put_rules(service.inspections, RULES)
    letter = await refused(service, FAULTY)
    patch = {"event_timestamp": None, "event_data": {"email": "eve@example.com", "phone": "1"}}

    await post(service, f"/{letter['id']}/replay", {"patch": patch})

    (replayed,) = service.stored()
    assert replayed.properties["email"].startswith("h1_")
    assert replayed.properties["email"] != letter["payload"]["event_data"]["email"]
    assert "phone" not in replayed.properties


@pytest.mark.parametrize(
    "body",
    [b'{"event_type": 5, "note": "ada@example.com"}', b'{"event_type": "x", "note": "\\u0000ada"}'],
    ids=["read", "unread"],
)
async def test_what_cannot_be_read_is_withheld_and_its_size_is_told(service: Service, body: bytes) -> None:
    put_rules(service.inspections, RULES)

    letter = await refused(service, body)

    assert (letter["kept"], letter["payload_base64"]) == ("withheld", "")
    assert letter["detail"].startswith(f"{len(body)} bytes were received")
    assert b"ada" not in DEAD_LETTERS.encode(service.dead()[0])
    answer = await post(service, f"/{letter['id']}/replay", {"event": {"event_type": "given", "event_id": "1"}})
    assert answer.status_code == 202, answer.text


async def test_what_cannot_be_read_is_kept_if_every_rule_says_so(service: Service) -> None:
    keeping = {name: {**rule, "unreadable": "keep"} for name, rule in RULES.items()}
    put_rules(service.inspections, keeping)
    letter = await refused(service, {"event_type": 5})
    assert (letter["kept"], letter["payload"]) == ("as_sent", {"event_type": 5})

    put_rules(service.inspections, {**keeping, "one": {"drop": ["event_data.x"]}})
    assert (await refused(service, {"event_type": 5}))["kept"] == "withheld"


async def test_letters_of_event_types_without_rules_and_of_other_organisations_are_whole(service: Service) -> None:
    put_rules(service.inspections, {"mail": {**RULES["mail"], "event_types": ["login"]}})
    letter = await refused(service, FAULTY)

    assert (letter["kept"], letter["payload"]) == ("as_sent", FAULTY)


@pytest.mark.parametrize("event_type", ["", " ", "signup" * 40], ids=["none", "blank", "too long"])
async def test_all_rules_are_about_what_has_no_event_type(service: Service, event_type: str) -> None:
    put_rules(service.inspections, {"mail": {**RULES["mail"], "event_types": ["login"]}})

    letter = await refused(service, {**FAULTY, "event_type": event_type})

    assert letter["kept"] == "redacted"
    assert letter["payload"]["event_data"]["email"].startswith("h1_")


async def test_explanations_quote_nothing_that_is_hidden(service: Service) -> None:
    put_rules(service.inspections, RULES)

    def check(event: Event, received_at: int) -> Verdict:
        return SetAside(Aside.SCHEMA_MISMATCH, f"{event.properties['email']} is no number; {event.user_id} sent it")

    service.inspections.put("acme", Stage.SCHEMA, check)
    await service.one({**FAULTY, "event_timestamp": None})

    (letter,) = await service.shown()
    assert (letter["detail"], letter["kept"]) == ("… is no number; … sent it", "redacted")


async def test_other_products_messages_are_kept_as_events_and_replayed_as_such() -> None:
    service = compat.Service()
    put_rules(service.inspections, RULES)
    call = {
        "event": "Order",
        "userId": "user-17",
        "messageId": "m-1",
        "timestamp": "1999-01-01T00:00:00Z",
        "properties": {"email": MAIL, "total": 5},
        "integrations": {"mail": MAIL},
        "context": {"ip": "203.0.113.77", "traits": {"userId": "user-17"}},
    }
    async with service.client:
        await service.client.post("/v1/track", json=call, headers=compat.BASIC)

    (letter,) = [DEAD_LETTERS.decode(value) for _, value in service.letters.records()]
    assert (letter.kept, letter.origin) == ("redacted", "segment")
    for secret in (MAIL, "user-17", "203.0.113.77"):
        assert secret.encode() not in letter.payload

    desk = Service()
    desk.clock = compat.NOW
    put_rules(desk.inspections, RULES)
    async with desk.client:
        await desk.letters.append([(letter.id, DEAD_LETTERS.encode(letter))])
        (shown,) = await desk.shown()
        answer = await post(desk, f"/{shown['id']}/replay", {"patch": {"event_timestamp": None}})
    assert answer.status_code == 202, answer.text
    (event,) = desk.stored()
    assert (event.event_type, event.event_id, event.properties["total"]) == ("Order", "m-1", 5)
    assert event.properties["email"].encode() in letter.payload


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (MAIL, 'event_data.people.…: the value is not of type "object" (schema version 1)'),
        ('a "b" c', 'event_data.people.…: the value is not of type "object" (schema version 1)'),
        (MAIL * 20, "the explanation is long and may quote what rules of privacy withhold"),
    ],
)
async def test_a_warning_that_is_stored_quotes_nothing_that_is_removed(
    service: Service, name: str, said: str
) -> None:
    people = {"properties": {"people": {"additionalProperties": {"type": "object"}}}}
    schema = parse_schema("signup", {"mode": "warn", "versions": [{"version": 1, "schema": people}]})
    service.inspections.put("acme", Stage.SCHEMA, SchemaCheck({"signup": schema}))
    put_rules(service.inspections, {"people": {"drop": ["event_data.people"]}})

    answer = await service.one({"event_type": "signup", "event_data": {"people": {name: 1}}})

    (event,) = service.stored()
    assert (event.context["schemaWarning"], answer.json()["warning"]) == (said, said)
    assert event.properties == {}


async def test_an_event_with_more_values_to_hash_than_a_record_holds_is_refused_alone(service: Service) -> None:
    """Hashes are longer than what is hashed: Kafka would never take the record, nor its dead letter."""
    put_rules(service.inspections, RULES)
    many = {"event_type": "signup", "event_id": "many", "event_data": {"email": [1] * 80_000}}

    answer = await service.batch([many, {"event_type": "signup", "event_data": {"email": [MAIL] * 9_000}}])

    said = [(verdict["status"], verdict.get("reason")) for verdict in answer.json()["results"]]
    assert said == [("invalid", "event_too_large"), ("accepted", None)]
    ((_, record),) = service.events.records()
    assert len(record) < 512 * 1024
    (letter,) = service.dead()
    assert (letter.kept, letter.payload) == ("withheld", b"")


async def test_while_a_key_is_missing_or_a_rule_cannot_be_read_nothing_is_taken(service: Service) -> None:
    keys = put_rules(service.inspections, RULES)
    keys.missing = True
    waiting = await service.one({"event_type": "signup", "event_data": {"email": MAIL}})
    keys.missing = False
    put_rules(service.inspections, {"newer": {"encrypt": ["event_data.email"]}})
    unread = await service.one({"event_type": "signup", "event_data": {"email": MAIL}})
    put_rules(service.inspections, {"newer": {"encrypt": [], "enabled": False}, "mail": RULES["mail"]})
    batch = await service.batch([{"event_type": 5}])

    for answer in (waiting, unread, batch):
        assert (answer.status_code, answer.json()["reason"]) == (503, "intake_rules_unavailable")
        assert "Retry-After" in answer.headers
    assert (service.stored(), service.dead()) == ([], [])
