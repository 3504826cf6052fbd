"""Batches that say when they were sent, by a clock that may be wrong."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from services.ingest.domain.normalise import Reason
from services.ingest.domain.sent_at import NoSentAt, sent_at_of
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


def test_what_is_no_time_has_a_reason() -> None:
    found = sent_at_of(b'{"sent_at":1}')

    assert isinstance(found, NoSentAt)
    assert found.reason is Reason.TIMESTAMP
