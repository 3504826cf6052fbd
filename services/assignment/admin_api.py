"""Configuration as code and keys: /api/v1/admin/*."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path

from services.assignment.api import Experiments, refusal
from services.assignment.bootstrap import FIRST_ORGANISATION
from services.assignment.domain import changes
from services.assignment.domain.experiment import Definition
from services.assignment.domain.lifecycle import Action, Refusal, Refused, Status
from services.assignment.key_store import KeyRecord, KeyStore
from services.assignment.publication import Publication
from services.assignment.schemas import CreateKey, ExperimentSpec, Key, KeyRateLimit
from shared.clock import Clock, to_iso
from shared.http import Problem, StrictRoute, principal_of
from shared.keys import Principal, describe_key, new_key, rate_limit
from shared.messages import ApiKey

_Who = Annotated[Principal, Depends(principal_of)]


def apply_routes(experiments: Experiments) -> APIRouter:
    routes = APIRouter(route_class=StrictRoute, prefix="/api/v1/admin", tags=["configuration"])

    @routes.put("/experiments/{key}", summary="Apply experiment")
    async def apply_experiment(key: Annotated[Key, Path()], body: ExperimentSpec, who: _Who) -> dict[str, Any]:
        """Makes the experiment what the spec says; sent again, it changes nothing."""
        wanted = body.to_domain(who.organisation, key)
        run = body.status == "running"
        created = None
        if await experiments.store.find(who.organisation, key) is None:
            created = await _created(experiments, wanted, run=run)
        if created is not None:
            return _applied(created, "created")
        definition, changed = await experiments.change(
            who.organisation, key, lambda existing: _merged(existing, wanted, experiments.now(), run=run)
        )
        return _applied(definition, "changed" if changed else "unchanged")

    return routes


async def _created(experiments: Experiments, wanted: Definition, *, run: bool) -> Definition | None:
    """None if another request has created it meanwhile."""
    fresh = changes.act(wanted, Action.START, experiments.now()) if run else wanted
    if isinstance(fresh, Refused):
        raise refusal(fresh)
    try:
        return await experiments.create(fresh, numbered=False)
    except Problem as problem:
        taken = problem.reason == Refusal.KEY_TAKEN.value
        if taken and await experiments.store.find(wanted.organisation, wanted.key) is not None:
            return None
        raise  # a flag has the key


def _merged(existing: Definition, wanted: Definition, now: int, *, run: bool) -> Definition | Refused:
    """An experiment that has ended stays ended."""
    changed = changes.with_spec(existing, wanted)
    if isinstance(changed, Refused) or not run or changed.status not in (Status.DRAFT, Status.PAUSED):
        return changed
    return changes.act(changed, Action.START, now)


def _applied(definition: Definition, status: str) -> dict[str, Any]:
    return {
        "key": definition.key,
        "id": definition.id,
        "version": definition.version,
        "status": status,
        "experiment_status": definition.status.value,
    }


def key_routes(store: KeyStore, publication: Publication, clock: Clock) -> APIRouter:
    routes = APIRouter(route_class=StrictRoute, prefix="/api/v1/admin/keys", tags=["keys"])

    @routes.post("", status_code=201, summary="Create key")
    async def create_key(body: CreateKey, who: _Who) -> dict[str, Any]:
        """The key is in this answer and nowhere else."""
        organisation = body.organisation or who.organisation
        if who.organisation not in (organisation, FIRST_ORGANISATION):
            raise Problem(403, "organisation_foreign", "you can make keys for your own organisation only")
        key = new_key()
        limit = body.rate_limit
        described = describe_key(
            key,
            organisation=organisation,
            scope=body.scope,
            events_per_second=None if limit is None else limit.events_per_second,
            burst=None if limit is None else limit.burst,
        )
        now = clock()
        await store.add(described, body.label, now)
        await publication.key(described.prefix)
        return {"key": key, **_body(KeyRecord(described, body.label, now))}

    @routes.get("", summary="List keys")
    async def list_keys(who: _Who) -> Sequence[dict[str, Any]]:
        """Prefixes only: a key is shown once, when it is made."""
        return [_body(record) for record in await store.all_of(_reach(who))]

    @routes.delete("/{prefix}", summary="Revoke key")
    async def revoke_key(prefix: str, who: _Who) -> dict[str, Any]:
        if not await store.revoke(prefix, _reach(who)):
            raise _no_key(prefix)
        await publication.key(prefix)
        return {"prefix": prefix, "revoked": True}

    @routes.put("/{prefix}/rate-limit", summary="Limit key")
    async def limit_key(prefix: str, body: KeyRateLimit, who: _Who) -> dict[str, Any]:
        """How many events may be sent with the key; ingest knows it within a second."""
        return await _limited(prefix, body.events_per_second, body.burst, who)

    @routes.delete("/{prefix}/rate-limit", summary="Limit key no more")
    async def unlimit_key(prefix: str, who: _Who) -> dict[str, Any]:
        """Then ingest's own setting applies, if there is one."""
        return await _limited(prefix, None, None, who)

    async def _limited(
        prefix: str, events_per_second: float | None, burst: int | None, who: Principal
    ) -> dict[str, Any]:
        record = await store.limit(prefix, events_per_second, burst, _reach(who))
        if record is None:
            raise _no_key(prefix)
        await publication.key(prefix)
        return _body(record)

    return routes


def _no_key(prefix: str) -> Problem:
    return Problem(404, "key_not_found", f"there is no key with the prefix {prefix!r}")


def _reach(who: Principal) -> str | None:
    return None if who.organisation == FIRST_ORGANISATION else who.organisation


def _body(record: KeyRecord) -> dict[str, Any]:
    return {
        "prefix": record.key.prefix,
        "scope": record.key.scope,
        "organisation": record.key.organisation,
        "label": record.label,
        "revoked": record.key.revoked,
        "rate_limit": _limit_of(record.key),
        "created_at": to_iso(record.created_at),
    }


def _limit_of(key: ApiKey) -> dict[str, Any] | None:
    if key.events_per_second is None:
        return None
    limit = rate_limit(key.events_per_second, key.burst)
    return {"events_per_second": limit.events_per_second, "burst": limit.burst}
