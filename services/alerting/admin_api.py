"""Rules and breakers over REST: /api/v1/admin/{rules,breakers}."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Depends, Path, Response
from pydantic import BaseModel, ConfigDict, Field

from services.alerting.definitions import Definitions
from services.alerting.domain.breaker_machine import BreakerState, Reason
from services.alerting.domain.change import StateKey
from services.alerting.domain.rule_machine import RuleState, Status
from services.alerting.domain.series import group_text
from services.alerting.examples import BreakerSpec, RuleSpec
from services.alerting.guard import Guard, breaker_of, group_of
from services.alerting.store.states import StateStore
from shared.clock import to_iso
from shared.definition_routes import answer_put
from shared.definitions import Stored
from shared.http import Problem, StrictRoute, principal_of
from shared.keys import Principal
from shared.messages import Breaker, Rule

_Who = Annotated[Principal, Depends(principal_of)]
_Key = Annotated[str, Path(max_length=128)]

_TRANSITIONS = 50
_PATIENCE = 5.0
"""Seconds that a request waits for the decisions that are under way."""


class CloseBreaker(BaseModel):
    model_config = ConfigDict(extra="forbid")

    reason: Annotated[str, Field(strict=True, max_length=500)] | None = None


def rule_routes(rules: Definitions[Rule], states: StateStore, guard: Guard) -> APIRouter:
    routes = APIRouter(route_class=StrictRoute, prefix="/api/v1/admin/rules", tags=["rules"])

    @routes.put("/{key}", summary="Apply rule")
    async def put_rule(key: _Key, spec: RuleSpec, who: _Who, response: Response) -> dict[str, Any]:
        """Makes the rule what the spec says. `enabled: false` ends it: what fires is resolved."""
        return await answer_put(response, key, rules.put(who.organisation, key, spec))

    @routes.get("", summary="List rules")
    async def list_rules(who: _Who) -> list[dict[str, Any]]:
        return [stored.as_json() for stored in await rules.all(who.organisation)]

    @routes.get("/{key}", summary="Show rule")
    async def get_rule(key: _Key, who: _Who) -> dict[str, Any]:
        """The rule, each group's state and present value, and its last transitions."""
        stored = await _known(rules, who, key)
        transitions = await _transitions(states, who.organisation, "rule", key)
        watch = guard.rules.get((who.organisation, key))
        held = {group_of(row): row for row in await states.of(who.organisation, "rule", key)}
        seen = [] if watch is None else watch.everything()
        groups = []
        for group in dict.fromkeys((*seen, *held)):
            row = held.get(group)
            state = RuleState() if row is None else msgspec.convert(row.state, RuleState)
            reading = None if watch is None else watch.reading(group)
            text = group_text(group)
            groups.append(
                {
                    "group": list(group) if watch is None else watch.named(group),
                    "state": state.status.value,
                    "level": None if state.level is None else state.level.severity,
                    "since": to_iso(state.since) if row is not None else None,
                    "value": None if reading is None or reading.value is None else float(reading.value),
                    "n": None if reading is None else reading.n,
                    "alert": StateKey(who.organisation, "rule", key, text).alert_key
                    if state.status is Status.FIRING
                    else None,
                    "evidence": next((t["evidence"] for t in transitions if t["group"] == list(group)), {}),
                }
            )
        problem = None if watch is None or watch.problem is None else watch.problem.value
        if watch is not None and watch.overflowed:
            problem = "there are more groups than one rule follows; the rest is not watched"
        return {**stored.as_json(), "problem": problem, "groups": groups, "transitions": transitions}

    return routes


def breaker_routes(breakers: Definitions[Breaker], states: StateStore, guard: Guard) -> APIRouter:
    routes = APIRouter(route_class=StrictRoute, prefix="/api/v1/admin/breakers", tags=["breakers"])

    @routes.put("/{key}", summary="Apply breaker")
    async def put_breaker(key: _Key, spec: BreakerSpec, who: _Who, response: Response) -> dict[str, Any]:
        """Makes the breaker what the spec says. `enabled: false` closes it and lets go of its flag."""
        return await answer_put(response, key, breakers.put(who.organisation, key, spec))

    @routes.get("", summary="List breakers")
    async def list_breakers(who: _Who) -> list[dict[str, Any]]:
        return [stored.as_json() for stored in await breakers.all(who.organisation)]

    @routes.get("/{key}", summary="Show breaker")
    async def get_breaker(key: _Key, who: _Who) -> dict[str, Any]:
        """The breaker, its state and its last transitions."""
        return await shown(await _known(breakers, who, key), who)

    @routes.post("/{key}/close", summary="Close breaker")
    async def close_breaker(key: _Key, who: _Who, body: CloseBreaker | None = None) -> dict[str, Any]:
        """Closes it by hand from any state: its flag is on again. A closed one stays as it is."""
        stored = await _known(breakers, who, key)
        by = {"closed_by": who.key, "closed_because": None if body is None else body.reason}
        async with asyncio.timeout(_PATIENCE), guard.lock:
            watch = guard.breakers.get((who.organisation, key))
            if watch is None:
                row = await states.load(StateKey(who.organisation, "breaker", key))
                watch = None if row is None else breaker_of(row)
            if watch is not None:
                await guard.close(watch, Reason.CLOSED_BY_HAND, by)
        return await shown(stored, who)

    async def shown(stored: Stored, who: Principal) -> dict[str, Any]:
        row = await states.load(StateKey(who.organisation, "breaker", stored.key))
        transitions = await _transitions(states, who.organisation, "breaker", stored.key)
        for transition in transitions:
            del transition["group"]
        state = BreakerState() if row is None else msgspec.convert(row.state, BreakerState)
        watch = guard.breakers.get((who.organisation, stored.key))
        return {
            **stored.as_json(),
            "state": state.position.value,
            "since": None if row is None else to_iso(state.since),
            "attempts": state.attempts,
            "openings": state.openings,
            "closings": state.closings,
            "enabled": stored.spec.get("enabled", True),
            "problem": None if watch is None or watch.problem is None else watch.problem.value,
            "evidence": transitions[0]["evidence"] if transitions else {},
            "transitions": transitions,
        }

    return routes


async def _known(definitions: Definitions[Any], who: Principal, key: str) -> Stored:
    stored = await definitions.get(who.organisation, key)
    if stored is None:
        kind = definitions.kind
        hint = f"define it with PUT /api/v1/admin/{kind}s/{key}"
        raise Problem(404, f"{kind}_unknown", f"no {kind} {key!r}; {hint}")
    return stored


async def _transitions(states: StateStore, organisation: str, kind: str, key: str) -> list[dict[str, Any]]:
    return [
        {
            "group": msgspec.json.decode(t["grp"]) if t["grp"] else [],
            "from": t["from_state"],
            "to": t["to_state"],
            "reason": t["reason"],
            "at": to_iso(t["at"]),
            "evidence": t["evidence"],
        }
        for t in await states.transitions(organisation, kind, key, _TRANSITIONS)
    ]
