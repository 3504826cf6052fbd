"""Telemetry is judged by the schema of its kind; the published schema says the same as the check."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]  # its stubs are another package

from services.ingest.domain.kinds.catalogue import TELEMETRY
from services.ingest.domain.kinds.schema import as_text, schema_of
from services.ingest.domain.normalise import Reason, Rejected, normalised, read_event
from services.ingest.domain.telemetry.kinds import ERROR_CODES, KINDS, PIPELINES
from shared.messages import Event

FILE = Path(__file__).parents[3] / "docs" / "telemetry.schema.json"
NOW = 1_729_593_000_000_000

VALID: dict[str, dict[str, Any]] = {
    "websocket_connected": {},
    "websocket_reconnected": {"reconnectCount": 1},
    "websocket_disconnected": {
        "pipeline": "csv_import",
        "connectionDuration": 45_000.5,
        "closeCode": 1006,
        "clean": False,
        "messageCount": 12,
        "messagesReceived": 3,
        "messagesSentBytes": 2_400,
        "averageMessageSize": 200,
        "throttledMessages": 30,
        "reconnectCount": 2.0,
    },
    "websocket_failed": {"error": "handshake timed out", "errorCode": "E_TOKEN_EXPIRED"},
    "websocket_job_started": {"pipeline": "batch_enrichment", "totalCount": 500},
    "websocket_job_completed": {"pipeline": "ai_scan", "duration": 1, "successCount": 4, "failureCount": 0},
    "websocket_job_failed": {"pipeline": "ai_scan", "duration": 0, "errorCode": None},
    "websocket_job_progress": {"pipeline": "ai_scan", "processedCount": 5, "totalCount": 9, "sampleRate": 0.1},
    "websocket_error": {"pipeline": "p", "errorCode": "E_GEMINI_TIMEOUT", "provider": "gemini", "retryable": True},
    "websocket_heartbeat": {"pipeline": "csv_import", "rttMs": 127},
    "websocket_throttled": {"pipeline": "csv_import"},
}


def body(event_type: str, data: dict[str, Any] | None, job_id: str | None = "job-1") -> dict[str, Any]:
    return {
        "event_type": event_type,
        **({} if data is None else {"event_data": data}),
        **({} if job_id is None else {"job_id": job_id}),
    }


def judged(event: dict[str, Any]) -> Event | Rejected:
    read = read_event(msgspec.json.encode({"event_id": "e-1", **event}))
    assert not isinstance(read, Rejected)
    return normalised(read, organisation="acme", received_at=NOW, context={}, new_id=lambda: "x")


def valid_by_schema(event: dict[str, Any]) -> bool:
    return bool(Draft202012Validator(schema_of(TELEMETRY)).is_valid(event))


def test_every_kind_has_an_example_here() -> None:
    assert set(VALID) == set(KINDS)


@pytest.mark.parametrize("kind", VALID)
def test_a_valid_one_is_an_event_like_any_other(kind: str) -> None:
    event = body(kind, VALID[kind])
    found = judged(event)
    assert isinstance(found, Event)
    assert found.properties == VALID[kind]
    assert valid_by_schema(event)


@pytest.mark.parametrize("kind", VALID)
def test_fields_of_ones_own_may_be_added(kind: str) -> None:
    event = body(kind, {**VALID[kind], "region": "eu", "tags": ["a"]})
    assert isinstance(judged(event), Event)
    assert valid_by_schema(event)


INVALID: list[tuple[str, dict[str, Any] | None, str]] = [
    ("websocket_reconnected", {}, "reconnectCount"),
    ("websocket_reconnected", {"reconnectCount": 0}, "reconnectCount"),
    ("websocket_disconnected", {"connectionDuration": "5"}, "connectionDuration"),
    ("websocket_disconnected", {"connectionDuration": -1}, "connectionDuration"),
    ("websocket_disconnected", {"connectionDuration": 1, "messageCount": 1.5}, "messageCount"),
    ("websocket_disconnected", {"connectionDuration": 1, "closeCode": 99}, "closeCode"),
    ("websocket_failed", {}, "error"),
    ("websocket_job_started", {}, "pipeline"),
    ("websocket_job_started", None, "pipeline"),
    ("websocket_job_started", {"pipeline": ""}, "pipeline"),
    ("websocket_job_completed", {"pipeline": "p"}, "duration"),
    ("websocket_job_progress", {"pipeline": "p", "processedCount": 1, "sampleRate": 0}, "sampleRate"),
    ("websocket_error", {"pipeline": "p"}, "errorCode"),
    ("websocket_error", {"pipeline": "p", "errorCode": "E", "retryable": "yes"}, "retryable"),
    ("websocket_heartbeat", {"pipeline": "p"}, "rttMs"),
    ("websocket_heartbeat", {"pipeline": "p", "rttMs": None}, "rttMs"),
    ("websocket_throttled", {"pipeline": "p", "throttledMessages": 0}, "throttledMessages"),
]


@pytest.mark.parametrize(("kind", "data", "field"), INVALID)
def test_a_violation_names_kind_and_field(kind: str, data: dict[str, Any] | None, field: str) -> None:
    event = body(kind, data)
    found = judged(event)
    assert isinstance(found, Rejected)
    assert (found.reason, found.event_id) == (Reason.SCHEMA, "e-1")
    assert found.detail.startswith(f"{kind}: ")
    assert field in found.detail
    assert not valid_by_schema(event)


@pytest.mark.parametrize("kind", [kind for kind in VALID if "_job_" in kind])
def test_what_is_told_of_a_job_names_the_job(kind: str) -> None:
    nameless = body(kind, VALID[kind], job_id=None)
    found = judged(nameless)
    assert isinstance(found, Rejected)
    assert "job_id" in found.detail
    assert not valid_by_schema(nameless)
    assert isinstance(judged(body(kind, {**VALID[kind], "jobId": 7}, job_id=None)), Event)


def test_other_types_are_nobodys_business() -> None:
    for event_type in ("error", "connected", "websocket_closed", "heartbeat"):
        assert isinstance(judged(body(event_type, {"pipeline": 5})), Event)
        assert valid_by_schema(body(event_type, {"pipeline": 5}))


def test_the_published_schema_is_valid_and_current() -> None:
    Draft202012Validator.check_schema(schema_of(TELEMETRY))
    current = FILE.read_text("utf-8") == as_text(TELEMETRY)
    assert current, "run `python -m services.ingest.domain.kinds.schema telemetry > docs/telemetry.schema.json`"


def test_pipelines_and_error_codes_of_the_reference_application_are_its_examples() -> None:
    text = as_text(TELEMETRY)
    assert all(f'"{name}"' in text for name in (*PIPELINES, *ERROR_CODES))
