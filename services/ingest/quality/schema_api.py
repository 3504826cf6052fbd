"""Schemas of event types over REST, for admins and `tidegate apply`."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Annotated, Any, Literal, Protocol

from fastapi import APIRouter, Body, Depends, Path, Query, Response
from pydantic import BaseModel, Field

from services.ingest.domain.normalise import MAX_EVENT_TYPE_CHARACTERS
from services.ingest.domain.quality.schema import EventSchema, parse_schema
from services.ingest.domain.verdict import verdict_of
from services.ingest.quality.samples import tried_out
from services.ingest.quality.schema_history import Past
from shared.clock import Clock, from_datetime, to_iso
from shared.definition_error import DefinitionError
from shared.definition_routes import answer_put
from shared.definitions import Outcome, Stored
from shared.http import Problem, StrictRoute, principal_of
from shared.keys import Principal
from shared.messages import Scope

ADMIN_PREFIX = "/api/v1/admin/schemas"
HISTORY_PREFIX = "/api/v1/admin/schema-history"
"""Beside the schemas: below them everything is an event type, slashes included."""

_Who = Annotated[Principal, Depends(principal_of)]
_EventType = Annotated[str, Path(max_length=MAX_EVENT_TYPE_CHARACTERS, description="It may hold slashes")]
_MAX_SAMPLES = 100
_MAX_PAST = 100

_ORDERS: dict[str, Any] = {
    "mode": "quarantine",
    "versions": [
        {
            "version": 1,
            "schema": {
                "type": "object",
                "required": ["amount", "currency"],
                "properties": {
                    "amount": {"type": "number", "minimum": 0},
                    "currency": {"type": "string", "pattern": "^[A-Z]{3}$"},
                },
            },
        }
    ],
}
Spec = Annotated[
    dict[str, Any],
    Body(openapi_examples={"orders": {"summary": "Orders have an amount and a currency", "value": _ORDERS}}),
]


class TryOut(BaseModel, extra="forbid"):
    event_type: str = Field(max_length=MAX_EVENT_TYPE_CHARACTERS)
    samples: list[dict[str, Any]] = Field(
        min_length=1,
        max_length=_MAX_SAMPLES,
        description="Events as they are sent to `…/events`; `event_type` may be left out",
    )
    spec: dict[str, Any] | None = Field(default=None, description="What to judge by; without it the schema in force")


class Tried(BaseModel):
    status: Literal["accepted", "quarantined", "invalid"]
    reason: str | None = None
    detail: str | None = None
    warning: str | None = None


class TriedOut(BaseModel):
    results: list[Tried]


class PastSchema(BaseModel):
    version: int = Field(description="Of the definition; it rises with every change")
    stored_at: str
    spec: dict[str, Any] | None = Field(description="null: the schema was removed")


class PastSchemas(BaseModel):
    history: list[PastSchema]
    next_below: int | None = Field(description="`below` of the next page; null if there is none")


class Definitions(Protocol):
    """`KeptDefinitions` of schemas."""

    async def put(self, organisation: str, key: str, spec: object) -> tuple[Outcome, int]: ...

    async def get(self, organisation: str, key: str) -> Stored | None: ...

    async def all(self, organisation: str) -> Sequence[Stored]: ...

    async def remove(self, organisation: str, key: str) -> bool: ...


class History(Protocol):
    """`SchemaHistory`."""

    async def of(self, organisation: str, event_type: str, *, limit: int, below: int | None) -> Sequence[Past]: ...


def needed_scope(path: str) -> Scope | None:
    """None for other paths."""
    is_ours = path == ADMIN_PREFIX or path.startswith((f"{ADMIN_PREFIX}/", f"{HISTORY_PREFIX}/"))
    return "admin" if is_ours else None


def schema_routes(schemas: Definitions, history: History, clock: Clock) -> APIRouter:
    routes = APIRouter(route_class=StrictRoute, tags=["schemas"])

    @routes.post(
        ADMIN_PREFIX + "/test",
        summary="Try a schema",
        response_model_exclude_none=True,
        responses={404: {"description": "There is no schema of that type to try"}},
    )
    async def try_schema(body: TryOut, who: _Who) -> TriedOut:
        """What would become of each of `samples` by this schema alone; nothing is stored."""
        spec: object = body.spec
        if spec is None:
            stored = await schemas.get(who.organisation, body.event_type)
            if stored is None:
                raise _unknown(body.event_type)
            spec = stored.spec
        try:
            schema = parse_schema(body.event_type, spec)
        except DefinitionError as error:
            raise Problem(422, "definition_invalid", str(error), extra={"place": error.place}) from None
        now = clock()
        results = []
        for sample in body.samples:
            results.append(_tried({**sample, "event_type": body.event_type}, who.organisation, schema, now))
            await asyncio.sleep(0)  # each may take a while
        return TriedOut(results=results)

    @routes.put(
        ADMIN_PREFIX + "/{event_type:path}", summary="Apply schema", responses={201: {"description": "Created"}}
    )
    async def put_schema(event_type: _EventType, spec: Spec, who: _Who, response: Response) -> dict[str, Any]:
        """Events that come in a moment later are judged by it; what is stored stays as it is."""
        return await answer_put(response, event_type, schemas.put(who.organisation, event_type, spec))

    @routes.get(ADMIN_PREFIX, summary="List schemas")
    async def list_schemas(who: _Who) -> list[dict[str, Any]]:
        return [stored.as_json() for stored in await schemas.all(who.organisation)]

    @routes.get(HISTORY_PREFIX + "/{event_type:path}", summary="Show a schema's history")
    async def get_schema_history(
        event_type: _EventType,
        who: _Who,
        limit: Annotated[int, Query(ge=1, le=_MAX_PAST)] = 20,
        below: Annotated[int | None, Query(ge=1, le=2**31 - 1)] = None,
    ) -> PastSchemas:
        """All that has been in force for this event type, the newest first, removed ones included."""
        found = await history.of(who.organisation, event_type, limit=limit + 1, below=below)
        if not found and below is None:
            raise _unknown(event_type)
        shown = [
            PastSchema(
                version=past.version,
                stored_at=to_iso(from_datetime(past.stored_at)),
                spec=None if past.spec.get("removed") is True else dict(past.spec),
            )
            for past in found[:limit]
        ]
        return PastSchemas(history=shown, next_below=shown[-1].version if len(found) > limit else None)

    @routes.get(ADMIN_PREFIX + "/{event_type:path}", summary="Show schema")
    async def get_schema(event_type: _EventType, who: _Who) -> dict[str, Any]:
        stored = await schemas.get(who.organisation, event_type)
        if stored is None:
            raise _unknown(event_type)
        return stored.as_json()

    @routes.delete(ADMIN_PREFIX + "/{event_type:path}", summary="Remove schema")
    async def delete_schema(event_type: _EventType, who: _Who) -> dict[str, Any]:
        """Events of this type are no longer judged by it; its history stays."""
        if not await schemas.remove(who.organisation, event_type):
            raise _unknown(event_type)
        return {"key": event_type, "status": "removed"}

    return routes


def _tried(sample: dict[str, Any], organisation: str, schema: EventSchema, now: int) -> Tried:
    told = verdict_of(tried_out(sample, organisation, now, schema.judge))
    return Tried.model_validate({name: text for name, text in told.items() if name != "event_id"})


def _unknown(event_type: str) -> Problem:
    detail = f"no schema for {event_type!r}; define it with PUT {ADMIN_PREFIX}/{event_type}"
    return Problem(404, "schema_unknown", detail)
