"""The OpenAPI description of what other products' clients use. Their variants of a path are left out."""

from __future__ import annotations

from typing import Any

from services.ingest.domain.compat.segment import CALLS, MAX_BATCH_BYTES, MAX_MESSAGE_BYTES
from shared.http import KEY_SECURITY

_PROBLEM = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/ProblemDetails"}}}
_PROBLEMS = {
    "400": "The body is no JSON",
    "401": "No valid API key",
    "403": "The key may not send events",
    "413": "The body is too large",
    "415": "The body is encoded, or of a format, that is not understood",
    "422": "No event was accepted; `reason` says why",
    "429": "The key has sent as many events as it may; send the request again after `Retry-After` seconds",
    "503": "Kafka has not confirmed the events; send the request again after `Retry-After` seconds",
}
_OBJECT = {"type": "object"}
_SUCCESS = {"type": "object", "properties": {"success": {"type": "boolean"}}, "required": ["success"]}
_STATUS = {"type": "object", "properties": {"status": {"type": "integer"}}, "required": ["status"]}
_RESULTS = {"type": "object", "properties": {"results": _OBJECT}, "required": ["results"]}
_VERDICT = {
    "oneOf": [
        {"$ref": "#/components/schemas/AcceptedEvent"},
        {"$ref": "#/components/schemas/EventSetAside"},
        {"$ref": "#/components/schemas/BatchAnswer"},
    ],
}
_JSON = "application/json"


def add_compatible_routes(schema: dict[str, Any]) -> None:
    """Adds the operations to an OpenAPI document that describes the hot path already."""
    paths = schema["paths"]
    for call in CALLS:
        text = f"A message of at most {MAX_MESSAGE_BYTES // 1024} KB; the key may be its `writeKey`."
        paths[f"/v1/{call}"] = _post("segment", f"Segment's {call} call", text, {_JSON: _OBJECT}, "200", _SUCCESS)
    text = (
        f"Messages in `batch`, at most {MAX_BATCH_BYTES // 1024} KB; the key may be the `writeKey` beside it. "
        "Those that are invalid become dead letters and stand in `rejected`."
    )
    paths["/v1/batch"] = _post("segment", "Segment's calls in a batch", text, {_JSON: _OBJECT}, "200", _SUCCESS)
    text = (
        "One event, a list, or `batch` with a list; the key may be `api_key` or `token`. Also at `/e` and `/i/v0/e`."
    )
    either = {_JSON: {"oneOf": [_OBJECT, {"type": "array", "items": _OBJECT}]}}
    for path in ("/capture", "/batch"):
        paths[path] = _post("posthog", f"PostHog's {path}", text, either, "200", _STATUS)
    text = "Events in `batch`. Each has its result by `uuid`: `ok`, or `drop` for what has become a dead letter."
    paths["/i/v1/analytics/events"] = _post(
        "posthog", "PostHog's events with a result for each", text, {_JSON: _OBJECT}, "200", _RESULTS
    )
    text = "An event, a batch of events, or an event's data with its attributes in `ce-` headers."
    formats = {
        "application/cloudevents+json": _OBJECT,
        "application/cloudevents-batch+json": {"type": "array", "items": _OBJECT},
        _JSON: {},
    }
    paths["/cloudevents"] = _post("cloudevents", "CloudEvents 1.0 over HTTP", text, formats, "202", _VERDICT)


def _post(
    tag: str, summary: str, description: str, bodies: dict[str, Any], status: str, answer: dict[str, Any]
) -> dict[str, Any]:
    operation = {
        "tags": [tag],
        "summary": summary,
        "description": description,
        "security": KEY_SECURITY,
        "requestBody": {
            "required": True,
            "content": {media_type: {"schema": body} for media_type, body in bodies.items()},
        },
        "responses": {
            status: {"description": "Kafka has the events", "content": {_JSON: {"schema": answer}}},
            **{problem: {"description": text, "content": _PROBLEM} for problem, text in _PROBLEMS.items()},
        },
    }
    return {"post": operation}
