"""Everything ingest serves that is not the hot path, and the schema of all of it."""

from __future__ import annotations

from typing import Any, Literal

import msgspec
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from services.ingest.dead_letters import Records, dead_letter_routes
from services.ingest.domain.batch_body import MAX_BATCH_EVENTS
from services.ingest.domain.client_context import CONTEXT_HEADERS
from services.ingest.domain.normalise import EventBody, Reason
from services.ingest.http import BATCH_PATH, EVENT_PATH
from shared.http import KEY_SECURITY, new_api

_REASONS = ", ".join(f"`{reason.value}`" for reason in Reason)

_DESCRIPTION = f"""Takes events in and answers when Kafka has them.

An event is valid or comes back with one of the reasons {_REASONS}.
Sending the same `event_id` again is safe: it is counted once. After a 503, send the whole request again.
"""


class BatchBody(msgspec.Struct):
    """Events that are judged one by one."""

    events: list[EventBody]


class AcceptedEvent(msgspec.Struct):
    event_id: str
    status: Literal["accepted"]


class EventVerdict(msgspec.Struct, omit_defaults=True):
    event_id: str | None
    status: Literal["accepted", "invalid"]
    reason: str | None = None
    detail: str | None = None


class BatchAnswer(msgspec.Struct):
    """One verdict per event, in the order of the request."""

    accepted: int
    results: list[EventVerdict]


class ProblemDetails(msgspec.Struct):
    """RFC 9457; `reason` is for programs, `detail` for people."""

    type: str
    title: str
    status: int
    reason: str
    detail: str


def ingest_api(dead_letters: Records) -> FastAPI:
    """The routes behind the hot path; its schema describes the hot path too."""
    api = new_api("Tidegate ingest", "ingest", _DESCRIPTION)
    api.include_router(dead_letter_routes(dead_letters))

    def whole_schema() -> dict[str, Any]:
        if api.openapi_schema is None:
            schema = get_openapi(
                title=api.title,
                version=api.version,
                openapi_version=api.openapi_version,
                description=_DESCRIPTION,
                routes=api.routes,
            )
            _add_event_routes(schema)
            api.openapi_schema = schema
        return api.openapi_schema

    api.openapi = whole_schema  # type: ignore[method-assign]  # FastAPI's documented way to extend the schema
    return api


def _add_event_routes(schema: dict[str, Any]) -> None:
    described = (EventBody, BatchBody, AcceptedEvent, BatchAnswer, ProblemDetails)
    refs, components = msgspec.json.schema_components(described, ref_template="#/components/schemas/{name}")
    body, batch, accepted, answer, problem = refs
    schema.setdefault("components", {}).setdefault("schemas", {}).update(components)
    schema["paths"][EVENT_PATH] = {"post": _operation("Send one event", "send_event", body, accepted, problem)}
    schema["paths"][BATCH_PATH] = {
        "post": _operation(f"Send up to {MAX_BATCH_EVENTS:,} events", "send_events", batch, answer, problem)
    }


def _operation(
    summary: str, operation_id: str, body: dict[str, Any], answer: dict[str, Any], problem: dict[str, Any]
) -> dict[str, Any]:
    problems = {
        "400": "The body is no JSON",
        "401": "No valid API key",
        "403": "The key may not send events",
        "413": "The body is too large",
        "415": "The body is encoded, or of another media type than JSON",
        "422": "No event was accepted; `reason` says why",
        "503": "Kafka has not confirmed the events; send the request again after `Retry-After` seconds",
    }
    return {
        "tags": ["events"],
        "summary": summary,
        "operationId": operation_id,
        "security": KEY_SECURITY,
        "parameters": [
            {
                "in": "header",
                "name": name.decode().title(),
                "required": False,
                "schema": {"type": "string"},
                "description": f"Becomes `context.{field}` where the event states none",
            }
            for name, field in CONTEXT_HEADERS.items()
        ],
        "requestBody": {"required": True, "content": {"application/json": {"schema": body}}},
        "responses": {
            "202": {"description": "Kafka has the events", "content": {"application/json": {"schema": answer}}},
            **{
                status: {"description": text, "content": {"application/problem+json": {"schema": problem}}}
                for status, text in problems.items()
            },
        },
    }
