"""Events as the gateway takes them, and malformed ones as it must refuse them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import msgspec

from examples.imports.domain.behaviour import Malformation
from examples.imports.domain.events import AppEvent
from shared.clock import to_iso

EVENTS_PATH = "/api/v1/streaming-analytics/events"
BATCH_PATH = "/api/v1/streaming-analytics/events/batch"


def encode(event: AppEvent) -> bytes:
    """One event's JSON."""
    return msgspec.json.encode(_body(event))


def encode_malformed(event: AppEvent, malformation: Malformation) -> bytes:
    """JSON that parses and is no valid event. The standard library writes what strict encoders refuse to."""
    body = _body(event)
    data: dict[str, Any] = {**event.data}
    if malformation is Malformation.NUL:
        data["comment"] = "left\x00right"
    elif malformation is Malformation.HUGE_INTEGER:
        data["rowCount"] = 2**70
    elif malformation is Malformation.LONE_SURROGATE:
        data["comment"] = "\ud800"
    elif malformation is Malformation.BAD_TIMESTAMP:
        body["event_timestamp"] = "yesterday, about noon"
    elif malformation is Malformation.EMPTY_TYPE:
        body["event_type"] = ""
    return json.dumps({**body, "event_data": data}).encode()


def batch(encoded: Sequence[bytes]) -> bytes:
    """The body of a batch request."""
    return b'{"events":[' + b",".join(encoded) + b"]}"


def _body(event: AppEvent) -> dict[str, Any]:
    body: dict[str, Any] = {
        "event_id": event.event_id,
        "event_type": event.event_type,
        "event_timestamp": to_iso(event.time),
        "user_id": event.user_id,
        "session_id": event.session_id,
        "event_data": event.data,
    }
    if event.job_id is not None:
        body["job_id"] = event.job_id
    return body
