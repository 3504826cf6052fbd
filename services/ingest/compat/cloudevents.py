"""CloudEvents over HTTP: structured, batched and binary."""

from __future__ import annotations

from services.ingest.compat.request import Answer, Request, given, read_aside, refused, rejections, unbatchable
from services.ingest.domain.batch_body import NoBatch
from services.ingest.domain.client_context import context_of
from services.ingest.domain.compat.cloudevents import charset_of, event_of, structured, utf8
from services.ingest.domain.compat.envelope import opened_list
from services.ingest.domain.normalise import Reason, Rejected
from services.ingest.domain.verdict import verdict_of
from services.ingest.intake import Given, Intake, Sender
from shared.http import Problem
from shared.keys import without_secrets
from shared.messages import Event

ORIGIN = "cloudevents"

_BATCH = "application/cloudevents-batch"
_ONE = "application/cloudevents"
_JSON = "+json"


class CloudEvents:
    """Answers 202 as our own endpoints do: no client reads more of it than the class of the status."""

    def __init__(self, intake: Intake) -> None:
        self._intake = intake

    async def __call__(self, request: Request) -> Answer:
        principal = request.sender()
        sender = Sender.of(principal, context_of(request.headers), ORIGIN)
        media_type = request.header(b"content-type") or ""
        kind = media_type.partition(";")[0].strip().lower()
        if kind.startswith(_BATCH):
            return await self._many(_json_text(request.body, kind, _BATCH, media_type), sender)
        if kind.startswith(_ONE):
            return await self._one(
                (await given([_json_text(request.body, kind, _ONE, media_type)], event_of))[0], sender
            )
        if request.header(b"ce-specversion") is None:
            detail = "send application/cloudevents+json, application/cloudevents-batch+json or ce- headers"
            raise Problem(415, "no_cloudevent", detail)
        found = structured(request.headers, request.body)
        if not isinstance(found, Rejected):
            return await self._one((await given([found], event_of))[0], sender)
        if found.reason is Reason.MALFORMED:
            raise Problem(400, found.reason.value, found.detail)
        return await self._one((without_secrets(request.body), found), sender)

    async def _one(self, message: Given, sender: Sender) -> Answer:
        (verdict,) = await self._intake.take([message], sender)
        if isinstance(verdict, Rejected):
            raise refused(verdict)
        return Answer(202, verdict_of(verdict))

    async def _many(self, body: bytes, sender: Sender) -> Answer:
        raws = await read_aside(opened_list, body)
        if isinstance(raws, NoBatch):
            raise unbatchable(raws)
        verdicts = await self._intake.take(await given(raws, event_of), sender)
        rejections(verdicts)
        results = [verdict_of(verdict) for verdict in verdicts]
        return Answer(202, {"accepted": sum(isinstance(verdict, Event) for verdict in verdicts), "results": results})


def _json_text(body: bytes, kind: str, prefix: str, media_type: str) -> bytes:
    """The document in UTF-8. Raises Problem 400 or 415."""
    if kind.removeprefix(prefix) != _JSON:
        raise Problem(415, "unsupported_media_type", f"of the formats of CloudEvents only {prefix}{_JSON} is taken")
    text = utf8(body, charset_of(media_type))
    if isinstance(text, Rejected):
        raise Problem(400 if text.reason is Reason.MALFORMED else 415, "unsupported_charset", text.detail)
    return text
