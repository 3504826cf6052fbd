"""The hot path: events in over HTTP, answered when Kafka has them.

Bare ASGI, because a framework's route costs more than all the rest. Every other path goes to `rest`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec

from services.ingest.domain.batch_body import BatchFault, NoBatch, events_of
from services.ingest.domain.client_context import context_of
from services.ingest.domain.normalise import MAX_EVENT_BYTES, Reason, Rejected, normalise
from services.ingest.event_log import Cause, EventLog, NotStoredError, Record
from services.ingest.metrics import IngestMetrics
from shared.clock import Clock
from shared.http import AsgiApp, AsgiScope, Problem, Receive, Send, read_body, send_response, unavailable
from shared.keys import Principal
from shared.messages import DeadLetter, Event, Scope
from shared.topics import DEAD_LETTERS, EVENTS

EVENT_PATH = "/api/v1/streaming-analytics/events"
BATCH_PATH = "/api/v1/streaming-analytics/events/batch"

MAX_DEAD_LETTER_BYTES = MAX_EVENT_BYTES
"""What is longer is cut: it could never become an event."""

EVENTS_PER_TURN = 500
"""A long batch lets other requests have their turn after so many events (some 5 ms)."""


def needed_scope(method: str, path: str) -> Scope | None:
    """Sending takes an ingest key, looking a read key; the schema is open."""
    if path in (EVENT_PATH, BATCH_PATH):
        return "ingest"
    return None if path.startswith("/api/v1/openapi/") else "read"


class EventRoutes:
    """`POST …/events` and `POST …/events/batch` in front of the application `rest`.

    Events go to `events`, dead letters to `letters`; an answer waits for both. `new_id` names events that come
    without an id, and dead letters.
    """

    def __init__(
        self,
        *,
        events: EventLog,
        letters: EventLog,
        rest: AsgiApp,
        clock: Clock,
        new_id: Callable[[], str],
        metrics: IngestMetrics,
    ) -> None:
        self._events = events
        self._letters = letters
        self._rest = rest
        self._clock = clock
        self._new_id = new_id
        self._metrics = metrics

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
        refusal = self._events.refusal()
        if refusal is not None:  # before any work is spent on the body
            raise _unavailable(refusal)
        await handle(scope, body, send)

    async def _one(self, scope: AsgiScope, body: bytes, send: Send) -> None:
        verdict = (await self._judge([body], scope))[0]
        if isinstance(verdict, Event):
            await self._store([verdict], [])
            await send_response(send, 202, _ENCODER.encode(_accepted(verdict)))
            return
        await self._store([], [self._dead_letter(verdict, body, scope)])
        raise Problem(422, verdict.reason.value, verdict.detail, extra={"event_id": verdict.event_id})

    async def _batch(self, scope: AsgiScope, body: bytes, send: Send) -> None:
        raws = events_of(body)
        if isinstance(raws, NoBatch):
            status = 400 if raws.fault is BatchFault.MALFORMED else 422
            raise Problem(status, raws.fault.value, raws.detail)
        verdicts = await self._judge(raws, scope)
        accepted = [v for v in verdicts if isinstance(v, Event)]
        letters = [
            self._dead_letter(verdict, raw, scope)
            for verdict, raw in zip(verdicts, raws, strict=True)
            if isinstance(verdict, Rejected)
        ]
        await self._store(accepted, letters)
        answer = {
            "accepted": len(accepted),
            "results": [_accepted(v) if isinstance(v, Event) else _invalid(v) for v in verdicts],
        }
        if not accepted:
            raise Problem(422, "no_event_accepted", "every event of the batch is invalid", extra=answer)
        await send_response(send, 202, _ENCODER.encode(answer))

    async def _judge(self, raws: list[bytes], scope: AsgiScope) -> list[Event | Rejected]:
        """Raises Problem when one of them is no JSON: the body was none then, and nothing of it counts."""
        principal: Principal = scope["principal"]
        organisation = principal.organisation
        now = self._clock()
        context = context_of(scope["headers"])
        verdicts: list[Event | Rejected] = []
        for raw in raws:
            verdict = normalise(raw, organisation=organisation, received_at=now, context=context, new_id=self._new_id)
            if isinstance(verdict, Rejected) and verdict.reason is Reason.MALFORMED:
                raise Problem(400, verdict.reason.value, verdict.detail)
            verdicts.append(verdict)
            if not len(verdicts) % EVENTS_PER_TURN:
                await asyncio.sleep(0)
        return verdicts

    def _dead_letter(self, rejected: Rejected, raw: bytes, scope: AsgiScope) -> DeadLetter:
        principal: Principal = scope["principal"]
        self._metrics.invalid[rejected.reason].inc()
        detail = rejected.detail
        if len(raw) > MAX_DEAD_LETTER_BYTES:
            detail += f"; only the first {MAX_DEAD_LETTER_BYTES} bytes are kept"
        return DeadLetter(
            id=self._new_id(),
            organisation=principal.organisation,
            reason=rejected.reason.value,
            detail=detail,
            origin="http",
            received_at=self._clock(),
            payload=raw[:MAX_DEAD_LETTER_BYTES],
        )

    async def _store(self, events: list[Event], letters: list[DeadLetter]) -> None:
        """Returns when Kafka has all of them. Raises Problem 503: then the whole request is to be sent again."""
        records: list[Record] = [(EVENTS.key(event), EVENTS.encode(event)) for event in events]
        try:
            if not letters:
                await self._events.append(records)
            else:
                kept: list[Record] = [(DEAD_LETTERS.key(d), DEAD_LETTERS.encode(d)) for d in letters]
                await _both(self._letters.append(kept), self._events.append(records))
        except NotStoredError as error:
            raise _unavailable(error.cause) from None
        self._metrics.accepted.inc(len(events))
        self._metrics.dead_letters.inc(len(letters))


async def _both(*appends: Any) -> None:
    """Waits for all of them, then raises the first failure."""
    for outcome in await asyncio.gather(*appends, return_exceptions=True):
        if outcome is not None:
            raise outcome


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


_OVERLOADED = frozenset({Cause.FULL, Cause.STALE})


def _unavailable(cause: Cause) -> Problem:
    if cause in _OVERLOADED:
        return unavailable("more events wait for Kafka than are allowed; send again later", reason="overloaded")
    detail = "Kafka has not confirmed the events; send them again with the same event ids"
    return unavailable(detail, reason="not_confirmed")


def _check_headers(headers: list[tuple[bytes, bytes]]) -> None:
    for name, value in headers:
        if name == b"content-encoding" and value.strip().lower() not in (b"", b"identity"):
            raise Problem(415, "unsupported_content_encoding", "send the body without Content-Encoding")
        if name == b"content-type":
            media_type = value.partition(b";")[0].strip().lower()
            if media_type and not media_type.endswith((b"/json", b"+json")):
                raise Problem(415, "unsupported_media_type", "send application/json")
