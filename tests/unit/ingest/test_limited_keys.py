"""Keys with a limit, by whichever way their events come in over HTTP."""

from __future__ import annotations

import json
from typing import Any

import pytest

from services.ingest.event_log import Cause
from shared.keys import describe_key
from tests.unit.ingest.compat.service import BASIC, KEY
from tests.unit.ingest.compat.service import Service as Compatible
from tests.unit.ingest.service import Service

EVENT = {"event_type": "click"}


def events(count: int) -> list[dict[str, Any]]:
    return [EVENT] * count


def lines(count: int) -> bytes:
    return b"\n".join(json.dumps({**EVENT, "event_id": f"e-{n}"}).encode() for n in range(count))


async def test_who_has_sent_enough_is_told_when_to_come_again() -> None:
    service = Service()
    service.limit(10, 2)
    assert [(await service.one(EVENT)).status_code for _ in range(2)] == [202, 202]
    refused = await service.one(EVENT)
    problem = refused.json()
    assert (refused.status_code, problem["reason"], refused.headers["retry-after"]) == (429, "rate_limited", "1")
    assert problem["rate_limit"] == {"events_per_second": 10, "burst": 2}
    assert len(service.stored()) == 2
    assert service.metric("rate_limited_total", outcome="refused") == 1
    service.seconds += 1
    assert (await service.one(EVENT)).status_code == 202


async def test_events_count_and_not_requests() -> None:
    service = Service()
    service.limit(10, 20)
    assert (await service.batch(events(19))).status_code == 202
    assert (await service.one(EVENT)).status_code == 202
    assert (await service.one(EVENT)).status_code == 429


async def test_a_batch_beyond_the_burst_is_taken_and_waited_for() -> None:
    service = Service()
    service.limit(10, 5)
    assert (await service.batch(events(105))).status_code == 202
    refused = await service.batch(events(1))
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "11")
    service.seconds += 10.2
    assert (await service.batch(events(105))).status_code == 202


async def test_invalid_events_count_for_they_are_kept_too() -> None:
    service = Service()
    service.limit(1, 2)
    assert (await service.batch([{}, {}])).status_code == 422
    assert (await service.one(EVENT)).status_code == 429
    assert len(service.dead()) == 2


async def test_what_kafka_did_not_take_is_not_charged() -> None:
    service = Service()
    service.limit(1, 2)
    service.events.refuses = Cause.DEADLINE
    # Past the look at the room, so that it is the append that fails.
    service.events.refusal = lambda: None  # type: ignore[method-assign]
    assert [(await service.batch(events(2))).status_code for _ in range(3)] == [503, 503, 503]
    service.events.refuses = None
    assert (await service.batch(events(2))).status_code == 202
    assert (await service.batch(events(2))).status_code == 429


async def test_a_body_that_is_no_batch_is_not_charged() -> None:
    service = Service()
    service.limit(1, 1)
    assert [(await service.batch(b'{"events":[{}')).status_code for _ in range(3)] == [400, 400, 400]
    assert (await service.one(EVENT)).status_code == 202


async def test_a_refused_body_is_not_even_read() -> None:
    service = Service()
    service.limit(1, 1)
    assert (await service.one(EVENT)).status_code == 202
    assert (await service.batch(b"no JSON at all")).status_code == 429


async def test_another_key_of_the_same_organisation_is_not_concerned() -> None:
    service = Service()
    service.limit(1, 1)
    assert [(await service.one(EVENT)).status_code for _ in range(2)] == [202, 429]
    other = {"X-API-Key": service.keys["admin"]}
    assert [(await service.one(EVENT, **other)).status_code for _ in range(5)] == [202] * 5


async def test_a_short_file_counts_its_lines_and_is_refused_whole() -> None:
    service = Service()
    service.limit(1, 30)
    assert (await service.lines(lines(90))).status_code == 202
    refused = await service.lines(lines(90))
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "61")
    assert (refused.json()["accepted"], refused.json()["next_line"]) == (0, 1)
    assert len(service.stored()) == 90


async def test_an_upload_is_slowed_to_the_rate_of_its_key() -> None:
    service = Service()
    service.ticks = True
    service.limit(10, 1)
    long = json.dumps({**EVENT, "event_data": {"text": "x" * 100_000}}).encode()
    answer = await service.lines(b"\n".join([long] * 12))  # some come first, the rest is a piece of its own
    assert (answer.status_code, answer.json()["accepted"]) == (202, 12)
    assert service.metric("rate_limited_total", outcome="delayed") == 1
    assert service.metric("rate_limited_total", outcome="refused") == 0


async def test_an_upload_that_would_wait_too_long_ends_with_the_line_to_go_on_from() -> None:
    service = Service()
    service.limit(100, 100)
    ended = await service.lines(lines(5_000))
    assert (ended.status_code, ended.json()["reason"]) == (429, "rate_limited")
    assert (ended.json()["accepted"], ended.json()["next_line"]) == (2_000, 2_001)
    assert int(ended.headers["retry-after"]) == 20
    assert len(service.stored()) == 2_000


async def test_a_limit_that_is_taken_away_is_gone_at_once() -> None:
    service = Service()
    service.limit(1, 1)
    assert [(await service.one(EVENT)).status_code for _ in range(2)] == [202, 429]
    service.ring.learn(describe_key(service.keys["ingest"], organisation="acme", scope="ingest"))
    assert [(await service.one(EVENT)).status_code for _ in range(3)] == [202] * 3


@pytest.fixture
async def compatible() -> Compatible:
    service = Compatible()
    service.ring.learn(
        describe_key(KEY, organisation="acme", scope="ingest", events_per_second=1, burst=1),
    )
    return service


TRACK = {"type": "track", "event": "click", "userId": "u-1", "messageId": "m-1"}
CAPTURE = {"event": "click", "distinct_id": "u-1"}
CLOUD = {"specversion": "1.0", "id": "1", "source": "s", "type": "click"}


@pytest.mark.parametrize(
    ("path", "body", "headers"),
    [
        ("/v1/track", TRACK, {**BASIC, "Content-Type": "application/json"}),
        ("/v1/batch", {"writeKey": KEY, "batch": [TRACK]}, None),
        ("/capture/", {"api_key": KEY, **CAPTURE}, None),
        ("/batch/", {"api_key": KEY, "batch": [CAPTURE]}, None),
        ("/cloudevents", CLOUD, {"X-API-Key": KEY, "Content-Type": "application/cloudevents+json"}),
    ],
    ids=["track", "batch of Segment", "capture", "batch of PostHog", "cloudevents"],
)
async def test_other_products_clients_are_limited_alike(
    compatible: Compatible, path: str, body: dict[str, Any], headers: dict[str, str] | None
) -> None:
    first = await compatible.send(path, body, headers)
    assert first.status_code < 300, first.text
    refused = await compatible.send(path, body, headers)
    problem = refused.json()
    assert (refused.status_code, problem["code"], refused.headers["retry-after"]) == (429, "rate_limited", "1")
    assert len(compatible.stored()) == 1
