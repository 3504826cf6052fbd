"""PostHog's capture endpoints, in both versions of the protocol."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial
from typing import Any

from services.ingest.bodies import INLINE_BYTES, BodyLimits, decoded
from services.ingest.compat.request import Answer, Request, given, read_aside, refused, rejections, unbatchable
from services.ingest.domain.batch_body import NoBatch
from services.ingest.domain.compat.envelope import opened, opened_list
from services.ingest.domain.compat.posthog import BATCHES, Common, event_of
from services.ingest.domain.compat.posthog_body import carries_batch, inside, key_in
from services.ingest.domain.content_encoding import Coding
from services.ingest.domain.normalise import Rejected
from services.ingest.domain.quality.aside import WARNING, Verdict, WarnedEvent
from services.ingest.intake import Intake, Sender
from shared.http import Problem, unavailable
from shared.keys import Principal

ORIGIN = "posthog"

_GZIP_MAGIC = b"\x1f\x8b"
_GZIP = (Coding.GZIP,)
_MAX_WRAPPINGS = 3
"""A form, Base64 and gzip: more than that no client does."""


class PostHogCapture:
    """`capture` answers the older protocol, `analytics` its successor."""

    def __init__(self, intake: Intake, limits: BodyLimits | None = None) -> None:
        self._intake = intake
        self._limits = limits or BodyLimits()
        self._turns = asyncio.Semaphore(self._limits.at_once)

    async def capture(self, request: Request) -> Answer:
        """Exactly 200: clients send anything else again."""
        async with AsyncExitStack() as turn:
            return await self._captured(request, await self._unwrapped(request.body, turn))

    async def _captured(self, request: Request, body: bytes) -> Answer:
        sent_at: Any = None
        is_single = False
        if body.lstrip()[:1] == b"[":
            raws = _elements(await read_aside(opened_list, body))
            key = None if request.principal else _common_key(raws)
        elif await read_aside(carries_batch, body):
            found = await read_aside(partial(opened, frames=BATCHES), body)
            if isinstance(found, NoBatch):
                raise unbatchable(found)
            batch, raws = found
            sent_at = batch.sent_at
            key = batch.api_key or batch.token or (None if request.principal else _common_key(raws))
        else:
            raws, is_single = [body], True
            key = None if request.principal else key_in(body)
        principal = request.sender(key)
        common = Common(request.received_at, sent_at or _milliseconds(request.query.get("_")))
        verdicts = await self._taken(raws, common, principal)
        if is_single and isinstance(verdicts[0], Rejected):
            raise refused(verdicts[0])
        rejected = rejections(verdicts)
        return Answer(200, {"status": 1, "rejected": rejected}) if rejected else _OK

    async def analytics(self, request: Request) -> Answer:
        """A result for each event: what is `drop` has become a dead letter."""
        found = await read_aside(partial(opened, frames=BATCHES), request.body)
        if isinstance(found, NoBatch):
            raise unbatchable(found)
        batch, raws = found
        principal = request.sender(batch.api_key or batch.token)
        sent_at = request.header(b"posthog-request-timestamp") or batch.sent_at
        common = Common(request.received_at, sent_at, request.header(b"posthog-sdk-info"))
        verdicts = await self._taken(raws, common, principal)
        results = {_name(verdict, index): _result(verdict) for index, verdict in enumerate(verdicts)}
        return Answer(200, {"results": results})

    async def _unwrapped(self, body: bytes, turn: AsyncExitStack) -> bytes:
        """The JSON within what older clients wrap around it; what becomes large waits for its `turn`.

        Raises Problem 400, 413 or 503.
        """
        has_turn = False
        for _ in range(_MAX_WRAPPINGS + 1):
            if body.startswith(_GZIP_MAGIC):
                try:
                    body = await decoded(body, _GZIP, limit=INLINE_BYTES)
                except Problem as problem:
                    if problem.status != 413:
                        raise
                    if not has_turn:
                        await self._take(turn)
                        has_turn = True
                    body = await decoded(body, _GZIP, limit=self._limits.decoded)
                continue
            within = inside(body) if len(body) <= INLINE_BYTES else await asyncio.to_thread(inside, body)
            if within is None:
                return body
            body = within
        raise Problem(400, "undecodable_body", "the body is wrapped too often")

    async def _take(self, turn: AsyncExitStack) -> None:
        """Few bytes may become many: as many bodies at once as of those that say what they are."""
        try:
            async with asyncio.timeout(self._limits.turn):
                await turn.enter_async_context(self._turns)
        except TimeoutError:
            raise unavailable("too many large bodies are at work; send again later", reason="overloaded") from None

    async def _taken(self, raws: list[bytes], common: Common, principal: Principal) -> list[Verdict]:
        messages = await given(raws, partial(event_of, common=common))
        sender = replace(Sender.of(principal, origin=ORIGIN), stated_sent_at=common.sent_at)
        return await self._intake.take(messages, sender)


_OK = Answer(200, {"status": 1})


def _name(verdict: Verdict, index: int) -> str:
    return verdict.event_id or str(index)


def _result(verdict: Verdict) -> dict[str, str]:
    if isinstance(verdict, WarnedEvent):
        return {"result": "warning", "details": str(verdict.context.get(WARNING))}
    if not isinstance(verdict, Rejected):
        return {"result": "ok"}
    return {"result": "drop", "details": f"{verdict.reason.value}: {verdict.detail}"}


def _elements(found: list[bytes] | NoBatch) -> list[bytes]:
    if isinstance(found, NoBatch):
        raise unbatchable(found)
    return found


def _common_key(raws: list[bytes]) -> str | None:
    """The key that the events themselves carry. Raises Problem 400 if it is not the same in all that have one."""
    keys = {key for raw in raws if (key := key_in(raw)) is not None}
    if len(keys) > 1:
        raise Problem(400, "keys_differ", "the events of one request must have the same key")
    return next(iter(keys), None)


def _milliseconds(text: str | None) -> int | None:
    return int(text) if text is not None and text.isascii() and text.isdigit() and len(text) <= 15 else None
