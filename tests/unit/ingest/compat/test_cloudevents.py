"""CloudEvents over HTTP in all three modes: which event it becomes, and what is refused how."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from services.ingest.domain.compat.cloudevents import event_of, unique_id
from services.ingest.domain.normalise import EventBody
from tests.unit.ingest.compat.service import KEY, NOW, Service, iso

PATH = "/cloudevents"
AUTHORIZATION = {"Authorization": f"Bearer {KEY}"}
ONE = {**AUTHORIZATION, "Content-Type": "application/cloudevents+json"}
MANY = {**AUTHORIZATION, "Content-Type": "application/cloudevents-batch+json; charset=utf-8"}
BINARY = {
    **AUTHORIZATION,
    "ce-specversion": "1.0",
    "ce-id": "1",
    "ce-source": "/shop",
    "ce-type": "com.example.order",
}


def event(n: int = 1, **attributes: Any) -> dict[str, Any]:
    required = {"specversion": "1.0", "id": str(n), "source": "/shop", "type": "com.example.order"}
    return {**required, "data": {"revenue": 19.9}} | attributes


async def test_a_structured_event_becomes_ours(service: Service) -> None:
    attributes: dict[str, Any] = {"time": iso(NOW - 5), "subject": "u-1", "dataschema": "/s/1", "traceparent": "00-1"}

    answer = await service.send(PATH, event(**attributes), ONE)

    assert (answer.status_code, answer.json()) == (202, {"event_id": "/shop 1", "status": "accepted"})
    found = service.only()
    assert (found.organisation, found.event_id, found.event_type) == ("acme", "/shop 1", "com.example.order")
    assert (found.time, found.user_id, found.properties) == (NOW - 5, "u-1", {"revenue": 19.9})
    assert found.context["cloudevent"] == {
        "source": "/shop",
        "subject": "u-1",
        "dataschema": "/s/1",
        "traceparent": "00-1",
    }


@pytest.mark.parametrize(
    ("attributes", "ids"),
    [
        ({"subject": "u-1", "partitionkey": "p-1"}, ("u-1", None, None, None)),
        ({"partitionkey": "p-1"}, ("p-1", None, None, None)),
        ({}, (None, None, None, None)),
        ({"subject": "order-7", "userid": "u-1", "anonymousid": "a-1"}, ("u-1", "a-1", None, None)),
        ({"subject": "order-7", "sessionid": "s-1", "jobid": 7}, (None, None, "s-1", "7")),
        ({"subject": "order-7", "data": {"userId": "u-1", "jobId": 8}}, ("u-1", None, None, "8")),
        ({"subject": "u-1", "userid": ""}, ("u-1", None, None, None)),
    ],
)
async def test_ids_come_from_extensions_and_data_and_only_without_any_from_the_subject(
    service: Service, attributes: dict[str, Any], ids: tuple[str | None, ...]
) -> None:
    await service.send(PATH, event(**attributes), ONE)

    found = service.only()
    assert (found.user_id, found.anonymous_id, found.session_id, found.job_id) == ids


@pytest.mark.parametrize(
    ("attributes", "properties"),
    [
        ({"data": None}, {}),
        ({"data": [1, 2]}, {"data": [1, 2]}),
        ({"data": "text"}, {"data": "text"}),
        ({"data": None, "data_base64": "AAE="}, {"data_base64": "AAE="}),
        (
            {
                "data": None,
                "data_base64": base64.b64encode(b'{"a":1}').decode(),
                "datacontenttype": "application/json",
            },
            {"a": 1},
        ),
    ],
)
async def test_data_that_is_no_object_stands_under_its_name(
    service: Service, attributes: dict[str, Any], properties: dict[str, Any]
) -> None:
    assert (await service.send(PATH, event(**attributes), ONE)).status_code == 202

    assert service.only().properties == properties


@pytest.mark.parametrize(
    ("content_type", "body", "properties"),
    [
        (None, b'{"revenue":19.9}', {"revenue": 19.9}),
        (None, b"\x00\x01", {"data_base64": "AAE="}),
        (None, b"", {}),
        ("application/json", b"[1]", {"data": [1]}),
        ("application/json; charset=utf-8", '{"name":"Jörg"}'.encode(), {"name": "Jörg"}),
        ("application/json; charset=ISO-8859-1", '{"name":"Jörg"}'.encode("latin-1"), {"name": "Jörg"}),
        ('application/vnd.shop+json; charset="UTF-16"', '{"name":"Jörg"}'.encode("utf-16"), {"name": "Jörg"}),
        ("text/plain; charset=latin1", "Jörg".encode("latin-1"), {"data": "Jörg"}),
        ("text/plain", b"\xff", {"data_base64": "/w=="}),
        ("application/octet-stream", b'{"a":1}', {"data_base64": "eyJhIjoxfQ=="}),
    ],
)
async def test_a_binary_events_body_is_its_data(
    service: Service, content_type: str | None, body: bytes, properties: dict[str, Any]
) -> None:
    headers = BINARY if content_type is None else {**BINARY, "Content-Type": content_type}

    answer = await service.send(PATH, body, {**headers, "ce-subject": "u-1"})

    assert answer.status_code == 202, answer.text
    found = service.only()
    assert (found.event_id, found.event_type, found.user_id) == ("/shop 1", "com.example.order", "u-1")
    assert found.properties == properties


async def test_attributes_in_headers_are_decoded(service: Service) -> None:
    names = {"ce-subject": "J%C3%B6rg%20%25", "ce-userid": '"u 1"'}

    await service.send(PATH, b"{}", {**BINARY, **names})

    assert service.only().user_id == "u 1"
    assert service.only().context["cloudevent"]["subject"] == "Jörg %"


async def test_a_batch_gets_a_verdict_for_each_event(service: Service) -> None:
    body = [event(1), event(2, specversion="0.3"), event(3, type=""), event(4)]

    answer = await service.send(f"{PATH}/", body, MANY)

    assert answer.status_code == 202
    assert answer.json()["accepted"] == 2
    verdicts = [(found["event_id"], found.get("reason")) for found in answer.json()["results"]]
    assert verdicts == [
        ("/shop 1", None),
        ("2", "specversion_unsupported"),
        ("3", "schema_violation"),
        ("/shop 4", None),
    ]
    assert [(letter.reason, letter.origin) for letter in service.dead()] == [
        ("specversion_unsupported", "cloudevents"),
        ("schema_violation", "cloudevents"),
    ]


async def test_a_batch_may_be_empty_but_not_all_invalid(service: Service) -> None:
    empty = await service.send(PATH, [], MANY)
    invalid = await service.send(PATH, [event(source=7)], MANY)

    assert (empty.status_code, empty.json()) == (202, {"accepted": 0, "results": []})
    assert (invalid.status_code, invalid.json()["reason"]) == (422, "no_event_accepted")


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ({"specversion": "2.0"}, "specversion_unsupported"),
        ({"specversion": None}, "specversion_unsupported"),
        ({"id": ""}, "schema_violation"),
        ({"source": None}, "schema_violation"),
        ({"type": 5}, "schema_violation"),
        ({"type": "t" * 201}, "event_type_too_long"),
        ({"time": "yesterday"}, "timestamp_not_rfc3339"),
        ({"time": 5}, "timestamp_not_rfc3339"),
        ({"userid": "u" * 257}, "id_too_long"),
        ({"data_base64": "AAE="}, "schema_violation"),
        ({"data": None, "data_base64": "!"}, "schema_violation"),
        ({"data": {"a": "\x00"}}, "nul_character"),
    ],
)
async def test_an_invalid_event_is_refused_with_its_reason_and_kept(
    service: Service, attributes: dict[str, Any], reason: str
) -> None:
    answer = await service.send(PATH, event(**attributes), ONE)

    assert (answer.status_code, answer.json()["reason"]) == (422, reason)
    (letter,) = service.dead()
    assert (letter.reason, json.loads(letter.payload)) == (reason, event(**attributes))


async def test_an_invalid_binary_event_is_kept_with_its_attributes(service: Service) -> None:
    answer = await service.send(PATH, b'{"a":1}', {**BINARY, "ce-specversion": "0.3"})

    assert (answer.status_code, answer.json()["reason"]) == (422, "specversion_unsupported")
    kept = json.loads(service.dead()[0].payload)
    assert (kept["specversion"], kept["source"], kept["data"]) == ("0.3", "/shop", {"a": 1})


@pytest.mark.parametrize(
    ("headers", "body", "status", "reason"),
    [
        (ONE, b"", 400, "malformed_json"),
        (ONE, b'{"id":', 400, "malformed_json"),
        (MANY, b"[{]", 400, "malformed_json"),
        (MANY, b"{}", 422, "schema_violation"),
        ({**AUTHORIZATION, "Content-Type": "application/cloudevents+xml"}, b"<e/>", 415, "unsupported_media_type"),
        ({**ONE, "Content-Type": "application/cloudevents+json; charset=koi8-r"}, b"{}", 415, "unsupported_charset"),
        ({**AUTHORIZATION, "Content-Type": "application/json"}, b"{}", 415, "no_cloudevent"),
        ({**BINARY, "Content-Type": "application/json"}, b"{", 400, "malformed_json"),
        ({"Content-Type": "application/cloudevents+json"}, b"{}", 401, "key_missing"),
    ],
)
async def test_what_is_no_cloudevent_is_refused(
    service: Service, headers: dict[str, str], body: bytes, status: int, reason: str
) -> None:
    answer = await service.send(PATH, body, headers)

    assert (answer.status_code, answer.json()["reason"]) == (status, reason)
    assert not service.dead()


async def test_a_sender_may_ask_whether_it_may_send(service: Service) -> None:
    answer = await service.client.options(PATH, headers={"WebHook-Request-Origin": "events.example.com"})

    assert answer.status_code == 200
    assert answer.headers["webhook-allowed-origin"] == "events.example.com"


def test_no_two_events_share_an_id() -> None:
    pairs = [("/a", "b c"), ("/a b", "c"), ("/a", "b"), ("/" + "a" * 300, "b"), ("/" + "a" * 300, "c")]

    ids = {unique_id(source, identity) for source, identity in pairs}

    assert len(ids) == len(pairs)
    assert all(len(found) <= 256 for found in ids)


async def test_an_invalid_binary_event_is_kept_with_its_attributes_but_without_keys(service: Service) -> None:
    body = b'{"token":"%s","name":"\\u0000"}' % KEY.encode()

    answer = await service.send(PATH, body, BINARY)

    assert (answer.status_code, answer.json()["reason"]) == (422, "nul_character")
    (letter,) = service.dead()
    assert KEY.encode() not in letter.payload
    mended = event_of(letter.payload.replace(b"\\u0000", b"A"))
    assert isinstance(mended, EventBody)
    assert (mended.event_id, mended.event_type) == ("/shop 1", BINARY["ce-type"])
    assert mended.event_data == {"token": f"{KEY[:14]}***", "name": "A"}
