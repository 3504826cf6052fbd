"""Segment's HTTP API: `/v1/track` and its like, `/v1/batch`."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

from services.ingest.compat.paths import SEGMENT_CALLS
from services.ingest.compat.request import Answer, Request, given, read_aside, refused, rejections, unbatchable
from services.ingest.domain.batch_body import NoBatch
from services.ingest.domain.compat.envelope import fields_of, opened
from services.ingest.domain.compat.segment import BATCHES, MAX_BATCH_BYTES, Common, event_of
from services.ingest.domain.normalise import Rejected
from services.ingest.intake import Intake, Sender
from shared.http import Problem
from shared.keys import Principal

ORIGIN = "segment"


class SegmentCalls:
    """`one` answers a call with a path of its own, `many` a batch of any of them."""

    def __init__(self, intake: Intake) -> None:
        self._intake = intake

    async def one(self, request: Request) -> Answer:
        _check_size(request)
        fields, call = fields_of(request.body), SEGMENT_CALLS[request.path]
        principal = request.sender(fields.get("writeKey"))
        read = partial(event_of, common=Common(request.received_at), call=call)
        ((kept, body),) = await given([request.body], read)
        if fields and "type" not in fields and kept.lstrip().startswith(b"{"):
            kept = _typed(kept, call)
        (verdict,) = await self._intake.take([(kept, body)], _sender(principal, None))
        if isinstance(verdict, Rejected):
            raise refused(verdict)
        return _SUCCESS

    async def many(self, request: Request) -> Answer:
        _check_size(request)
        found = await read_aside(partial(opened, frames=BATCHES), request.body)
        if isinstance(found, NoBatch):
            raise unbatchable(found)
        batch, raws = found
        principal = request.sender(batch.write_key)
        read = partial(event_of, common=Common(request.received_at, batch.sent_at, batch.context or {}))
        verdicts = await self._intake.take(await given(raws, read), _sender(principal, batch.sent_at))
        rejected = rejections(verdicts)
        return Answer(200, {"success": True, "rejected": rejected}) if rejected else _SUCCESS


def _sender(principal: Principal, sent_at: Any) -> Sender:
    return replace(Sender.of(principal, origin=ORIGIN), stated_sent_at=sent_at)


_SUCCESS = Answer(200, {"success": True})


def _typed(message: bytes, call: str) -> bytes:
    """The object with its type, which the path said: a dead letter is read without one."""
    return b'{"type":"%s",' % call.encode() + message.lstrip()[1:]


def _check_size(request: Request) -> None:
    """Clients lose what is refused for its size whatever the status, so this one says what it is."""
    if len(request.body) > MAX_BATCH_BYTES:
        raise Problem(413, "body_too_large", f"a request body may have at most {MAX_BATCH_BYTES} bytes")
