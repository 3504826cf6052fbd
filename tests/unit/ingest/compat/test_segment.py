"""Segment's HTTP API: what each call becomes, when it happened, who sent it, and what is refused how."""

from __future__ import annotations

import json
from typing import Any

import pytest

from services.ingest.domain.compat.segment import MAX_BATCH_BYTES, MAX_MESSAGE_BYTES
from services.ingest.event_log import Cause
from shared.clock import DAY, HOUR, SECOND
from tests.unit.ingest.compat.service import BASIC, JSON, KEY, NOW, READ_KEY, Service, iso

AUTHENTICATED = {**JSON, **BASIC}


def track(n: int = 0, **fields: Any) -> dict[str, Any]:
    return {"type": "track", "event": "Order Completed", "userId": "u-1", "messageId": f"m-{n}", **fields}


async def test_a_track_call_is_the_event_that_it_names(service: Service) -> None:
    body = {"event": "Order Completed", "userId": 7, "messageId": "m-1", "properties": {"revenue": 19.9}}

    answer = await service.send("/v1/track", body, AUTHENTICATED)

    assert (answer.status_code, answer.json()) == (200, {"success": True})
    event = service.only()
    assert (event.organisation, event.event_id, event.event_type) == ("acme", "m-1", "Order Completed")
    assert (event.user_id, event.anonymous_id, event.properties) == ("7", None, {"revenue": 19.9})
    assert (event.time, event.received_at) == (NOW, NOW)


@pytest.mark.parametrize(
    ("path", "body", "event_type", "properties"),
    [
        ("/v1/page", {"name": "Home", "properties": {"path": "/"}}, "page", {"name": "Home", "path": "/"}),
        ("/v1/p", {"category": "Docs"}, "page", {"category": "Docs"}),
        ("/v1/screen", {"name": "Cart"}, "screen", {"name": "Cart"}),
        ("/v1/identify", {"traits": {"plan": "pro"}}, "identify", {"plan": "pro"}),
        ("/v1/group", {"groupId": 5, "traits": {"seats": 2}}, "group", {"groupId": 5, "seats": 2}),
        ("/v1/i", {"traits": {"plan": "pro"}}, "identify", {"plan": "pro"}),
        ("/v1/t", {"event": "Viewed"}, "Viewed", {}),
    ],
)
async def test_every_other_call_is_an_event_of_its_own_type(
    service: Service, path: str, body: dict[str, Any], event_type: str, properties: dict[str, Any]
) -> None:
    answer = await service.send(path, {"anonymousId": "a-1", **body}, AUTHENTICATED)

    assert answer.status_code == 200, answer.text
    event = service.only()
    assert (event.event_type, event.user_id, event.anonymous_id) == (event_type, None, "a-1")
    assert event.properties == properties


async def test_identify_with_both_ids_and_alias_link_the_visitor_to_the_user(service: Service) -> None:
    messages = [
        {"type": "identify", "messageId": "m-1", "userId": "u-1", "anonymousId": "a-1"},
        {"type": "alias", "messageId": "m-2", "userId": "u-2", "previousId": "a-2", "anonymousId": "other"},
    ]

    await service.send("/v1/batch", {"batch": messages}, AUTHENTICATED)

    assert [(event.anonymous_id, event.user_id) for event in service.stored()] == [("a-1", "u-1"), ("a-2", "u-2")]


async def test_the_key_may_stand_in_the_body(service: Service) -> None:
    for path, body in (("/v1/batch", {"batch": [track()], "writeKey": KEY}), ("/v1/track", track(1, writeKey=KEY))):
        assert (await service.send(path, body)).status_code == 200
    assert len(service.stored()) == 2
    assert all(KEY not in str(event) for event in service.stored())


@pytest.mark.parametrize(
    ("body", "headers", "status", "reason"),
    [
        ({"batch": [track()]}, JSON, 401, "key_missing"),
        ({"batch": [track()], "writeKey": "phc_other"}, JSON, 401, "key_unknown"),
        ({"batch": [track()], "writeKey": READ_KEY}, JSON, 403, "scope_insufficient"),
        ({"batch": [track()], "writeKey": KEY}, {**JSON, "Authorization": "Basic !!"}, 401, "key_missing"),
    ],
)
async def test_without_an_ingest_key_nothing_is_taken(
    service: Service, body: dict[str, Any], headers: dict[str, str], status: int, reason: str
) -> None:
    if headers.get("Authorization"):
        body = {"batch": [track()]}

    answer = await service.send("/v1/batch", body, headers)

    assert (answer.status_code, answer.json()["reason"]) == (status, reason)
    assert not service.stored()
    assert not service.dead()


async def test_a_key_that_may_still_be_on_its_way_is_worth_another_try(service: Service) -> None:
    service.not_ready = "keys"

    answer = await service.send("/v1/batch", {"batch": [track()], "writeKey": "tg_0000000000_" + "0" * 48})

    assert (answer.status_code, answer.headers["retry-after"] in {"1", "2", "3"}) == (503, True)


async def test_a_clock_that_runs_ahead_is_corrected_by_when_it_was_sent(service: Service) -> None:
    wrong = NOW + 30 * DAY
    message = track(timestamp=iso(wrong - HOUR))

    await service.send("/v1/batch", {"batch": [message], "sentAt": iso(wrong)}, AUTHENTICATED)

    event = service.only()
    assert event.time == NOW - HOUR
    assert event.context["originalTimestamp"] == iso(wrong - HOUR)


async def test_a_messages_own_time_of_sending_and_original_timestamp_win(service: Service) -> None:
    sent = iso(NOW + HOUR)
    messages = [
        track(0, originalTimestamp=iso(NOW + HOUR - SECOND), sentAt=sent),
        track(1, originalTimestamp=iso(NOW - DAY), timestamp=iso(NOW - HOUR)),
        track(2, timestamp=iso(NOW - HOUR), sentAt="soon"),
    ]

    await service.send("/v1/batch", {"batch": messages, "sentAt": iso(NOW)}, AUTHENTICATED)

    assert [event.time for event in service.stored()] == [NOW - SECOND, NOW - HOUR, NOW - HOUR]


async def test_the_context_keeps_what_it_says_and_gains_our_names(service: Service) -> None:
    context = {
        "library": {"name": "analytics-ios", "version": "4"},
        "app": {"version": "3.1"},
        "os": {"name": "iOS", "version": "17"},
        "device": {"model": "iPhone15,2"},
        "network": {"wifi": False, "cellular": True},
        "userAgent": "app/3.1",
        "sessionId": 1795307421,
    }

    await service.send("/v1/track", track(context=context), {**AUTHENTICATED, "User-Agent": "analytics-python/2"})

    event = service.only()
    ours = {"appVersion": "3.1", "osName": "iOS", "osVersion": "17", "deviceModel": "iPhone15,2"}
    assert event.context == {**context, **ours, "networkType": "cellular"}
    assert event.session_id == "1795307421"


async def test_a_batchs_context_stands_in_for_what_a_message_does_not_say(service: Service) -> None:
    messages = [track(context={"locale": "de"})]

    await service.send("/v1/import", {"batch": messages, "context": {"locale": "en", "ip": "1.2.3.4"}}, AUTHENTICATED)

    assert service.only().context == {"locale": "de", "ip": "1.2.3.4"}


INVALID = [
    (track(event=None), "schema_violation"),
    (track(type="order"), "schema_violation"),
    (track(type=None), "schema_violation"),
    (track(event=""), "event_type_empty"),
    (track(userId=None), "unit_missing"),
    (track(userId=[1]), "schema_violation"),
    (track(properties="none"), "schema_violation"),
    (track(properties={"a": "\x00"}), "nul_character"),
    (track(timestamp="yesterday"), "timestamp_not_rfc3339"),
    (track(properties={"a": "x" * MAX_MESSAGE_BYTES}), "event_too_large"),
    ("no object", "schema_violation"),
]


@pytest.mark.parametrize(("message", "reason"), INVALID)
async def test_one_invalid_message_does_not_cost_the_batch(service: Service, message: Any, reason: str) -> None:
    answer = await service.send("/v1/batch", {"batch": [track(1), message, track(2)]}, AUTHENTICATED)

    assert (answer.status_code, answer.json()["success"]) == (200, True)
    assert [(found["index"], found["reason"]) for found in answer.json()["rejected"]] == [(1, reason)]
    assert [event.event_id for event in service.stored()] == ["m-1", "m-2"]
    (letter,) = service.dead()
    assert (letter.reason, letter.origin, json.loads(letter.payload)) == (reason, "segment", message)


async def test_a_surrogate_or_a_number_beyond_all_bounds_costs_only_its_own_message(service: Service) -> None:
    bad = b'{"type":"track","event":"\\ud800","userId":"u"}', b'{"type":"track","event":"e","userId":"u","n":1e999}'
    good = json.dumps(track(1)).encode()

    answer = await service.send("/v1/batch", b'{"batch":[%s,%s,%s]}' % (bad[0], good, bad[1]), AUTHENTICATED)

    assert [found["reason"] for found in answer.json()["rejected"]] == ["lone_surrogate", "non_finite_number"]
    assert service.only().event_id == "m-1"


async def test_a_batch_of_nothing_but_invalid_messages_is_refused_so_that_its_sender_notices(
    service: Service,
) -> None:
    answer = await service.send("/v1/batch", {"batch": [track(type="x"), track(type="y")]}, AUTHENTICATED)

    assert (answer.status_code, answer.json()["reason"]) == (422, "no_event_accepted")
    assert len(service.dead()) == 2


async def test_an_invalid_single_call_is_refused_with_its_reason_and_kept_without_its_key(service: Service) -> None:
    answer = await service.send("/v1/track", {"userId": "u-1", "writeKey": KEY, "messageId": "m"})

    assert (answer.status_code, answer.json()["reason"], answer.json()["event_id"]) == (422, "schema_violation", "m")
    (letter,) = service.dead()
    assert KEY.encode() not in letter.payload
    assert KEY[:14].encode() + b"***" in letter.payload


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        (b"", 400, "malformed_json"),
        (b'{"batch":[', 400, "malformed_json"),
        (b'{"batch":[{"type":"track",}]}', 400, "malformed_json"),
        (b"[]", 422, "schema_violation"),
        (b'{"batch":{}}', 422, "schema_violation"),
        (b'{"batch":[],"context":{"a":"\\u0000"}}', 422, "schema_violation"),
        (b'{"batch":[' + b"1," * 10_000 + b"1]}", 422, "batch_too_long"),
        (b" " * (MAX_BATCH_BYTES + 1), 413, "body_too_large"),
    ],
)
async def test_what_is_no_batch_is_refused_whole(service: Service, body: bytes, status: int, reason: str) -> None:
    answer = await service.send("/v1/batch", body, AUTHENTICATED)

    assert (answer.status_code, answer.json()["reason"]) == (status, reason)
    assert not service.dead()
    fields = answer.json()
    assert fields["code"] == reason
    assert fields["status"] == status
    assert fields["message"] == fields["error"] == fields["detail"] != ""


async def test_an_empty_batch_is_a_success(service: Service) -> None:
    answer = await service.send("/v1/batch", {"batch": []}, AUTHENTICATED)

    assert (answer.status_code, answer.json()) == (200, {"success": True})


async def test_while_kafka_is_away_clients_are_told_to_come_back(service: Service) -> None:
    service.events.refuses = Cause.DEADLINE

    answer = await service.send("/v1/batch", {"batch": [track()]}, AUTHENTICATED)

    assert (answer.status_code, answer.headers["retry-after"] in {"1", "2", "3"}) == (503, True)
    assert answer.json()["code"] == "not_confirmed"


async def test_a_web_page_of_another_origin_may_send(service: Service) -> None:
    asked = {"Origin": "https://shop.test", "Access-Control-Request-Headers": "authorization,content-type"}
    allowed = await service.client.options("/v1/t", headers=asked)
    sent = await service.send(
        "/v1/t", track(writeKey=KEY), {"Content-Type": "text/plain", "Origin": "https://shop.test"}
    )
    refused = await service.send("/v1/t", track(), {"Content-Type": "text/plain"})

    assert allowed.status_code == 200
    assert allowed.headers["access-control-allow-headers"] == "authorization,content-type"
    assert [answer.headers["access-control-allow-origin"] for answer in (allowed, sent, refused)] == ["*"] * 3
    assert (sent.status_code, refused.status_code) == (200, 401)


async def test_only_post_sends(service: Service) -> None:
    answer = await service.client.get("/v1/track", headers=BASIC)

    assert (answer.status_code, answer.headers["allow"]) == (405, "POST, OPTIONS")


async def test_a_list_that_stands_twice_is_no_batch_rather_than_half_of_one(service: Service) -> None:
    body = b'{"batch":[{"type":"\\ud800"}],"batch":[%s]}' % json.dumps(track(1)).encode()

    answer = await service.send("/v1/batch", body, AUTHENTICATED)

    assert (answer.status_code, answer.json()["reason"]) == (422, "schema_violation")
    assert not service.stored()
