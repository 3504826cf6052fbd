"""Webhooks: POST /api/v1/streaming-analytics/webhooks/{key}, let in by its signature instead of an API key."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import JSONResponse

from services.ingest.domain.quality.aside import becomes_letter
from services.ingest.domain.sources.connections import WebhookConnection
from services.ingest.domain.sources.health import Health, State
from services.ingest.domain.sources.identity import event_id_of
from services.ingest.domain.verdict import verdict_of
from services.ingest.intake import Intake, Sender
from services.ingest.sources.catalogue import Catalogue
from services.ingest.sources.leases import Leases
from shared.clock import SECOND, Clock
from shared.http import Problem, unavailable
from shared.messages import Event
from shared.postgres import RETRYABLE

logger = logging.getLogger(__name__)

PREFIX = "/api/v1/streaming-analytics/webhooks"

_PAUSED_SECONDS = 60
_TELL_SECONDS = 2.0


class Webhooks:
    """Takes deliveries in, and counts them: first here, then, every few seconds, in Postgres for all to see."""

    def __init__(
        self, catalogue: Catalogue, leases: Leases, intake: Intake, clock: Clock, *, tell_every: float = _TELL_SECONDS
    ) -> None:
        self._catalogue = catalogue
        self._tell_every = tell_every
        self._leases = leases
        self._intake = intake
        self._clock = clock
        self._untold: dict[int, Health] = {}

    async def take(self, organisation: str, key: str, headers: Mapping[str, str], body: bytes) -> dict[str, Any]:
        """The answer, once Kafka has the event or its dead letter. Raises Problem."""
        definition = self._catalogue.find(organisation, key)
        if definition is None or not isinstance(definition.connection, WebhookConnection):
            raise Problem(404, "webhook_unknown", "there is no webhook of that key; was the organisation named?")
        connection = definition.connection
        refusal = connection.signature.refusal(headers, body, self._clock() / SECOND)
        if refusal is not None:
            raise Problem(401, refusal.value, f"the signature is expected in {connection.signature.header}")
        if not definition.enabled:
            raise unavailable("this webhook is paused", reason="source_paused", retry_after=_PAUSED_SECONDS)
        if connection.signature.name == "slack" and (challenge := _challenge(body)) is not None:
            return {"challenge": challenge}
        self._intake.check_room()
        raw = _message(connection, headers, body)
        event_id = event_id_of(definition.key, headers.get(connection.id_header or "") or body)
        mapped = definition.body(raw, event_id=event_id)
        sender = Sender(definition.organisation, origin=definition.origin)
        (verdict,) = await self._intake.take([(raw, mapped)], sender)
        health = self._untold.setdefault(definition.id, Health(State.RUNNING))
        health.took(int(isinstance(verdict, Event)), int(becomes_letter(verdict)), self._clock())
        # What is invalid is kept as a dead letter: sending it again would not help, so the sender hears that it has
        # arrived, and not what is wrong with it.
        return {name: text for name, text in verdict_of(verdict).items() if name != "detail"}

    async def run(self) -> None:
        """Tells Postgres what has been counted, until it is cancelled."""
        while True:
            await asyncio.sleep(self._tell_every)
            for source_id in list(self._untold):
                health = self._untold.pop(source_id)
                try:
                    await self._leases.count(source_id, health.events, health.invalid, health.last_event_at)
                except RETRYABLE:
                    # Counted when Postgres is back, with what has come since.
                    since = self._untold.setdefault(source_id, Health(State.RUNNING))
                    since.events, since.invalid = since.events + health.events, since.invalid + health.invalid
                except Exception:  # a count that is lost must not end all sources
                    logger.exception("a webhook's events were not counted", extra={"source_id": source_id})


def webhook_routes(webhooks: Webhooks) -> APIRouter:
    routes = APIRouter(prefix=PREFIX, tags=["data sources"])

    @routes.post("/{key}", status_code=202, summary="Deliver to a webhook")
    async def deliver(
        key: Annotated[str, Path(max_length=64)],
        request: Request,
        organisation: Annotated[str, Query(max_length=128)] = "default",
    ) -> JSONResponse:
        """Needs no API key but the signature that the source's `connection_config` asks for."""
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in request.scope["headers"]}
        answer = await webhooks.take(organisation, key, headers, await request.body())
        return JSONResponse(answer, status_code=200 if "challenge" in answer else 202)

    return routes


def _message(connection: WebhookConnection, headers: Mapping[str, str], body: bytes) -> bytes:
    if not connection.include_headers:
        return body
    shown = {name: headers[name] for name in connection.include_headers if name in headers}
    return b'{"headers":%s,"body":%s}' % (json.dumps(shown).encode(), body or b"null")


class _Challenge(msgspec.Struct, tag_field="type", tag="url_verification"):
    challenge: str


def _challenge(body: bytes) -> str | None:
    """What Slack wants to hear back when a webhook is set up."""
    try:
        return msgspec.json.decode(body, type=_Challenge).challenge
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
