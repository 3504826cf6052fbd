"""What may come between an event and its bytes: encodings, keys for resends, and all of it damaged."""

from __future__ import annotations

import gzip
import json
from collections.abc import AsyncIterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.ingest.domain.content_encoding import Coding
from services.ingest.http import BATCH_PATH, EVENT_PATH
from shared.http import MAX_BODY
from tests.unit.ingest.encodings import ENCODINGS, Encode
from tests.unit.ingest.service import JSON, NDJSON, Service


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    service = Service()
    async with service.client:
        yield service


@pytest.mark.parametrize("encoding", ENCODINGS)
async def test_single_events_and_batches_are_taken_in_every_encoding(service: Service, encoding: str) -> None:
    coding, encode = ENCODINGS[encoding]
    many = [{"event_type": "a", "event_id": f"e-{n}"} for n in range(5_000)]
    headers = {"Content-Encoding": coding.value}

    one = await service.one(encode(b'{"event_type":"a","event_id":"one"}'), **headers)
    batch = await service.batch(encode(json.dumps({"events": many}).encode()), **headers)

    assert (one.status_code, batch.status_code, batch.json()["accepted"]) == (202, 202, 5_000)
    assert {event.event_id for event in service.stored()} == {"one"} | {f"e-{n}" for n in range(5_000)}


async def test_a_dead_letter_holds_what_an_encoded_body_says(service: Service) -> None:
    raw = b'{"event_type":""}'

    await service.one(gzip.compress(raw), **{"Content-Encoding": "gzip"})

    assert [letter.payload for letter in service.dead()] == [raw]


@pytest.mark.parametrize("encoding", ENCODINGS)
async def test_a_small_body_that_stands_for_a_huge_one_is_refused(service: Service, encoding: str) -> None:
    coding, encode = ENCODINGS[encoding]
    bomb = encode(b" " * (MAX_BODY + 1))

    answer = await service.one(bomb, **{"Content-Encoding": coding.value})

    assert len(bomb) < 20_000
    assert (answer.status_code, answer.json()["reason"]) == (413, "body_too_large")


@pytest.mark.parametrize(
    ("body", "encoding", "status", "reason"),
    [
        (b'{"event_type":"a"}', "gzip", 400, "undecodable_body"),
        (gzip.compress(b'{"event_type":"a"}')[:-1], "gzip", 400, "undecodable_body"),
        (gzip.compress(b'{"event_type":"a"}'), "gzip, br", 400, "undecodable_body"),
        (gzip.compress(b'{"event_type":"a"'), "gzip", 400, "malformed_json"),
        (b'{"event_type":"a"}', "rot13", 415, "unsupported_content_encoding"),
        (b'{"event_type":"a"}', "gzip,gzip,gzip,gzip", 415, "unsupported_content_encoding"),
    ],
    ids=["not encoded", "cut off", "encoded once less", "no JSON", "unknown encoding", "too many encodings"],
)
async def test_what_cannot_be_decoded_is_refused_with_its_reason(
    service: Service, body: bytes, encoding: str, status: int, reason: str
) -> None:
    answer = await service.one(body, **{"Content-Encoding": encoding})

    assert (answer.status_code, answer.json()["reason"]) == (status, reason)
    assert answer.headers.get("accept-encoding") == ("gzip, deflate, zstd, br" if status == 415 else None)
    assert service.dead() == []


async def test_an_event_sent_again_with_its_key_keeps_its_id(service: Service) -> None:
    first = await service.one({"event_type": "a"}, **{"Idempotency-Key": "k-1"})
    again = await service.one({"event_type": "a"}, **{"Idempotency-Key": '"k-1"'})
    other = await service.one({"event_type": "a"}, **{"Idempotency-Key": "k-2"})

    assert first.json()["event_id"] == again.json()["event_id"] != other.json()["event_id"]
    elsewhere = Service()
    async with elsewhere.client:
        assert (await elsewhere.one({"event_type": "a"}, **{"Idempotency-Key": "k-1"})).json() == first.json()


async def test_each_event_of_a_batch_gets_its_own_id_from_the_key(service: Service) -> None:
    events = [{"event_type": "a"}, {"event_type": ""}, {"event_type": "a", "event_id": "own"}, {"event_type": "a"}]

    first = (await service.batch(events, **{"Idempotency-Key": "k-1"})).json()["results"]
    again = (await service.batch(events, **{"Idempotency-Key": "k-1"})).json()["results"]

    ids = [result["event_id"] for result in first if result["status"] == "accepted"]
    assert first == again
    assert len(set(ids)) == 3
    assert "own" in ids


@pytest.mark.parametrize("key", ["", '""', "k" * 256, "a\tb"])
async def test_a_key_that_is_none_is_refused(service: Service, key: str) -> None:
    headers = {"Idempotency-Key": key}
    for answer in (
        await service.one({"event_type": "a"}, **headers),
        await service.batch([{"event_type": "a"}], **headers),
        await service.lines(b'{"event_type":"a"}', headers),
    ):
        assert (answer.status_code, answer.json()["reason"]) == (400, "idempotency_key_invalid")
    assert service.stored() == []


FIELDS = {
    "event_type": st.text(max_size=5) | st.integers(),
    "event_id": st.none() | st.text() | st.booleans(),
}
EVENTS = st.fixed_dictionaries({}, optional=FIELDS)
BODIES = st.one_of(
    st.binary(max_size=200),
    EVENTS.map(lambda event: json.dumps(event).encode()),
    st.lists(EVENTS, max_size=4).map(lambda events: json.dumps({"events": events}).encode()),
    st.lists(EVENTS, max_size=4).map(lambda events: "\n".join(map(json.dumps, events)).encode()),
)
HEADER = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=12)


# All examples share one service: what it keeps of one does not matter to the next.
@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    path=st.sampled_from([EVENT_PATH, BATCH_PATH]),
    media=st.sampled_from([JSON, NDJSON, {}]),
    body=BODIES,
    applied=st.lists(st.sampled_from(list(ENCODINGS.values())), max_size=2),
    declared=st.none() | HEADER,
    key=st.none() | HEADER,
    damage=st.none() | st.tuples(st.integers(0, 1_000), st.integers(0, 255)),
)
async def test_whatever_comes_is_answered_with_success_or_a_reason(
    service: Service,
    path: str,
    media: dict[str, str],
    body: bytes,
    applied: list[tuple[Coding, Encode]],
    declared: str | None,
    key: str | None,
    damage: tuple[int, int] | None,
) -> None:
    for _, encode in applied:
        body = encode(body)
    if damage is not None and body:
        where = damage[0] % len(body)
        body = body[:where] + bytes([damage[1]]) + body[where + 1 :]
    names = ", ".join(coding.value for coding, _ in applied)
    headers = {**media, "Content-Encoding": names if declared is None else declared}
    if key is not None:
        headers["Idempotency-Key"] = key

    answer = await service.client.post(path, content=body, headers=headers)

    assert answer.status_code == 202 or 400 <= answer.status_code < 500, answer.text
    assert answer.status_code == 202 or answer.json()["reason"]


async def test_the_schema_tells_of_lines_encodings_and_keys(service: Service) -> None:
    schema = (await service.client.get("/api/v1/openapi/ingest.json")).json()

    for path, media in (
        (EVENT_PATH, {"application/json"}),
        (BATCH_PATH, {"application/json", NDJSON["Content-Type"]}),
    ):
        operation = schema["paths"][path]["post"]
        assert set(operation["requestBody"]["content"]) == media
        named = {(parameter["in"], parameter["name"]) for parameter in operation["parameters"]}
        assert {("header", "Content-Encoding"), ("header", "Idempotency-Key")} <= named
        assert (("query", "first_line") in named) == (path == BATCH_PATH)
        assert {"400", "408", "413", "415", "503"} <= set(operation["responses"])
