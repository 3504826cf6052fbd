"""The OpenAPI description of the hot path, which no framework knows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import msgspec

from services.ingest.domain.batch_body import MAX_BATCH_EVENTS
from services.ingest.domain.client_context import CONTEXT_HEADERS
from services.ingest.domain.content_encoding import ACCEPTED_CODINGS, MAX_CODINGS
from services.ingest.domain.idempotency import MAX_KEY_CHARACTERS
from services.ingest.domain.normalise import EventBody
from services.ingest.domain.prediction_body import PredictionBody
from services.ingest.domain.sent_at import HEADER as SENT_AT_HEADER
from services.ingest.domain.upload import MAX_INVALID, MAX_SHOWN
from services.ingest.http import BATCH_PATH, EVENT_PATH, PREDICTION_PATH
from services.ingest.ndjson import MAX_FILE, UploadLimits
from shared.http import KEY_SECURITY, MAX_BODY

_MIB = 1024 * 1024

_BODIES = f"""
A body may have {MAX_BODY // _MIB} MiB, as it is sent and after its encoding has been undone."""

_ONE_EXAMPLE = f"""

```sh
curl -X POST -H "X-API-Key: $KEY" -H 'Content-Type: application/json' -H 'Idempotency-Key: order-7' \\
  -d '{{"event_type": "order_completed", "user_id": "user-1"}}' http://127.0.0.1:8080{EVENT_PATH}
```"""

_BATCH_EXAMPLE = f"""

```sh
gzip -c batch.json | curl -X POST -H "X-API-Key: $KEY" -H 'Content-Type: application/json' \\
  -H 'Content-Encoding: gzip' --data-binary @- http://127.0.0.1:8080{BATCH_PATH}
```"""

_PREDICTION_EXAMPLE = f"""

```sh
curl -X POST -H "X-API-Key: $KEY" -H 'Content-Type: application/json' \\
  -d '{{"prediction_type": "customer_churn", "input_data": {{"customer_id": 123}},
       "prediction_result": {{"churn_probability": 0.73}}, "model_id": 10, "confidence_score": 0.89}}' \\
  http://127.0.0.1:8080{PREDICTION_PATH}
```

It becomes an event of type `prediction`, counted like any other: `event_data` holds all that is no field of events.
Fields of your own are kept. Many at once are sent as events of that type."""

_LINES = f"""

**An event a line** (`application/x-ndjson`, also `application/jsonl` and the like): blank lines are skipped, and a
line that is no JSON is an invalid event like any other. Such a body may have {MAX_FILE // _MIB} MiB and
{UploadLimits().lines:,} events; it is taken in piece by piece, each of which Kafka has before the next is read. A
body of at most {MAX_BATCH_EVENTS:,} lines gets a verdict for each of them; of a longer one, the first {MAX_SHOWN:,}
invalid lines are named. Whatever ends an upload early (`503`; `413`; `400` if it breaks off; `422` after
{MAX_INVALID:,} invalid lines), the problem carries `next_line`: what stands before it has been taken in. Send what
stands from there with `?first_line=` that number, or send the whole file again: what has an `event_id` counts once.
A line without one counts again, unless both uploads carry the same `Idempotency-Key`.

```sh
zstd -c events.ndjson | curl -X POST -T - -H "X-API-Key: $KEY" -H 'Content-Type: application/x-ndjson' \\
  -H 'Content-Encoding: zstd' http://127.0.0.1:8080{BATCH_PATH}
tail -n +86001 events.ndjson | curl -X POST -T - -H "X-API-Key: $KEY" -H 'Content-Type: application/x-ndjson' \\
  'http://127.0.0.1:8080{BATCH_PATH}?first_line=86001'
```"""


_SENT_AT_IS = (
    "When this request is sent (RFC 3339), anew at each attempt, by the clock that gave the events their times. Then "
    "each time is put right by the difference to our clock; the stated one stays as `context.originalTimestamp`."
)


class SingleBody(EventBody):
    """An event, and when it is sent."""

    sent_at: Annotated[str, msgspec.Meta(description=_SENT_AT_IS)] | None = None


class BatchBody(msgspec.Struct):
    """Events that are judged one by one."""

    events: list[EventBody]
    sent_at: Annotated[str, msgspec.Meta(description=_SENT_AT_IS)] | None = None


_Status = Literal["accepted", "invalid", "quarantined", "dropped"]
"""`quarantined` and `dropped` events are valid; the organisation's rules keep them out of `events.v1`."""


class AcceptedEvent(msgspec.Struct, omit_defaults=True):
    event_id: str
    status: Literal["accepted"]
    warning: str | None = None
    """How the event does not fit its event type's schema, if that only warns."""


class EventSetAside(msgspec.Struct):
    """Valid, and yet not stored: kept as a dead letter (`quarantined`), or not at all (`dropped`)."""

    event_id: str
    status: Literal["quarantined", "dropped"]
    reason: str
    detail: str


class EventVerdict(msgspec.Struct, omit_defaults=True):
    event_id: str | None
    status: _Status
    reason: str | None = None
    detail: str | None = None
    warning: str | None = None


class LineVerdict(msgspec.Struct, omit_defaults=True):
    """`line` counts from 1, or from `first_line`; blank lines count too."""

    line: int
    event_id: str | None
    status: _Status
    reason: str | None = None
    detail: str | None = None
    warning: str | None = None


class BatchAnswer(msgspec.Struct):
    """One verdict per event, in the order of the request; `accepted` counts those that are stored."""

    accepted: int
    results: list[EventVerdict]


class UploadAnswer(msgspec.Struct):
    """`next_line` is the first one that has not been taken in."""

    accepted: int
    invalid: int
    set_aside: int
    next_line: int
    results: list[LineVerdict]


class ProblemDetails(msgspec.Struct):
    """RFC 9457; `reason` is for programs, `detail` for people."""

    type: str
    title: str
    status: int
    reason: str
    detail: str


def add_event_routes(schema: dict[str, Any]) -> None:
    """Adds the operations, and the components they refer to, to an OpenAPI document."""
    answered = (AcceptedEvent, EventSetAside, BatchAnswer, UploadAnswer, ProblemDetails)
    described = (SingleBody, BatchBody, PredictionBody, *answered)
    refs, components = msgspec.json.schema_components(described, ref_template="#/components/schemas/{name}")
    body, batch, prediction, accepted, set_aside, answer, upload_answer, problem = refs
    schema.setdefault("components", {}).setdefault("schemas", {}).update(components)
    schema["paths"][EVENT_PATH] = {
        "post": _operation(
            "Send one event",
            "send_event",
            description=_BODIES + _ONE_EXAMPLE,
            bodies={"application/json": {"schema": body}},
            answers=[accepted, set_aside],
            problem=problem,
        )
    }
    schema["paths"][PREDICTION_PATH] = {
        "post": _operation(
            "Record prediction",
            "record_prediction",
            description=_BODIES + _PREDICTION_EXAMPLE,
            bodies={"application/json": {"schema": prediction}},
            answers=[accepted, set_aside],
            problem=problem,
        )
    }
    lines = {"schema": {"type": "string"}, "example": _LINES_EXAMPLE}
    schema["paths"][BATCH_PATH] = {
        "post": _operation(
            f"Send up to {MAX_BATCH_EVENTS:,} events, or a file with one a line",
            "send_events",
            description=_BODIES + _BATCH_EXAMPLE + _LINES,
            bodies={"application/json": {"schema": batch}, "application/x-ndjson": lines},
            answers=[answer, upload_answer],
            problem=problem,
            parameters=[_FIRST_LINE],
        )
    }


_LINES_EXAMPLE = (
    '{"event_type": "order_completed", "event_id": "o-1", "user_id": "user-1"}\n'
    '{"event_type": "order_completed", "event_id": "o-2", "user_id": "user-2"}\n'
)

_FIRST_LINE = {
    "in": "query",
    "name": "first_line",
    "required": False,
    "schema": {"type": "integer", "minimum": 1, "default": 1},
    "description": "With lines: the number that the body's first one has in its file",
}

_ENCODING = {
    "in": "header",
    "name": "Content-Encoding",
    "required": False,
    "schema": {"type": "string"},
    "description": (
        f"How the body is compressed: {ACCEPTED_CODINGS}, or up to {MAX_CODINGS} of them in the order in which they "
        "were applied"
    ),
}

_SENT_AT = {
    "in": "header",
    "name": SENT_AT_HEADER,
    "required": False,
    "schema": {"type": "string", "format": "date-time"},
    "description": f"For bodies that do not say it as `sent_at`, such as lines. {_SENT_AT_IS}",
}

_IDEMPOTENCY_KEY = {
    "in": "header",
    "name": "Idempotency-Key",
    "required": False,
    "schema": {"type": "string", "minLength": 1, "maxLength": MAX_KEY_CHARACTERS},
    "description": (
        "An event without `event_id` gets one that follows from this key and its place in the request, so that "
        "sending the request again counts nothing twice. New events take a new key: under the old one they would be "
        "the old events."
    ),
}

_PROBLEMS = {
    "400": "The body is no JSON or cannot be decoded, or the Idempotency-Key is none",
    "401": "No valid API key",
    "403": "The key may not send events",
    "408": "The body stopped coming",
    "413": "The body is too large, before or after decoding",
    "415": "The body has an unknown encoding (`Accept-Encoding` lists the known ones) or media type (`Accept-Post`)",
    "422": "No event was accepted; `reason` says why",
    "429": "The key has sent as many events as it may; send the request again after `Retry-After` seconds",
    "503": "Kafka has not confirmed the events; send the request again after `Retry-After` seconds",
}


def _operation(
    summary: str,
    operation_id: str,
    *,
    description: str,
    bodies: dict[str, Any],
    answers: Sequence[dict[str, Any]],
    problem: dict[str, Any],
    parameters: Sequence[dict[str, Any]] = (),
) -> dict[str, Any]:
    answer = {"anyOf": list(answers)} if len(answers) > 1 else answers[0]
    return {
        "tags": ["events"],
        "summary": summary,
        "description": description.strip(),
        "operationId": operation_id,
        "security": KEY_SECURITY,
        "parameters": [
            *parameters,
            _IDEMPOTENCY_KEY,
            _SENT_AT,
            _ENCODING,
            *(
                {
                    "in": "header",
                    "name": name.decode().title(),
                    "required": False,
                    "schema": {"type": "string"},
                    "description": f"Becomes `context.{field}` where the event states none",
                }
                for name, field in CONTEXT_HEADERS.items()
            ),
        ],
        "requestBody": {"required": True, "content": bodies},
        "responses": {
            "202": {"description": "Kafka has the events", "content": {"application/json": {"schema": answer}}},
            **{
                status: {"description": text, "content": {"application/problem+json": {"schema": problem}}}
                for status, text in _PROBLEMS.items()
            },
        },
    }
