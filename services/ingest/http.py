"""The hot path: events in over HTTP, answered when Kafka has them.

Bare ASGI, because a framework's route costs more than all the rest. Every other path goes to `rest`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

import msgspec

from services.ingest.bodies import INLINE_BYTES, BodyReader
from services.ingest.compat.paths import COMPATIBLE_PATHS
from services.ingest.domain import idempotency
from services.ingest.domain.batch_body import BatchFault, NoBatch, events_of
from services.ingest.domain.client_context import context_of
from services.ingest.domain.idempotency import InvalidKeyError, KeyedIds
from services.ingest.domain.normalise import EventBody, Reason, Rejected, read_event
from services.ingest.domain.prediction_body import ORIGIN as PREDICTION_ORIGIN
from services.ingest.domain.prediction_body import read_prediction
from services.ingest.domain.quality.aside import Verdict
from services.ingest.domain.sent_at import NoSentAt, sent_at_around, sent_at_in, sent_at_of
from services.ingest.domain.verdict import all_accepted, is_rejected, verdict_of
from services.ingest.domain.whole_batch import bodies_of
from services.ingest.intake import EVENTS_PER_TURN, Given, Intake, Sender
from services.ingest.ndjson import MAX_FILE, MEDIA_TYPES, LineRoute, UploadLimits
from shared.http import MAX_BODY, AsgiApp, AsgiScope, Problem, Receive, Send, send_response
from shared.messages import Event, Scope

EVENT_PATH = "/api/v1/streaming-analytics/events"
BATCH_PATH = "/api/v1/streaming-analytics/events/batch"
PREDICTION_PATH = "/api/v1/streaming-analytics/predictions"
DEAD_LETTER_PATH = "/api/v1/streaming-analytics/dead-letters"


_HOT_PATHS = frozenset({EVENT_PATH, BATCH_PATH, PREDICTION_PATH})


def needed_scope(method: str, path: str) -> Scope | None:
    """Sending takes an ingest key, looking a read key, settling dead letters an admin key; the schema is open."""
    if path in _HOT_PATHS:
        return "ingest"
    if method == "POST" and path.startswith(DEAD_LETTER_PATH):
        return "admin"
    return None if path in COMPATIBLE_PATHS or path.startswith("/api/v1/openapi/") else "read"


def sender_of(scope: AsgiScope, origin: str = "http") -> Sender:
    """Who sent a request that has been let in."""
    return Sender.of(scope["principal"], context_of(scope["headers"]), origin)


def max_body(scope: AsgiScope) -> int:
    """Bytes that a body may have as it is sent: lines are taken in one by one, so a file of them may be larger."""
    return MAX_FILE if scope["path"] == BATCH_PATH and _media_type(scope["headers"]) in MEDIA_TYPES else MAX_BODY


class EventRoutes:
    """`POST …/events`, `POST …/events/batch` and `POST …/predictions` in front of the application `rest`."""

    def __init__(self, intake: Intake, rest: AsgiApp, uploads: UploadLimits | None = None) -> None:
        self._intake = intake
        self._lines = LineRoute(intake, uploads or UploadLimits())
        self._bodies = BodyReader()
        self._rest = rest

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        path = scope.get("path")
        if path not in _HOT_PATHS:
            await self._rest(scope, receive, send)
            return
        if scope["method"] != "POST":
            raise Problem(405, "method_not_allowed", "events are sent with POST", headers={"Allow": "POST"})
        media_type = _media_type(scope["headers"])
        ids = _keyed_ids(scope)
        if path == BATCH_PATH and media_type in MEDIA_TYPES:
            await self._lines(scope, receive, send, _timed_sender(scope), ids)
            return
        _check_json(media_type, path)
        self._intake.check_room(scope["principal"])
        handle = self._batch if path == BATCH_PATH else self._one
        await self._bodies.read(scope, receive, lambda body: handle(scope, body, send, ids))

    async def _one(self, scope: AsgiScope, body: bytes, send: Send, ids: KeyedIds | None) -> None:
        if scope["path"] == PREDICTION_PATH:
            sender, given = _timed_sender(scope, origin=PREDICTION_ORIGIN), _given(body, ids, 0, read_prediction)
        else:
            sender, given = _timed_sender(scope, body), _given(body, ids, 0)
        (verdict,) = await self._intake.take([given], sender)
        if isinstance(verdict, Rejected):
            raise Problem(422, verdict.reason.value, verdict.detail, extra={"event_id": verdict.event_id})
        await send_response(send, 202, _ENCODER.encode(verdict_of(verdict)))

    async def _batch(self, scope: AsgiScope, body: bytes, send: Send, ids: KeyedIds | None) -> None:
        if len(body) <= INLINE_BYTES:
            sender, bodies = _timed_sender(scope, body), bodies_of(body)
        else:
            sender = await asyncio.to_thread(_timed_sender, scope, body)
            bodies = await asyncio.to_thread(bodies_of, body)
        if bodies is None:
            sender = await _sender_around(scope, body)
            answer = _answer_of(await self._intake.take(await _taken_apart(body, ids), sender))
        else:
            if ids is not None:
                for index, one in enumerate(bodies):
                    ids.name(one, index)
            answer = await self._intake.take_bodies(bodies, lambda: _raws_of(body), sender, _answer_of)
        if isinstance(answer, Problem):
            raise answer
        await send_response(send, 202, answer)


def _answer_of(verdicts: list[Verdict]) -> bytes | Problem:
    """To a batch, once the events are stored."""
    if (accepted := all_accepted(verdicts)) is not None:
        return accepted
    answer = {
        "accepted": sum(isinstance(verdict, Event) for verdict in verdicts),
        "results": [verdict_of(verdict) for verdict in verdicts],
    }
    if is_rejected(verdicts):
        return Problem(422, "no_event_accepted", "every event of the batch is invalid", extra=answer)
    return _ENCODER.encode(answer)


def _timed_sender(scope: AsgiScope, body: bytes = b"", origin: str = "http") -> Sender:
    """With the time that the body states for when it was sent, or else the header. Raises Problem 422."""
    return _sender_at(scope, sent_at_of(body), origin)


async def _sender_around(scope: AsgiScope, body: bytes) -> Sender:
    """The same with a batch that is taken apart. Raises Problem 422."""
    stated = sent_at_of(body)
    if stated is None:
        # A hostile body takes a microsecond a byte, which others should not wait for.
        hostile = len(body) > _CUT_INLINE
        stated = await asyncio.to_thread(sent_at_around, body) if hostile else sent_at_around(body)
    return _sender_at(scope, stated, "http")


def _sender_at(scope: AsgiScope, stated: str | NoSentAt | None, origin: str) -> Sender:
    sent_at = stated or sent_at_in(scope["headers"])
    if isinstance(sent_at, NoSentAt):
        raise Problem(422, sent_at.reason.value, sent_at.detail)
    sender = sender_of(scope, origin)
    return sender if sent_at is None else replace(sender, sent_at=sent_at)


async def _taken_apart(body: bytes, ids: KeyedIds | None) -> list[Given]:
    """Raises Problem for what is no batch."""
    given: list[Given] = []
    # A hostile body takes a microsecond a byte, which others should not wait for.
    raws = events_of(body) if len(body) <= _CUT_INLINE else await asyncio.to_thread(events_of, body)
    for raw in _checked(raws):
        given.append(_given(raw, ids, len(given)))
        if not len(given) % EVENTS_PER_TURN:
            await asyncio.sleep(0)
    return given


def _raws_of(body: bytes) -> list[bytes]:
    """Raises Problem for what is no batch."""
    return _checked(events_of(body))


def _checked(raws: list[bytes] | NoBatch) -> list[bytes]:
    """Raises Problem."""
    if isinstance(raws, NoBatch):
        status = 400 if raws.fault is BatchFault.MALFORMED else 422
        raise Problem(status, raws.fault.value, raws.detail)
    return raws


def _given(
    raw: bytes,
    ids: KeyedIds | None,
    index: int,
    read: Callable[[bytes], EventBody | Rejected] = read_event,
) -> Given:
    """Raises Problem for what is no JSON: the whole body was none then, and nothing of it counts."""
    body = read(raw)
    if isinstance(body, Rejected):
        if body.reason is Reason.MALFORMED:
            raise Problem(400, body.reason.value, body.detail)
    elif ids is not None:
        ids.name(body, index)
    return raw, body


_ENCODER = msgspec.json.Encoder()
_CUT_INLINE = 16 * 1024
"""Bytes of a batch that is taken apart at once."""


def _keyed_ids(scope: AsgiScope) -> KeyedIds | None:
    """Raises Problem 400."""
    try:
        key = idempotency.idempotency_key(scope["headers"])
    except InvalidKeyError as error:
        raise Problem(400, idempotency.REASON, str(error)) from None
    return None if key is None else KeyedIds(scope["principal"].organisation, key)


def _media_type(headers: list[tuple[bytes, bytes]]) -> bytes:
    """Lower-case and without parameters; of several the last, and empty for none."""
    found = b""
    for name, value in headers:
        if name == b"content-type":
            found = value
    return found.partition(b";")[0].strip().lower()


def _check_json(media_type: bytes, path: str) -> None:
    if media_type and not media_type.endswith((b"/json", b"+json")):
        taken = "application/json or application/x-ndjson" if path == BATCH_PATH else "application/json"
        accepted = taken.replace(" or ", ", ")
        raise Problem(415, "unsupported_media_type", f"send {taken}", headers={"Accept-Post": accepted})
