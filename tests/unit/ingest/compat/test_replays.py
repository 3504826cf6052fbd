"""A dead letter in another product's format can be read again by itself."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import pytest

from services.ingest.domain.letters.readers import reader_of
from services.ingest.domain.normalise import EventBody
from shared.clock import to_datetime, to_iso
from shared.messages import DeadLetter
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
    body = read(origin, json.dumps(payload).encode())

    assert isinstance(body, EventBody)
    assert body.event_id in ("m-1", payload.get("uuid"), "/shop 1")
    assert body.event_timestamp is not None
    assert datetime.fromisoformat(body.event_timestamp) == to_datetime(NOW)


async def test_every_origin_has_a_reader(service: Service) -> None:
    await service.send("/v1/batch", {"batch": [track(event="")]}, {**JSON, **BASIC})
    await service.send("/batch/", batch(captured(event="")))
    await service.send("/cloudevents", event(type=""), {**BASIC, "Content-Type": "application/cloudevents+json"})

    letters = service.dead()
    assert {letter.origin for letter in letters} == {"segment", "posthog", "cloudevents"}
    for letter in letters:
        mended = reader_of(letter)(letter.payload.replace(b'""', b'"Viewed"'))
        assert isinstance(mended, EventBody)
        assert mended.event_type == "Viewed"


async def test_a_call_whose_path_said_what_it_is_can_be_read_without_its_path(service: Service) -> None:
    for body in ({"userId": "u", "event": ""}, {"userId": "u", "event": "", "type": "track"}):
        assert (await service.send("/v1/track", body, {**JSON, **BASIC})).status_code == 422

    for letter in service.dead():
        assert json.loads(letter.payload) == {"type": "track", "userId": "u", "event": ""}
        mended = reader_of(letter)(letter.payload.replace(b'""', b'"Viewed"'))
        assert isinstance(mended, EventBody)
        assert mended.event_type == "Viewed"


HOUR = 3_600_000_000


@pytest.mark.parametrize("product", ["segment", "posthog"])
async def test_clocks_that_were_an_hour_ahead_are_put_right_when_a_letter_is_replayed_later(
    service: Service, product: str
) -> None:
    times: dict[str, Any] = {"timestamp": iso(NOW + HOUR - 5_000_000)}
    if product == "segment":
        body = {"batch": [track(event="", **times)], "sentAt": iso(NOW + HOUR)}
        await service.send("/v1/batch", body, {**JSON, **BASIC})
    else:
        await service.send("/batch/", {**batch(captured(event="", **times)), "sent_at": iso(NOW + HOUR)})

    (letter,) = service.dead()

    mended = reader_of(letter)(letter.payload.replace(b'""', b'"Viewed"'))
    assert isinstance(mended, EventBody)
    assert mended.event_timestamp == to_iso(letter.received_at - 5_000_000)


def test_a_time_sent_over_http_is_put_right_by_what_its_batch_said() -> None:
    happened = b'{"event_type":"a","event_timestamp":"%s"}' % iso(NOW + HOUR - 5_000_000).encode()

    body = read("http", happened, sent_at=iso(NOW + HOUR))

    assert isinstance(body, EventBody)
    assert body.event_timestamp == to_iso(NOW - 5_000_000)
    assert read("http", b"{}", sent_at=iso(NOW)) == read("http", b"{}")


def read(origin: str, payload: bytes, sent_at: str | None = None) -> Any:
    letter = DeadLetter(
        id="l",
        organisation="acme",
        reason="",
        detail="",
        origin=origin,
        received_at=NOW,
        payload=payload,
        sent_at=sent_at,
    )
    return reader_of(letter)(payload)
