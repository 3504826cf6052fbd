"""PostHog's capture: every shape a body may have, whose event it is, when it happened, and both kinds of answers."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

import pytest
from prometheus_client import CollectorRegistry

from services.ingest.bodies import BodyLimits
from services.ingest.compat.posthog import PostHogCapture
from services.ingest.compat.request import Request
from services.ingest.event_log import Cause, Record
from services.ingest.intake import Intake
from services.ingest.metrics import IngestMetrics
from services.ingest.quality.inspections import Inspections
from shared.clock import DAY, HOUR, SECOND
from shared.http import MAX_BODY, Problem
from shared.keys import Principal, new_key
from tests.unit.ingest.compat.service import JSON, KEY, NOW, READ_KEY, Service, iso
from tests.unit.ingest.fakes import MemoryLog

UUIDS = [f"0190a8f0-0000-7000-8000-00000000000{n}" for n in range(5)]
V1 = "/i/v1/analytics/events"
BEARER = {**JSON, "Authorization": f"Bearer {KEY}"}


def captured(n: int = 0, **fields: Any) -> dict[str, Any]:
    return {
        "event": "order_completed",
        "distinct_id": "u-1",
        "uuid": UUIDS[n],
        "properties": {"revenue": 19.9},
    } | fields


def batch(*events: Any, **fields: Any) -> dict[str, Any]:
    return {"api_key": KEY, "batch": list(events), "historical_migration": False} | fields


def packed(value: Any) -> bytes:
    return gzip.compress(json.dumps(value).encode())


EVENT = json.dumps(captured(api_key=KEY)).encode()
BODIES: dict[str, tuple[bytes, dict[str, str]]] = {
    "one event": (EVENT, JSON),
    "one event with its token among the properties": (
        json.dumps(captured(properties={"token": KEY, "revenue": 19.9})).encode(),
        {"Content-Type": "text/plain"},
    ),
    "a list": (json.dumps([captured(properties={"token": KEY, "revenue": 19.9})]).encode(), JSON),
    "a batch": (json.dumps(batch(captured())).encode(), JSON),
    "a batch with a token": (json.dumps({"token": KEY, "batch": [captured()]}).encode(), JSON),
    "gzip, said in a header": (packed(batch(captured())), {**JSON, "Content-Encoding": "gzip"}),
    "gzip, said nowhere": (packed(batch(captured())), {"Content-Type": "text/plain"}),
    "a form of base64": (
        b"data=" + quote(base64.b64encode(EVENT)).encode(),
        {"Content-Type": "application/x-www-form-urlencoded"},
    ),
    "a form of base64 of gzip": (
        b"compression=gzip-js&data=" + quote(base64.b64encode(gzip.compress(EVENT))).encode(),
        {"Content-Type": "application/x-www-form-urlencoded"},
    ),
    "a form whose plus signs became spaces": (
        b"data=" + base64.b64encode(EVENT).replace(b"+", b" "),
        {"Content-Type": "application/x-www-form-urlencoded"},
    ),
    "a form of JSON": (b"data=" + quote(EVENT).encode() + b"&ip=1", {"Content-Type": "text/plain"}),
    "bare base64": (base64.b64encode(EVENT), {"Content-Type": "text/plain"}),
    "base64 for URLs, without padding": (base64.urlsafe_b64encode(EVENT + b" ").rstrip(b"="), {}),
}


@pytest.mark.parametrize("path", ["/capture", "/capture/", "/batch", "/batch/", "/e", "/e/", "/i/v0/e", "/i/v0/e/"])
@pytest.mark.parametrize("shape", BODIES)
async def test_every_shape_is_understood_on_every_path(service: Service, shape: str, path: str) -> None:
    body, headers = BODIES[shape]

    answer = await service.send(path, body, headers)

    assert (answer.status_code, answer.json()) == (200, {"status": 1}), answer.text
    event = service.only()
    assert (event.organisation, event.event_id, event.event_type) == ("acme", UUIDS[0], "order_completed")
    assert (event.user_id, event.anonymous_id, event.properties) == ("u-1", None, {"revenue": 19.9})


ANON = {"$is_identified": False}
IDS: dict[str, tuple[dict[str, Any], tuple[str | None, str | None]]] = {
    "a server's": (captured(), ("u-1", None)),
    "a number": (captured(distinct_id=7), ("7", None)),
    "among the properties": (captured(distinct_id=None, properties={"distinct_id": "u-2"}), ("u-2", None)),
    "a visitor's": (captured(properties=ANON), (None, "u-1")),
    "a person's without profile": (captured(properties={"$process_person_profile": False}), (None, "u-1")),
    "identified without profile": (
        captured(properties={"$process_person_profile": False, "$is_identified": True}),
        ("u-1", None),
    ),
    "identify": (captured(event="$identify", properties={"$anon_distinct_id": "a-1"}), ("u-1", "a-1")),
    "identify on a server": (captured(event="$identify", properties={"$set": {"plan": "pro"}}), ("u-1", None)),
    "identify of oneself": (captured(event="$identify", properties={"$anon_distinct_id": "u-1"}), ("u-1", None)),
    "alias": (captured(event="$create_alias", properties={"alias": "a-1", "$lib": "posthog-node"}), ("u-1", "a-1")),
    "alias in Python": (
        captured(event="$create_alias", distinct_id="a-1", properties={"alias": "u-1", "$lib": "posthog-python"}),
        ("u-1", "a-1"),
    ),
    "merge": (captured(event="$merge_dangerously", properties={"alias": "a-1"}), ("u-1", "a-1")),
    "alias to what many have": (captured(event="$create_alias", properties={"alias": "undefined"}), ("u-1", None)),
    "identify as what many have": (
        captured(event="$identify", distinct_id="NULL", properties={"$anon_distinct_id": "a-1"}),
        (None, "a-1"),
    ),
    "alias without one": (captured(event="$create_alias"), ("u-1", None)),
    "a group": (
        captured(event="$groupidentify", properties={"$group_type": "company", "$group_key": "acme"}),
        (None, None),
    ),
    "nobody's": (captured(distinct_id="$posthog_cookieless"), (None, None)),
}


@pytest.mark.parametrize("case", IDS)
async def test_whose_event_it_is_follows_the_documented_rule(service: Service, case: str) -> None:
    event, (user, anonymous) = IDS[case]

    assert (await service.send("/batch/", batch(event))).status_code == 200

    assert (service.only().user_id, service.only().anonymous_id) == (user, anonymous)


async def test_properties_stay_and_the_context_gains_our_names(service: Service) -> None:
    properties = {
        "$lib": "posthog-ios",
        "$lib_version": "3",
        "$os": "iOS",
        "$os_version": "17",
        "$app_version": "2.0",
        "$device_model": "iPhone15,2",
        "$network_wifi": True,
        "$session_id": "s-1",
    }

    await service.send("/i/v0/e", captured(api_key=KEY, properties=properties) | {"$set": {"plan": "pro"}})

    event = service.only()
    assert event.properties == {**properties, "$set": {"plan": "pro"}}
    assert event.session_id == "s-1"
    assert event.context == {
        "library": {"name": "posthog-ios", "version": "3"},
        "appVersion": "2.0",
        "osName": "iOS",
        "osVersion": "17",
        "deviceModel": "iPhone15,2",
        "networkType": "wifi",
    }


async def test_times_are_corrected_by_when_they_were_sent_unless_the_event_forbids_it(service: Service) -> None:
    ahead = NOW + 30 * DAY
    events = [
        captured(0, timestamp=iso(ahead - HOUR)),
        captured(1, timestamp=iso(NOW - HOUR), properties={"$ignore_sent_at": True}),
        captured(2, offset=2_500),
        captured(3),
    ]

    await service.send("/batch", batch(*events, sent_at=iso(ahead)))

    assert [event.time for event in service.stored()] == [NOW - HOUR, NOW - HOUR, NOW - 2_500_000, NOW]


async def test_the_browser_says_in_the_query_when_it_sent(service: Service) -> None:
    milliseconds = (NOW + DAY) // 1000

    await service.send(f"/e/?ip=0&_={milliseconds}&ver=1.2", captured(api_key=KEY, timestamp=iso(NOW + DAY - SECOND)))

    assert service.only().time == NOW - SECOND


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        (captured(), 401, "key_missing"),
        (captured(api_key="phc_other"), 401, "key_unknown"),
        (captured(api_key=READ_KEY), 403, "scope_insufficient"),
        (batch(captured(), api_key=None), 401, "key_missing"),
        ([captured(api_key=KEY), captured(api_key=new_key())], 400, "keys_differ"),
    ],
)
async def test_without_one_ingest_key_nothing_is_taken(service: Service, body: Any, status: int, reason: str) -> None:
    answer = await service.send("/batch/", body)

    assert (answer.status_code, answer.json()["reason"]) == (status, reason)
    assert not service.stored()


async def test_one_invalid_event_does_not_cost_the_batch(service: Service) -> None:
    bad = [captured(1, distinct_id=None), captured(2, timestamp="now"), captured(3, event=""), 7]

    answer = await service.send("/batch/", batch(captured(), *bad))

    assert (answer.status_code, answer.json()["status"]) == (200, 1)
    reasons = ["unit_missing", "timestamp_not_rfc3339", "event_type_empty", "schema_violation"]
    assert [found["reason"] for found in answer.json()["rejected"]] == reasons
    assert [(letter.reason, letter.origin) for letter in service.dead()] == [
        (reason, "posthog") for reason in reasons
    ]
    assert service.only().event_id == UUIDS[0]


async def test_an_invalid_event_alone_is_refused_and_kept_without_its_key(service: Service) -> None:
    answer = await service.send("/capture/", captured(distinct_id="", api_key=KEY))

    assert (answer.status_code, answer.json()["code"], answer.json()["event_id"]) == (422, "unit_missing", UUIDS[0])
    assert KEY.encode() not in service.dead()[0].payload


async def test_a_key_is_found_in_an_event_that_is_refused(service: Service) -> None:
    body = b'{"api_key":"%s","event":"\\ud800","distinct_id":"u"}' % KEY.encode()

    answer = await service.send("/e/", body)

    assert (answer.status_code, answer.json()["reason"]) == (422, "lone_surrogate")
    assert service.dead()[0].organisation == "acme"


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        (b"", 400, "malformed_json"),
        (b'{"batch": [', 400, "malformed_json"),
        (b"data=", 400, "malformed_json"),
        (b"\x1f\x8bno gzip", 400, "undecodable_body"),
        (gzip.compress(b" " * (9 * 1024 * 1024)), 413, "body_too_large"),
        (gzip.compress(gzip.compress(gzip.compress(gzip.compress(gzip.compress(b"{}"))))), 400, "undecodable_body"),
    ],
    ids=["empty", "cut off", "empty form", "no gzip", "bomb", "wrapped again and again"],
)
async def test_what_cannot_be_read_is_refused_whole(service: Service, body: bytes, status: int, reason: str) -> None:
    answer = await service.send("/batch/", body, BEARER)

    assert (answer.status_code, answer.json()["reason"]) == (status, reason)
    assert not service.dead()


async def test_the_newer_protocol_answers_for_each_event(service: Service) -> None:
    late = iso(NOW + HOUR)
    events = [
        captured(0, timestamp=iso(NOW + HOUR - SECOND), options={}, session_id="s-1"),
        captured(1, timestamp=late, options={"disable_skew_correction": True, "process_person_profile": False}),
        captured(2, timestamp="now", options={}),
    ]
    headers = {"PostHog-Request-Timestamp": late, "PostHog-Sdk-Info": "posthog-python/7.91.1"}

    answer = await service.send(V1, {"created_at": late, "batch": events}, {**BEARER, **headers})

    assert answer.status_code == 200
    results = answer.json()["results"]
    assert {uuid: result["result"] for uuid, result in results.items()} == dict(
        zip(UUIDS, ("ok", "ok", "drop"), strict=False)
    )
    assert results[UUIDS[2]]["details"].startswith("timestamp_not_rfc3339: ")
    first, second = service.stored()
    assert (first.time, first.session_id, first.user_id) == (NOW - SECOND, "s-1", "u-1")
    assert (second.time, second.user_id, second.anonymous_id) == (NOW + HOUR, None, "u-1")
    assert first.context["library"] == {"name": "posthog-python", "version": "7.91.1"}


async def test_the_newer_protocol_answers_200_even_if_every_event_is_dropped(service: Service) -> None:
    answer = await service.send(V1, {"batch": [captured(distinct_id=None)]}, BEARER)

    assert (answer.status_code, answer.json()["results"][UUIDS[0]]["result"]) == (200, "drop")


async def test_while_kafka_is_away_clients_are_told_to_come_back(service: Service) -> None:
    service.events.refuses = Cause.FULL

    for path in ("/batch/", V1):
        answer = await service.send(path, batch(captured()), BEARER)

        assert (answer.status_code, answer.json()["code"]) == (503, "overloaded")
        assert answer.headers["retry-after"] in {"1", "2", "3"}


async def test_what_small_bodies_become_takes_no_more_memory_than_large_bodies_may() -> None:
    waits, may_end = asyncio.Event(), asyncio.Event()

    class SlowLog(MemoryLog):
        async def append(self, records: Sequence[Record]) -> None:
            waits.set()
            await may_end.wait()

    def request(events: int) -> Request:
        body = packed(batch(*(captured(properties={"x": "a" * 100_000}) for _ in range(events))))
        return Request("/e/", {}, (), body, NOW, Principal("acme", "ingest"), lambda _: Principal("acme", "ingest"))

    log = SlowLog()
    intake = Intake(
        events=log,
        letters=log,
        clock=lambda: NOW,
        new_id=lambda: "id",
        metrics=IngestMetrics(CollectorRegistry()),
        inspections=Inspections(),
    )
    capture = PostHogCapture(intake, BodyLimits(at_once=1, turn=0.01)).capture
    first = asyncio.create_task(capture(request(10)))
    await waits.wait()

    with pytest.raises(Problem) as refusal:
        await capture(request(10))
    assert (refusal.value.status, refusal.value.reason) == (503, "overloaded")
    small = asyncio.create_task(capture(request(1)))
    may_end.set()
    assert [answer.status for answer in await asyncio.gather(first, small)] == [200, 200]


@pytest.mark.parametrize("body", [b"[" + b"[]" * 400_000, b'{"batch":[' + b"[]" * 400_000], ids=["list", "object"])
async def test_others_are_served_while_a_body_of_brackets_is_taken_apart(service: Service, body: bytes) -> None:
    hostile = asyncio.create_task(service.send("/batch/", body, BEARER))
    served = 0
    while not hostile.done():
        assert (await service.send("/e/", EVENT, BEARER)).status_code == 200
        served += 1

    assert (await hostile).status_code in (400, 422)
    assert served >= 10


async def test_a_body_that_says_it_is_too_large_is_refused_so_that_a_browser_may_read_why(service: Service) -> None:
    answer = await service.send("/batch/", b" " * (MAX_BODY + 1))

    assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")
    assert answer.headers["access-control-allow-origin"] == "*"
