"""Events on the wire, judged by ingest's own rules."""

from __future__ import annotations

import json

import pytest

from examples.imports.domain.behaviour import Malformation
from examples.imports.domain.events import AppEvent, Session
from examples.imports.wire import batch, encode, encode_malformed
from services.ingest.domain.batch_body import events_of
from services.ingest.domain.normalise import Reason, Rejected
from shared.clock import HOUR
from shared.messages import Event
from tests.unit.ingest.normalised import normalise

_NOW = 1_800_000_000_000_000


def _event(time: int = _NOW) -> AppEvent:
    return Session("key", "u").progress(time, percentage=50, stage="importing", variant="realtime")


def _judge(raw: bytes) -> Event | Rejected:
    return normalise(raw, organisation="o", received_at=_NOW, context={}, new_id=lambda: "new")


def test_a_valid_event_arrives_with_its_ids_its_true_time_and_its_fields() -> None:
    event = _event(_NOW - 28 * HOUR + 7)
    arrived = _judge(encode(event))
    assert isinstance(arrived, Event)
    assert (arrived.event_id, arrived.event_type, arrived.time) == (event.event_id, event.event_type, event.time)
    assert (arrived.user_id, arrived.session_id, arrived.job_id) == ("u", "session_u", "job_u")
    assert arrived.properties == event.data


@pytest.mark.parametrize(
    ("malformation", "reason"),
    [
        (Malformation.NUL, Reason.NUL),
        (Malformation.HUGE_INTEGER, Reason.INTEGER_RANGE),
        (Malformation.LONE_SURROGATE, Reason.SURROGATE),
        (Malformation.BAD_TIMESTAMP, Reason.TIMESTAMP),
        (Malformation.EMPTY_TYPE, Reason.EVENT_TYPE_EMPTY),
    ],
)
def test_a_malformed_event_parses_as_json_and_is_refused(malformation: Malformation, reason: Reason) -> None:
    raw = encode_malformed(_event(), malformation)
    assert json.loads(raw)["event_data"]["experimentKey"] == "key"
    verdict = _judge(raw)
    assert isinstance(verdict, Rejected)
    assert verdict.reason is reason


@pytest.mark.parametrize("malformation", list(Malformation))
def test_a_malformed_event_does_not_spoil_its_batch(malformation: Malformation) -> None:
    raws = events_of(batch([encode(_event()), encode_malformed(_event(), malformation), encode(_event())]))
    assert isinstance(raws, list)
    assert [isinstance(_judge(raw), Event) for raw in raws] == [True, False, True]
