"""A dead letter in another product's format can be read again by itself."""

from __future__ import annotations

import json
from typing import Any

import pytest

from services.ingest.domain.compat import READERS
from services.ingest.domain.normalise import EventBody
from tests.unit.ingest.compat.service import BASIC, JSON, NOW, Service, iso
from tests.unit.ingest.compat.test_cloudevents import event
from tests.unit.ingest.compat.test_posthog import batch, captured
from tests.unit.ingest.compat.test_segment import track


@pytest.mark.parametrize(
    ("origin", "payload"),
    [
        ("segment", track(1, timestamp=iso(NOW), sentAt=iso(NOW))),
        ("posthog", captured(timestamp=iso(NOW), sent_at=iso(NOW))),
        ("cloudevents", event(time=iso(NOW))),
    ],
)
def test_what_is_valid_is_read_as_it_was_sent(origin: str, payload: dict[str, Any]) -> None:
    body = READERS[origin](json.dumps(payload).encode())

    assert isinstance(body, EventBody)
    assert body.event_id in ("m-1", payload.get("uuid"), "/shop 1")
    assert body.event_timestamp == iso(NOW)


async def test_every_origin_has_a_reader(service: Service) -> None:
    await service.send("/v1/batch", {"batch": [track(event="")]}, {**JSON, **BASIC})
    await service.send("/batch/", batch(captured(event="")))
    await service.send("/cloudevents", event(type=""), {**BASIC, "Content-Type": "application/cloudevents+json"})

    letters = service.dead()
    assert {letter.origin for letter in letters} == READERS.keys()


async def test_a_call_whose_path_said_what_it_is_can_be_read_without_its_path(service: Service) -> None:
    for body in ({"userId": "u", "event": ""}, {"userId": "u", "event": "", "type": "track"}):
        assert (await service.send("/v1/track", body, {**JSON, **BASIC})).status_code == 422

    for letter in service.dead():
        assert json.loads(letter.payload) == {"type": "track", "userId": "u", "event": ""}
        read = READERS["segment"](letter.payload.replace(b'""', b'"Viewed"'))
        assert isinstance(read, EventBody)
        assert read.event_type == "Viewed"
