"""Events over HTTP in front of a log in memory: answers, verdicts, dead letters, refusals."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from aiokafka import ConsumerRecord
from prometheus_client import CollectorRegistry

from services.ingest.api import ingest_api
from services.ingest.dead_letters import SEARCHED_BYTES
from services.ingest.domain.normalise import MAX_EVENT_BYTES
from services.ingest.event_log import Cause
from services.ingest.http import BATCH_PATH, EVENT_PATH, EventRoutes, needed_scope
from services.ingest.intake import MAX_DEAD_LETTER_BYTES, Intake
from services.ingest.metrics import IngestMetrics
from shared.http import MAX_BODY, service_app
from shared.keys import KeyRing, describe_key, new_key
from shared.messages import DeadLetter, Event, Scope
from shared.topics import DEAD_LETTERS, EVENTS
from tests.unit.ingest.fakes import MemoryLog

NOW = 1_729_593_000_000_000
DEAD_LETTER_PATH = "/api/v1/streaming-analytics/dead-letters"
JSON = {"Content-Type": "application/json"}


class Service:
    """The whole HTTP application on logs in memory, and a client with an ingest key of organisation `acme`."""

    def __init__(self, events: MemoryLog | None = None) -> None:
        self.events = events or MemoryLog()
        self.letters = MemoryLog()
        self.registry = CollectorRegistry()
        ring = KeyRing()
        self.keys: dict[Scope, str] = {"ingest": new_key(), "read": new_key(), "admin": new_key()}
        for scope, key in self.keys.items():
            ring.learn(describe_key(key, organisation="acme", scope=scope))
        ids = iter(range(1_000_000))
        intake = Intake(
            events=self.events,
            letters=self.letters,
            clock=lambda: NOW,
            new_id=lambda: f"id-{next(ids)}",
            metrics=IngestMetrics(self.registry),
        )
        routes = EventRoutes(intake, ingest_api(self))
        app = service_app(routes, keys=ring, needed=needed_scope, ready=lambda: None, registry=self.registry)
        self.client = httpx.AsyncClient(
            transport=httpx.ASGITransport(app),
            base_url="http://ingest",
            headers={"X-API-Key": self.keys["ingest"]},
        )

    async def read(self, per_partition: int) -> list[ConsumerRecord]:
        """The dead letters as a consumer would find them on a topic with one partition."""
        values = [value for partition in self.letters.stored for _, value in partition]
        letters = sorted(values, key=lambda value: int(DEAD_LETTERS.decode(value).id.removeprefix("id-")))
        records = [
            ConsumerRecord(DEAD_LETTERS.name, 0, n, 0, 0, b"", value, None, 0, len(value), ())
            for n, value in enumerate(letters)
        ]
        return records[-per_partition:]

    async def one(self, body: Any, **headers: str) -> httpx.Response:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return await self.client.post(EVENT_PATH, content=content, headers={**JSON, **headers})

    async def batch(self, body: Any) -> httpx.Response:
        content = body if isinstance(body, bytes) else json.dumps({"events": body}).encode()
        return await self.client.post(BATCH_PATH, content=content, headers=JSON)

    async def shown(self, **query: Any) -> list[dict[str, Any]]:
        headers = {"X-API-Key": self.keys["read"]}
        answer = await self.client.get(DEAD_LETTER_PATH, params=query, headers=headers)
        assert answer.status_code == 200, answer.text
        items: list[dict[str, Any]] = answer.json()["items"]
        return items

    def stored(self) -> list[Event]:
        return [EVENTS.decode(value) for _, value in self.events.records()]

    def dead(self) -> list[DeadLetter]:
        return [DEAD_LETTERS.decode(value) for _, value in self.letters.records()]

    def metric(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(f"tidegate_ingest_{name}", labels)


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    service = Service()
    async with service.client:
        yield service


async def test_an_event_is_answered_with_its_id_once_it_is_stored(service: Service) -> None:
    answer = await service.one({"event_type": "user_action", "event_id": "e-1", "user_id": 5, "event_data": {"a": 1}})

    assert answer.status_code == 202
    assert answer.json() == {"event_id": "e-1", "status": "accepted"}
    (event,) = service.stored()
    assert (event.organisation, event.event_id, event.user_id) == ("acme", "e-1", "5")
    assert (event.time, event.received_at, event.properties) == (NOW, NOW, {"a": 1})
    assert service.metric("events_accepted_total") == 1


async def test_an_event_without_an_id_gets_one_in_the_answer(service: Service) -> None:
    answer = await service.one({"event_type": "user_action"})

    assert answer.json()["event_id"] == service.stored()[0].event_id


async def test_client_headers_go_into_the_context_and_the_bodys_context_wins(service: Service) -> None:
    body = {"event_type": "a", "context": {"networkType": "cellular"}}

    await service.one(body, **{"X-App-Version": "3.1", "X-Network-Type": "wifi", "User-Agent": "app"})

    assert service.stored()[0].context == {"appVersion": "3.1", "networkType": "cellular", "userAgent": "app"}


async def test_an_invalid_event_is_refused_with_its_reason_and_kept_as_it_came(service: Service) -> None:
    raw = b'{"event_type": "", "event_id": "e-1", "organisation": "else"}'

    answer = await service.one(raw)

    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert (answer.json()["reason"], answer.json()["event_id"]) == ("event_type_empty", "e-1")
    (letter,) = service.dead()
    assert (letter.organisation, letter.reason, letter.origin) == ("acme", "event_type_empty", "http")
    assert (letter.payload, letter.received_at) == (raw, NOW)
    assert service.stored() == []
    assert service.metric("events_invalid_total", reason="event_type_empty") == 1
    assert service.metric("dead_letters_total") == 1


async def test_each_event_of_a_batch_gets_its_own_verdict_in_order(service: Service) -> None:
    answer = await service.batch(
        [
            {"event_type": "a", "event_id": "e-0"},
            {"event_type": 5, "event_id": "e-1"},
            {"event_type": "b", "event_id": "e-2", "event_timestamp": "1970-01-01T00:00:00Z"},
            None,
            {"event_type": "c", "event_id": "e-4"},
        ]
    )

    assert answer.status_code == 202
    assert answer.json()["accepted"] == 2
    results = answer.json()["results"]
    assert [(r["event_id"], r["status"], r.get("reason")) for r in results] == [
        ("e-0", "accepted", None),
        ("e-1", "invalid", "schema_violation"),
        ("e-2", "invalid", "timestamp_before_2000"),
        (None, "invalid", "schema_violation"),
        ("e-4", "accepted", None),
    ]
    assert sorted(event.event_id for event in service.stored()) == ["e-0", "e-4"]
    assert len(service.dead()) == 3
    assert b"null" in [letter.payload for letter in service.dead()]


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (b'{"event_type":"a","event_data":{"x":"\\ud800"}}', "lone_surrogate"),
        (b'{"event_type":"a\\u0000"}', "nul_character"),
        (b'{"event_type":"a","event_data":{"x":1e400}}', "non_finite_number"),
        (b'{"event_type":"a","event_data":{"x":1180591620717411303424}}', "integer_out_of_range"),
        (b'{"event_type":"a","event_data":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "too_deep"),
        (b'{"event_type":"a","event_data":{"x":"' + b"y" * 1_000_000 + b'"}}', "event_too_large"),
        (b"[1]", "schema_violation"),
    ],
    ids=["surrogate", "NUL", "1e400", "2^70", "deep", "1 MB", "list"],
)
async def test_a_hostile_event_spoils_only_itself(service: Service, bad: bytes, reason: str) -> None:
    good = b'{"event_type":"a","event_id":"good"}'

    answer = await service.batch(b'{"events":[' + good + b"," + bad + b"," + good + b"]}")

    assert answer.status_code == 202
    assert [r["status"] for r in answer.json()["results"]] == ["accepted", "invalid", "accepted"]
    assert answer.json()["results"][1]["reason"] == reason
    assert len(service.stored()) == 2
    (letter,) = service.dead()
    assert letter.payload == bad[:MAX_DEAD_LETTER_BYTES]

    alone = await service.one(bad)
    assert (alone.status_code, alone.json()["reason"]) == (422, reason)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"nonsense",
        b'{"event_type":"a"',
        b'{"event_type":"a"}{"event_type":"b"}',
        b'{"event_type":NaN}',
        b"\xff\xfe",
    ],
    ids=["empty", "nonsense", "truncated", "two documents", "NaN", "no UTF-8"],
)
async def test_what_is_no_json_is_refused_and_not_kept(service: Service, body: bytes) -> None:
    for answer in (await service.one(body), await service.batch(body)):
        assert (answer.status_code, answer.json()["reason"]) == (400, "malformed_json")
    inside = await service.batch(b'{"events":[{"event_type":"a"},' + body + b"]}")
    assert (inside.status_code, inside.json()["reason"]) == (400, "malformed_json")
    assert service.stored() == []
    assert service.dead() == []


async def test_invalid_bytes_in_one_event_make_the_whole_body_no_json(service: Service) -> None:
    answer = await service.batch(b'{"events":[{"event_type":"a"},{"event_type":"\xff"}]}')

    assert (answer.status_code, answer.json()["reason"]) == (400, "malformed_json")
    assert service.stored() == []


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b'{"events":[]}', "batch_empty"),
        (b'{"events":{}}', "schema_violation"),
        (b"[]", "schema_violation"),
        (b"null", "schema_violation"),
        (b'{"events":[' + b"1," * 10_000 + b"1]}", "batch_too_long"),
    ],
)
async def test_what_is_no_batch_is_refused_as_a_whole(service: Service, body: bytes, reason: str) -> None:
    answer = await service.batch(body)

    assert (answer.status_code, answer.json()["reason"]) == (422, reason)
    assert service.dead() == []


async def test_a_batch_without_any_valid_event_is_refused_with_all_verdicts(service: Service) -> None:
    answer = await service.batch([{"event_type": ""}, {"event_type": "", "event_id": "e-1"}])

    assert answer.status_code == 422
    problem = answer.json()
    assert (problem["reason"], problem["accepted"]) == ("no_event_accepted", 0)
    assert [r["event_id"] for r in problem["results"]] == [None, "e-1"]
    assert len(service.dead()) == 2


@pytest.mark.parametrize(
    ("cause", "reason"),
    [
        (Cause.FULL, "overloaded"),
        (Cause.STALE, "overloaded"),
        (Cause.DEADLINE, "not_confirmed"),
        (Cause.PRODUCER, "not_confirmed"),
        (Cause.STOPPING, "not_confirmed"),
    ],
)
async def test_what_kafka_does_not_take_is_to_be_sent_again(service: Service, cause: Cause, reason: str) -> None:
    service.events.refuses = cause

    for answer in (await service.one({"event_type": "a"}), await service.batch([{"event_type": "a"}])):
        assert (answer.status_code, answer.json()["reason"]) == (503, reason)
        assert int(answer.headers["retry-after"]) >= 1
    assert service.metric("events_accepted_total") == 0


async def test_an_invalid_event_that_cannot_be_kept_is_to_be_sent_again(service: Service) -> None:
    service.letters.refuses = Cause.DEADLINE

    assert (await service.one({"event_type": ""})).status_code == 503
    assert (await service.batch([{"event_type": "a"}, {"event_type": ""}])).status_code == 503
    assert (await service.one({"event_type": "a"})).status_code == 202


@pytest.mark.parametrize(
    ("headers", "status", "reason"),
    [
        ({"X-API-Key": ""}, 401, "key_missing"),
        ({"X-API-Key": "wrong"}, 401, "key_unknown"),
        ({"X-API-Key": "tg_0000000000_" + "0" * 48}, 401, "key_unknown"),
        ({"Content-Encoding": "gzip"}, 415, "unsupported_content_encoding"),
        ({"Content-Type": "application/x-www-form-urlencoded"}, 415, "unsupported_media_type"),
    ],
)
async def test_headers_that_cannot_be_honoured_are_refused(
    service: Service, headers: dict[str, str], status: int, reason: str
) -> None:
    answer = await service.one({"event_type": "a"}, **headers)

    assert (answer.status_code, answer.json()["reason"]) == (status, reason)
    assert service.stored() == []


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "application/json; charset=utf-8"},
        {"Content-Type": "application/cloudevents+json"},
        {"Content-Type": ""},
        {"Content-Encoding": "identity"},
    ],
)
async def test_every_kind_of_json_is_taken(service: Service, headers: dict[str, str]) -> None:
    assert (await service.one({"event_type": "a"}, **headers)).status_code == 202


async def test_a_read_key_cannot_send_and_an_ingest_key_cannot_look(service: Service) -> None:
    sent = await service.one({"event_type": "a"}, **{"X-API-Key": service.keys["read"]})
    looked = await service.client.get(DEAD_LETTER_PATH)

    assert (sent.status_code, sent.json()["reason"]) == (403, "scope_insufficient")
    assert looked.status_code == 403
    by_admin = await service.one({"event_type": "a"}, **{"X-API-Key": service.keys["admin"]})
    assert by_admin.status_code == 202


async def test_a_body_above_the_limit_is_refused(service: Service) -> None:
    answer = await service.one(b" " * (MAX_BODY + 1))

    assert (answer.status_code, answer.json()["reason"]) == (413, "body_too_large")


async def test_only_post_sends_events(service: Service) -> None:
    for method in ("GET", "PUT", "DELETE"):
        answer = await service.client.request(method, EVENT_PATH)
        assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


async def test_the_answer_waits_for_the_log() -> None:
    confirmed = asyncio.Event()

    class Slow(MemoryLog):
        async def append(self, records: Any) -> None:
            await confirmed.wait()
            await super().append(records)

    service = Service(Slow())
    async with service.client:
        request = asyncio.create_task(service.one({"event_type": "a"}))
        done, _ = await asyncio.wait([request], timeout=0.05)
        assert not done
        confirmed.set()
        assert (await request).status_code == 202


async def test_dead_letters_are_shown_newest_first_and_only_to_their_organisation(service: Service) -> None:
    foreign = DeadLetter(
        id="id-500000",
        organisation="else",
        reason="nul_character",
        detail="",
        origin="http",
        received_at=NOW,
        payload=b"1",
    )
    await service.one({"event_type": "", "n": 1})
    await service.one(b'{"event_type": "\\ud800"}')
    await service.letters.append([(foreign.id, DEAD_LETTERS.encode(foreign))])

    items = await service.shown()

    assert [item["reason"] for item in items] == ["lone_surrogate", "event_type_empty"]
    assert items[1]["payload"] == {"event_type": "", "n": 1}
    assert "payload_base64" not in items[1]
    assert items[0]["payload_base64"] == "eyJldmVudF90eXBlIjogIlx1ZDgwMCJ9"
    assert items[0]["received_at"] == "2024-10-22T10:30:00Z"


async def test_dead_letters_are_found_by_reason_behind_many_others(service: Service) -> None:
    await service.one(b'{"event_type": "a\\u0000"}')
    for n in range(30):
        await service.one({"event_type": "", "n": n})

    assert [item["reason"] for item in await service.shown(limit=1, reason="nul_character")] == ["nul_character"]
    assert [item["payload"]["n"] for item in await service.shown(limit=2)] == [29, 28]
    assert await service.shown(reason="unheard_of") == []


async def test_large_dead_letters_are_shown_only_as_far_as_memory_allows(service: Service) -> None:
    sent = 2 * SEARCHED_BYTES // MAX_DEAD_LETTER_BYTES
    for n in range(sent):
        letter = DeadLetter(
            id=f"id-{n}",
            organisation="acme",
            reason="too_deep",
            detail="",
            origin="http",
            received_at=NOW,
            payload=b"[" * MAX_DEAD_LETTER_BYTES,
        )
        await service.letters.append([(letter.id, DEAD_LETTERS.encode(letter))])

    shown = await service.shown(limit=10_000)

    assert [item["id"] for item in shown] == [f"id-{sent - 1 - n}" for n in range(len(shown))]
    assert SEARCHED_BYTES / 2 < sum(len(item["payload_base64"]) for item in shown) <= SEARCHED_BYTES


@pytest.mark.parametrize("limit", ["0", "-1", "10001", "many"])
async def test_a_limit_out_of_range_is_refused(service: Service, limit: str) -> None:
    answer = await service.client.get(
        DEAD_LETTER_PATH, params={"limit": limit}, headers={"X-API-Key": service.keys["read"]}
    )

    assert (answer.status_code, answer.json()["reason"]) == (422, "schema_violation")


async def test_a_dead_letter_never_outgrows_its_topic(service: Service) -> None:
    await service.one(b'{"event_type":"a","event_data":{"x":"' + b"\xc3\xbc" * MAX_EVENT_BYTES + b'"}}')

    (letter,) = service.dead()
    assert len(letter.payload) == MAX_DEAD_LETTER_BYTES
    assert "first" in letter.detail
    assert len(DEAD_LETTERS.encode(letter)) < int(DEAD_LETTERS.config["max.message.bytes"])
    assert "payload_base64" in (await service.shown())[0]


async def test_the_schema_describes_the_hot_path_too(service: Service) -> None:
    answer = await service.client.get("/api/v1/openapi/ingest.json", headers={"X-API-Key": ""})

    assert answer.status_code == 200
    schema = answer.json()
    assert schema["openapi"].startswith("3.0"), "the documentation's page shows no other"
    assert set(schema["paths"]) == {EVENT_PATH, BATCH_PATH, DEAD_LETTER_PATH}
    references = {part.split('"')[0] for part in answer.text.split('"$ref":"#/components/schemas/')[1:]}
    assert references
    assert references <= set(schema["components"]["schemas"])
    assert schema["paths"][EVENT_PATH]["post"]["requestBody"]["content"]["application/json"]["schema"]
