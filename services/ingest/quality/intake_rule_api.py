"""Intake rules over REST, for admins and `tidegate apply`."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Collection
from typing import Annotated, Any, Literal, Protocol

import msgspec
from fastapi import APIRouter, Body, Depends, Path, Response
from pydantic import BaseModel, Field

from services.ingest.domain.normalise import Rejected
from services.ingest.domain.quality.aside import SetAside
from services.ingest.domain.quality.hash_keys import KEY_BYTES, Hasher
from services.ingest.domain.quality.hash_period import Rotation
from services.ingest.domain.quality.inspection import Inspection
from services.ingest.domain.quality.intake_rule import IntakeRule, parse_intake_rule
from services.ingest.domain.quality.privacy import HasherOf
from services.ingest.kept_definitions import KeptDefinitions
from services.ingest.quality.samples import tried_out
from shared.clock import Clock
from shared.definition_error import DefinitionError
from shared.definition_routes import answer_put
from shared.definitions import Stored
from shared.http import Problem, StrictRoute, principal_of, unavailable
from shared.keys import Principal
from shared.messages import IntakeRule as IntakeRuleMessage
from shared.messages import Scope

ADMIN_PREFIX = "/api/v1/admin/intake-rules"

_Who = Annotated[Principal, Depends(principal_of)]
_Key = Annotated[str, Path(max_length=128)]
_MAX_SAMPLES = 100
_TRIED = "tried-out"

EXAMPLES: dict[str, Any] = {
    "hash": {
        "summary": "Hash e-mail addresses with a key that changes every month",
        "value": {"event_types": ["signup", "checkout_*"], "hash": ["event_data.email"], "rotate": "month"},
    },
    "drop": {"summary": "Keep no telephone numbers", "value": {"drop": ["event_data.customer.phone"]}},
    "truncate_ip": {"summary": "Keep networks instead of addresses", "value": {"truncate_ip": ["context.ip"]}},
    "bots": {"summary": "Store nothing that crawlers send", "value": {"bots": "drop"}},
    "sample": {
        "summary": "Store the progress of every tenth job",
        "value": {"event_types": ["websocket_job_progress"], "sample": 0.1, "by": "job"},
    },
}
Spec = Annotated[dict[str, Any], Body(openapi_examples=EXAMPLES)]


class TryOut(BaseModel, extra="forbid"):
    samples: list[dict[str, Any]] = Field(
        min_length=1, max_length=_MAX_SAMPLES, description="Events as they are sent to `…/events`"
    )
    spec: dict[str, Any] | None = Field(
        default=None, description="A rule that alone is tried, with keys of the moment; without it those in force are"
    )


class Tried(BaseModel):
    status: Literal["accepted", "dropped", "quarantined", "invalid"]
    event: dict[str, Any] | None = Field(default=None, description="As it would be stored")
    reason: str | None = None
    detail: str | None = None


class TriedOut(BaseModel):
    results: list[Tried]


class KeyMaker(Protocol):
    """`HashKeyLog`."""

    @property
    def can_seal(self) -> bool: ...

    async def ensure(self, organisation: str, rotations: Collection[Rotation]) -> None: ...


def needed_scope(path: str) -> Scope | None:
    """None for other paths."""
    return "admin" if path == ADMIN_PREFIX or path.startswith(f"{ADMIN_PREFIX}/") else None


def intake_rule_routes(
    rules: KeptDefinitions[IntakeRuleMessage],
    keys: KeyMaker,
    in_force: Callable[[str], Inspection | None],
    alone: Callable[[IntakeRule, HasherOf], Inspection],
    clock: Clock,
) -> APIRouter:
    """`in_force` gives what an organisation's events go through, `alone` what they would go through with one rule."""
    routes = APIRouter(route_class=StrictRoute, prefix=ADMIN_PREFIX, tags=["intake rules"])

    @routes.put("/{key}", summary="Apply intake rule", responses={201: {"description": "Created"}})
    async def put_intake_rule(key: _Key, spec: Spec, who: _Who, response: Response) -> dict[str, Any]:
        """In force for events that come in a moment later; what is stored stays as it is."""

        async def put() -> Any:
            rule = parse_intake_rule(key, spec)
            if rule.rotation is not None:
                if not keys.can_seal:
                    what = "needs a key, which this installation cannot seal: set TIDEGATE_SEALING_KEYS"
                    raise DefinitionError("spec.hash", what)
                # Before the rule is in force: no event shall wait for it.
                await keys.ensure(who.organisation, {rule.rotation})
            return await rules.put(who.organisation, key, spec)

        return await answer_put(response, key, put())

    @routes.get("", summary="List intake rules")
    async def list_intake_rules(who: _Who) -> list[dict[str, Any]]:
        return [stored.as_json() for stored in await rules.all(who.organisation)]

    @routes.get("/{key}", summary="Show intake rule")
    async def get_intake_rule(key: _Key, who: _Who) -> dict[str, Any]:
        stored: Stored | None = await rules.get(who.organisation, key)
        if stored is None:
            raise _unknown(key)
        return stored.as_json()

    @routes.delete("/{key}", summary="Remove intake rule")
    async def delete_intake_rule(key: _Key, who: _Who) -> dict[str, Any]:
        if not await rules.remove(who.organisation, key):
            raise _unknown(key)
        return {"key": key, "status": "removed"}

    @routes.post("/test", summary="Try intake rules", response_model_exclude_none=True)
    async def try_intake_rules(body: TryOut, who: _Who) -> TriedOut:
        """What would be stored of each of `samples`; nothing is."""
        if body.spec is None:
            inspection = in_force(who.organisation)
        else:
            hasher = Hasher(secrets.token_bytes(KEY_BYTES), secrets.token_bytes(KEY_BYTES))
            try:
                inspection = alone(parse_intake_rule(_TRIED, body.spec), lambda *_: hasher)
            except DefinitionError as error:
                raise Problem(422, "definition_invalid", str(error), extra={"place": error.place}) from None
        now = clock()
        if inspection is not None and inspection.guard is not None and (why := inspection.guard.refusal(now)):
            raise unavailable(f"{why}; events are refused until it is", reason="intake_rules_unavailable")
        results = []
        for sample in body.samples:
            results.append(_tried(sample, who.organisation, inspection, now))
            await asyncio.sleep(0)  # each may take a while
        return TriedOut(results=results)

    return routes


def _tried(sample: dict[str, Any], organisation: str, inspection: Inspection | None, now: int) -> Tried:
    judge = None if inspection is None else lambda event: inspection.judge(event, now)
    verdict = tried_out(sample, organisation, now, judge)
    if isinstance(verdict, SetAside):
        return Tried(status=verdict.status.value, reason=verdict.reason.value, detail=verdict.detail)
    if isinstance(verdict, Rejected):
        return Tried(status="invalid", reason=verdict.reason.value, detail=verdict.detail)
    return Tried(status="accepted", event=msgspec.to_builtins(verdict))


def _unknown(key: str) -> Problem:
    return Problem(404, "intake_rule_unknown", f"no intake rule {key!r}; define it with PUT {ADMIN_PREFIX}/{key}")
