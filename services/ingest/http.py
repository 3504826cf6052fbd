"""The hot path: events in over HTTP, answered when Kafka has them.

Bare ASGI, because a framework's route costs more than all the rest. Every other path goes to `rest`.
"""

from __future__ import annotations

import asyncio

import msgspec

from services.ingest.domain.batch_body import BatchFault, NoBatch, events_of
from services.ingest.domain.client_context import context_of
from services.ingest.domain.normalise import Reason, Rejected, read_event
from services.ingest.intake import EVENTS_PER_TURN, Given, Intake, Sender
from shared.http import AsgiApp, AsgiScope, Problem, Receive, Send, read_body, send_response
from shared.keys import Principal
from shared.messages import Event, Scope

EVENT_PATH = "/api/v1/streaming-analytics/events"
BATCH_PATH = "/api/v1/streaming-analytics/events/batch"


def needed_scope(method: str, path: str) -> Scope | None:
    """Sending takes an ingest key, looking a read key; the schema is open."""
    if path in (EVENT_PATH, BATCH_PATH):
        return "ingest"
    return None if path.startswith("/api/v1/openapi/") else "read"


def sender_of(scope: AsgiScope, origin: str = "http") -> Sender:
    """Who sent a request that has been let in."""
    principal: Principal = scope["principal"]
    return Sender(principal.organisation, context_of(scope["headers"]), origin)


class EventRoutes:
    """`POST …/events` and `POST …/events/batch` in front of the application `rest`."""

    def __init__(self, intake: Intake, rest: AsgiApp) -> None:
        self._intake = intake
        self._rest = rest

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        path = scope.get("path")
        if path == EVENT_PATH:
            handle = self._one
        elif path == BATCH_PATH:
            handle = self._batch
        else:
            await self._rest(scope, receive, send)
            return
        if scope["method"] != "POST":
            raise Problem(405, "method_not_allowed", "events are sent with POST", headers={"Allow": "POST"})
        _check_headers(scope["headers"])
        body = await read_body(receive)
        self._intake.check_room()
        await handle(scope, body, send)

    async def _one(self, scope: AsgiScope, body: bytes, send: Send) -> None:
        (verdict,) = await self._intake.take([_given(body)], sender_of(scope))
        if isinstance(verdict, Rejected):
            raise Problem(422, verdict.reason.value, verdict.detail, extra={"event_id": verdict.event_id})
        await send_response(send, 202, _ENCODER.encode(_accepted(verdict)))

    async def _batch(self, scope: AsgiScope, body: bytes, send: Send) -> None:
        raws = events_of(body)
        if isinstance(raws, NoBatch):
            status = 400 if raws.fault is BatchFault.MALFORMED else 422
            raise Problem(status, raws.fault.value, raws.detail)
        given: list[Given] = []
        for raw in raws:
            given.append(_given(raw))
            if not len(given) % EVENTS_PER_TURN:
                await asyncio.sleep(0)
        verdicts = await self._intake.take(given, sender_of(scope))
        answer = {
            "accepted": sum(isinstance(verdict, Event) for verdict in verdicts),
            "results": [_accepted(v) if isinstance(v, Event) else _invalid(v) for v in verdicts],
        }
        if not answer["accepted"]:
            raise Problem(422, "no_event_accepted", "every event of the batch is invalid", extra=answer)
        await send_response(send, 202, _ENCODER.encode(answer))


def _given(raw: bytes) -> Given:
    """Raises Problem for what is no JSON: the whole body was none then, and nothing of it counts."""
    body = read_event(raw)
    if isinstance(body, Rejected) and body.reason is Reason.MALFORMED:
        raise Problem(400, body.reason.value, body.detail)
    return raw, body


_ENCODER = msgspec.json.Encoder()


def _accepted(event: Event) -> dict[str, str]:
    return {"event_id": event.event_id, "status": "accepted"}


def _invalid(rejected: Rejected) -> dict[str, str | None]:
    return {
        "event_id": rejected.event_id,
        "status": "invalid",
        "reason": rejected.reason.value,
        "detail": rejected.detail,
    }


def _check_headers(headers: list[tuple[bytes, bytes]]) -> None:
    for name, value in headers:
        if name == b"content-encoding" and value.strip().lower() not in (b"", b"identity"):
            raise Problem(415, "unsupported_content_encoding", "send the body without Content-Encoding")
        if name == b"content-type":
            media_type = value.partition(b";")[0].strip().lower()
            if media_type and not media_type.endswith((b"/json", b"+json")):
                raise Problem(415, "unsupported_media_type", "send application/json")
