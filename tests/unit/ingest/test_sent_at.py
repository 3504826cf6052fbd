"""Requests that say when they were sent, by a clock that may be wrong."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from services.ingest.domain.letters.readers import reader_of
from services.ingest.domain.normalise import EventBody, Reason
from services.ingest.domain.sent_at import NoSentAt, sent_at_around, sent_at_of
from services.ingest.http import BATCH_PATH
from shared.clock import DAY, HOUR, SECOND, to_iso
from tests.unit.ingest.service import JSON, NOW, Service


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    service = Service()
    async with service.client:
        yield service


async def _send(service: Service, sent_at: Any, *events: dict[str, Any], tail: bytes = b"") -> int:
    content = json.dumps({"sent_at": sent_at, "events": events}).encode() + tail
    return (await service.client.post(BATCH_PATH, content=content, headers=JSON)).status_code


@pytest.mark.parametrize("ahead", [-3 * HOUR, -9_000 * DAY, 0, 5 * DAY])
async def test_a_wrong_clock_is_put_right_and_the_original_time_kept(service: Service, ahead: int) -> None:
    happened = to_iso(NOW + ahead - 10 * SECOND)

    status = await _send(service, to_iso(NOW + ahead), {"event_type": "a", "event_timestamp": happened})

    (event,) = service.stored()
    assert (status, event.time) == (202, NOW - 10 * SECOND)
    assert event.context.get("originalTimestamp", happened) == happened
    assert ("originalTimestamp" in event.context) == (ahead != 0)


async def test_batches_that_are_taken_apart_are_put_right_too(service: Service) -> None:
    events = [{"event_type": "a", "event_timestamp": to_iso(NOW + DAY)}, {"event_type": "a\x00"}]

    assert await _send(service, to_iso(NOW + DAY), *events) == 202

    (event,) = service.stored()
    assert event.time == NOW
    assert len(service.dead()) == 1


@pytest.mark.parametrize("hostile", [b'{"a":"\\ud800"}', b'{"a":%b}' % (b"[" * 3_000 + b"]" * 3_000)])
async def test_a_hostile_event_leaves_the_others_their_corrected_times(service: Service, hostile: bytes) -> None:
    sound = json.dumps({"event_type": "a", "event_timestamp": to_iso(NOW + DAY)}).encode()
    body = b'{"events":[%b,%b],"sent_at":"%b"}' % (hostile, sound, to_iso(NOW + DAY).encode())

    assert (await service.client.post(BATCH_PATH, content=body, headers=JSON)).status_code == 202

    (event,) = service.stored()
    assert event.time == NOW
    assert len(service.dead()) == 1


async def test_what_has_no_time_or_none_that_can_be_read_is_left_as_it_is(service: Service) -> None:
    unreadable = [{"event_type": "b", "event_timestamp": text} for text in ("yesterday", "2024-10-22", "2024-W43-2")]
    events = [{"event_type": "a"}, *unreadable]

    assert await _send(service, to_iso(NOW + DAY), *events) == 202

    (event,) = service.stored()
    assert (event.time, "originalTimestamp" in event.context) == (NOW, False)
    assert [letter.reason for letter in service.dead()] == ["timestamp_not_rfc3339"] * 3


async def test_a_corrected_time_is_judged_as_any(service: Service) -> None:
    event = {"event_type": "a", "event_timestamp": to_iso(NOW + 3 * DAY)}

    assert await _send(service, to_iso(NOW), event) == 422
    assert [letter.reason for letter in service.dead()] == ["timestamp_in_future"]


@pytest.mark.parametrize("sent_at", [5, "", "soon", [], "2026-13-01T00:00:00Z", "2026-01-01", "2" * 100])
async def test_a_batch_sent_at_no_time_is_refused_as_a_whole(service: Service, sent_at: Any) -> None:
    assert await _send(service, sent_at, {"event_type": "a"}) == 422
    assert (service.stored(), service.dead()) == ([], [])


async def test_null_says_nothing(service: Service) -> None:
    assert await _send(service, None, {"event_type": "a", "event_timestamp": to_iso(NOW)}) == 202


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (b'{"events":[]}', None),
        (b'{"events":[{"sent_at":"x"}]}', None),
        (b'{"sent_at":', None),
        (b'["sent_at"]', None),
        (b'{"sent_at":"2026-01-01T00:00:00Z"}', "2026-01-01T00:00:00Z"),
        (b'{"events":[{"sent_at":1}],"sent_at":"2026-01-01T00:00:00z"}', "2026-01-01T00:00:00z"),
    ],
)
def test_only_the_batch_itself_says_when_it_was_sent(body: bytes, found: str | None) -> None:
    assert sent_at_of(body) == found


def test_a_batch_says_so_whatever_its_events_are() -> None:
    body = b'{"sent_at":"2026-01-01T00:00:00Z","events":[%b]}' % (b'"\\ud800"')

    assert (sent_at_of(body), sent_at_around(body)) == (None, "2026-01-01T00:00:00Z")


async def test_a_hostile_event_that_says_when_it_was_sent_holds_nobody_up(service: Service) -> None:
    """The parser alone looks at it, once: taken apart it would take seconds."""
    began = time.perf_counter()
    await service.one(b'{"sent_at":"2026-01-01T00:00:00Z","a":["\\ud800"' + b",[]" * 2_000_000 + b"]}")

    assert time.perf_counter() - began < 2


def test_what_is_no_time_has_a_reason() -> None:
    found = sent_at_of(b'{"sent_at":1}')

    assert isinstance(found, NoSentAt)
    assert found.reason is Reason.TIMESTAMP


async def test_a_single_event_may_say_so_beside_its_fields_or_by_a_header(service: Service) -> None:
    event = {"event_type": "a", "event_timestamp": to_iso(NOW + DAY - 10 * SECOND)}

    await service.one({**event, "sent_at": to_iso(NOW + DAY)})
    await service.one(event, **{"X-Sent-At": to_iso(NOW + DAY)})
    await service.one({**event, "sent_at": to_iso(NOW + DAY)}, **{"X-Sent-At": to_iso(NOW + 5 * DAY)})

    assert [stored.time for stored in service.stored()] == [NOW - 10 * SECOND] * 3
    assert service.stored()[0].context["originalTimestamp"] == event["event_timestamp"]
    assert "sent_at" not in service.stored()[0].properties


async def test_batches_and_lines_may_say_so_by_a_header(service: Service) -> None:
    event = {"event_type": "a", "event_timestamp": to_iso(NOW - 9_000 * DAY)}
    headers = {"X-Sent-At": to_iso(NOW - 9_000 * DAY + SECOND)}

    await service.batch([event], **headers)
    await service.lines(json.dumps(event).encode(), headers)

    assert [stored.time for stored in service.stored()] == [NOW - SECOND] * 2


async def test_however_long_lines_take_all_of_them_were_sent_at_once(service: Service) -> None:
    line = json.dumps({"event_type": "a", "event_timestamp": to_iso(NOW - DAY)}).encode() + b"\n"

    async def slowly() -> AsyncIterator[bytes]:
        yield line * 2_000  # a whole piece
        service.clock += HOUR
        yield line

    answer = await service.lines(slowly(), {"X-Sent-At": to_iso(NOW - DAY)})

    assert answer.json()["accepted"] == 2_001
    assert {stored.time for stored in service.stored()} == {NOW}


async def test_however_long_lines_take_a_letter_of_theirs_is_replayed_with_the_time_it_would_have_had(
    service: Service,
) -> None:
    good, bad = (
        json.dumps({"event_type": type, "event_timestamp": to_iso(NOW - DAY)}).encode() + b"\n" for type in ("a", "")
    )

    async def slowly() -> AsyncIterator[bytes]:
        yield good * 2_000  # a whole piece
        service.clock += HOUR
        yield bad

    assert (await service.lines(slowly(), {"X-Sent-At": to_iso(NOW - DAY)})).json()["accepted"] == 2_000

    (letter,) = service.dead()
    body = reader_of(letter)(letter.payload.replace(b'""', b'"a"'))
    assert isinstance(body, EventBody)
    assert body.event_timestamp == to_iso(NOW)


@pytest.mark.parametrize("stated", ["yesterday", "1795307421", "2026-13-01T00:00:00Z", ""])
async def test_a_header_or_a_single_event_whose_time_is_none_is_refused(service: Service, stated: str) -> None:
    event = {"event_type": "a"}
    answers = [
        await service.one(event, **{"X-Sent-At": stated}),
        await service.one({**event, "sent_at": stated}),
        await service.batch([event], **{"X-Sent-At": stated}),
        await service.lines(json.dumps(event).encode(), {"X-Sent-At": stated}),
    ]

    assert [(answer.status_code, answer.json()["reason"]) for answer in answers] == [
        (422, "timestamp_not_rfc3339")
    ] * 4
    assert service.stored() == []
