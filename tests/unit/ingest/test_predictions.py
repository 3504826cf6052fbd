"""Predictions over HTTP: one flat object each, an event of type `prediction` in the log, and a copy to list."""

from __future__ import annotations

import json
from typing import Any

import pytest

from services.ingest.domain.normalise import MAX_EVENT_BYTES, EventBody, Rejected
from services.ingest.domain.prediction_body import read_prediction
from services.ingest.event_log import Cause, NotStoredError
from services.ingest.http import PREDICTION_PATH
from services.ingest.prediction_copies import CopiedPredictions
from shared.clock import to_iso
from shared.messages import Event
from shared.topics import EVENTS
from tests.unit.ingest.fakes import MemoryLog
from tests.unit.ingest.service import JSON, NOW, Service

SEED: dict[str, Any] = {
    "prediction_type": "customer_churn",
    "input_data": {"customer_id": 123, "recent_activity": 5, "days_since_purchase": 45},
    "prediction_result": {"churn_probability": 0.73, "risk_level": "high"},
    "model_id": 10,
    "confidence_score": 0.89,
}


async def test_a_prediction_is_answered_with_its_id_once_it_is_an_event() -> None:
    service = Service()
    answer = await service.client.post(PREDICTION_PATH, json=SEED)
    (event,) = service.stored()
    assert (answer.status_code, answer.json()) == (202, {"event_id": event.event_id, "status": "accepted"})
    assert (event.event_type, event.time, event.properties) == ("prediction", NOW, SEED)


async def test_what_events_have_too_is_the_events_own_and_the_rest_is_kept() -> None:
    service = Service()
    own = {"event_id": "p-1", "user_id": 42, "session_id": "s", "data_source_id": 7, "context": {"appVersion": "3"}}
    said = {**SEED, **own, "timestamp": to_iso(NOW - 5_000_000), "latency_ms": 12}
    assert (await service.client.post(PREDICTION_PATH, json=said)).status_code == 202
    (event,) = service.stored()
    assert (event.event_id, event.user_id, event.session_id, event.data_source_id) == ("p-1", "42", "s", 7)
    assert event.context["appVersion"] == "3"
    assert event.time == NOW - 5_000_000
    assert event.properties == {**SEED, "latency_ms": 12}


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"prediction_type": None}, "`prediction_type`"),
        ({"input_data": [1]}, "`input_data`"),
        ({"prediction_result": "high"}, "`prediction_result`"),
        ({"confidence_score": 1.5}, "`confidence_score`"),
        ({"confidence_score": -0.1}, "`confidence_score`"),
        ({"confidence_score": "0.9"}, "`confidence_score`"),
        ({"model_id": {}}, "`model_id`"),
        ({"user_id": []}, "user_id"),
        ({"data_source_id": 0}, "data_source_id"),
        ({"timestamp": 1_729_593_000}, "timestamp"),
        ({"timestamp": "yesterday"}, "timestamp"),
        ({"context": "phone"}, "context"),
    ],
    ids=str,
)
async def test_a_faulty_one_is_refused_with_the_field_and_kept_as_it_was_sent(
    changed: dict[str, Any], named: str
) -> None:
    service = Service()
    sent = {"event_id": "p-1", **SEED, **changed}
    answer = await service.client.post(PREDICTION_PATH, json=sent)
    problem = answer.json()
    assert (answer.status_code, problem["event_id"]) == (422, "p-1")
    assert named in problem["detail"]
    (letter,) = service.dead()
    assert (letter.origin, json.loads(letter.payload), letter.reason) == ("prediction", sent, problem["reason"])
    assert not service.stored()


async def test_without_its_type_it_is_no_prediction() -> None:
    service = Service()
    answer = await service.client.post(
        PREDICTION_PATH, json={k: v for k, v in SEED.items() if k != "prediction_type"}
    )
    assert (answer.status_code, answer.json()["reason"]) == (422, "schema_violation")


async def test_what_is_no_json_is_no_request() -> None:
    service = Service()
    answer = await service.client.post(PREDICTION_PATH, content=b"{", headers=JSON)
    assert (answer.status_code, answer.json()["reason"], service.dead()) == (400, "malformed_json", [])
    for content, reason in ((b"[]", "schema_violation"), (b'{"prediction_type":"\\u0000"}', "nul_character")):
        answer = await service.client.post(PREDICTION_PATH, content=content, headers=JSON)
        assert (answer.status_code, answer.json()["reason"]) == (422, reason)


async def test_the_same_idempotency_key_names_the_same_prediction() -> None:
    service = Service()
    answers = [
        await service.client.post(PREDICTION_PATH, json=SEED, headers={"Idempotency-Key": "k"}) for _ in range(2)
    ]
    assert answers[0].json() == answers[1].json()


def test_a_prediction_may_be_as_deep_and_as_long_as_the_event_that_it_becomes() -> None:
    def nested(levels: int) -> bytes:
        inner = "{" + '"a":{' * (levels - 1) + "}" * levels
        return f'{{"prediction_type":"x","prediction_result":{{}},"input_data":{inner}}}'.encode()

    assert isinstance(read_prediction(nested(62)), EventBody)
    found = read_prediction(nested(63))
    assert isinstance(found, Rejected)
    assert found.reason.value == "too_deep"
    long = read_prediction(b'{"prediction_type":"' + b"x" * MAX_EVENT_BYTES + b'"}')
    assert isinstance(long, Rejected)
    assert long.reason.value == "event_too_large"


def _record(event_type: str, properties: dict[str, Any], *, id: str = "e") -> tuple[str, bytes]:
    event = Event(
        organisation="acme", event_id=id, event_type=event_type, time=NOW, received_at=NOW, properties=properties
    )
    return EVENTS.key(event), EVENTS.encode(event)


async def test_predictions_alone_are_copied_whatever_others_hold() -> None:
    events, copies = MemoryLog(), MemoryLog()
    prediction = _record("prediction", SEED)
    lying = '"event_type":"{}"'.format
    misnamed = _record("prediction", SEED, id=lying("click"))
    others = [
        _record("click", {}),
        _record("click", {"event_type": "prediction"}),
        _record("click", {}, id=lying("prediction")),
        _record("predictions", {}),
        _record('prediction"', {}),
    ]
    await CopiedPredictions(events, copies).append([others[0], prediction, *others[1:], misnamed])
    assert {value for _, value in events.records()} == {value for _, value in [*others, prediction, misnamed]}
    assert {value for _, value in copies.records()} == {prediction[1], misnamed[1]}


async def test_what_cannot_be_copied_is_not_counted_either() -> None:
    events, copies = MemoryLog(), MemoryLog()
    copies.refuses = Cause.FULL
    log = CopiedPredictions(events, copies)
    with pytest.raises(NotStoredError):
        await log.append([_record("prediction", SEED)])
    await log.append([_record("click", {})])
    assert len(events.records()) == 1
    events.refuses = Cause.STALE
    assert log.refusal() is Cause.STALE
