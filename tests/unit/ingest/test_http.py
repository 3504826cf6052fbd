"""Events over HTTP in front of a log in memory: answers, verdicts, dead letters, refusals."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from typing import Any

import pytest

from services.ingest.domain.normalise import MAX_EVENT_BYTES
from services.ingest.event_log import Cause
from services.ingest.http import BATCH_PATH, EVENT_PATH, PREDICTION_PATH
from services.ingest.intake import MAX_DEAD_LETTER_BYTES
from shared.http import MAX_BODY
from shared.messages import Event
from shared.topics import DEAD_LETTERS
from tests.unit.ingest.fakes import MemoryLog
from tests.unit.ingest.service import DEAD_LETTER_PATH, NOW, Service


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


async def test_others_are_served_while_a_body_of_brackets_is_taken_apart(service: Service) -> None:
    body = b'{"events":[' + b"[]" * 400_000
    hostile = asyncio.create_task(service.client.post(BATCH_PATH, content=body))
    served = 0
    while not hostile.done():
        assert (await service.one({"event_type": "a"})).status_code == 202
        served += 1

    assert (await hostile).status_code == 400
    assert served >= 10


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
        ({"Content-Encoding": "compress"}, 415, "unsupported_content_encoding"),
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


async def test_of_a_batch_that_waits_for_the_log_only_the_records_are_held() -> None:
    held: list[int] = []

    class Looking(MemoryLog):
        async def append(self, records: Any) -> None:
            held.append(sum(type(one) is Event and one.event_type == "held" for one in gc.get_objects()))
            await super().append(records)

    service = Service(Looking())
    event = {"event_type": "held", "event_data": {"list": [[1]]}}  # only what holds containers can be looked for
    async with service.client:
        answer = await service.batch([event] * 3)
        await service.one(event)
    assert answer.json()["accepted"] == 3
    assert held == [0, 1]


async def test_a_dead_letter_never_outgrows_its_topic(service: Service) -> None:
    await service.one(b'{"event_type":"a","event_data":{"x":"' + b"\xc3\xbc" * MAX_EVENT_BYTES + b'"}}')

    (letter,) = service.dead()
    assert len(letter.payload) == MAX_DEAD_LETTER_BYTES
    assert "first" in letter.detail
    assert len(DEAD_LETTERS.encode(letter)) < int(DEAD_LETTERS.config["max.message.bytes"])
    assert "payload_base64" in (await service.shown())[0]


async def test_the_schema_tells_how_each_operation_may_refuse(service: Service) -> None:
    schema = (await service.client.get("/api/v1/openapi/ingest.json")).json()

    for path, operations in schema["paths"].items():
        for method, operation in operations.items():
            answers = operation["responses"]
            wanted = {"400", "401", "403", "503"}
            wanted |= {"404"} if "{" in path else set()
            wanted |= {"413", "422"} if "requestBody" in operation else set()
            assert wanted <= answers.keys(), (method, path)
            for status in (status for status in answers if status >= "400"):
                (kind,) = answers[status]["content"].values()
                assert list(answers[status]["content"]) == ["application/problem+json"], (method, path, status)
                assert kind["schema"] == {"$ref": "#/components/schemas/ProblemDetails"}
    assert not {"HTTPValidationError", "ValidationError"} & schema["components"]["schemas"].keys()


async def test_the_schema_describes_the_hot_path_too(service: Service) -> None:
    answer = await service.client.get("/api/v1/openapi/ingest.json", headers={"X-API-Key": ""})

    assert answer.status_code == 200
    schema = answer.json()
    assert schema["openapi"].startswith("3.0"), "the documentation's page shows no other"
    assert {EVENT_PATH, BATCH_PATH, PREDICTION_PATH, DEAD_LETTER_PATH} <= set(schema["paths"])
    references = {part.split('"')[0] for part in answer.text.split('"$ref":"#/components/schemas/')[1:]}
    assert references
    assert references <= set(schema["components"]["schemas"])
    assert schema["paths"][EVENT_PATH]["post"]["requestBody"]["content"]["application/json"]["schema"]
