"""The REST interface of experiments, S2's endpoints and ours: /api/v1/ab-testing/*."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query

from services.assignment.domain import changes
from services.assignment.domain.experiment import Definition
from services.assignment.domain.lifecycle import INVALID, Action, Refused
from services.assignment.experiment_store import Decide, ExperimentStore
from services.assignment.publication import Publication
from services.assignment.schemas import (
    CreateExperiment,
    PatchExperiment,
    StatusName,
    VariantBody,
    experiment_body,
    status_of,
    stored_variant_body,
)
from shared.clock import Clock
from shared.http import Problem, StrictRoute, principal_of
from shared.keys import Principal

PREFIX = "/api/v1/ab-testing"
Who = Annotated[Principal, Depends(principal_of)]


def refusal(refused: Refused) -> Problem:
    """422 for what can never be right as sent, 409 for what is wrong now."""
    return Problem(422 if refused.reason in INVALID else 409, refused.reason.value, refused.detail)


def not_found(reference: str) -> Problem:
    return Problem(404, "experiment_not_found", f"there is no experiment {reference!r}")


class Experiments:
    """Changes of experiments: the store's transaction, then publication, then the answer."""

    def __init__(self, store: ExperimentStore, publication: Publication, clock: Clock) -> None:
        self.store = store
        self._publication = publication
        self._clock = clock

    def now(self) -> int:
        return self._clock()

    async def create(self, draft: Definition, *, numbered: bool) -> Definition:
        """Raises Problem."""
        checked = changes.new(draft)
        stored = checked if isinstance(checked, Refused) else await self._stored(checked, numbered=numbered)
        if isinstance(stored, Refused):
            raise refusal(stored)
        await self._publication.experiment(stored.id or 0)
        return stored

    async def _stored(self, draft: Definition, *, numbered: bool) -> Definition | Refused:
        return await self.store.create(draft, self._clock(), numbered=numbered)

    async def change(self, organisation: str, reference: str, decide: Decide) -> tuple[Definition, bool]:
        """(what is stored now, whether it changed). Raises Problem."""
        outcome = await self.store.change(organisation, reference, self._clock(), decide)
        if outcome is None:
            raise not_found(reference)
        if isinstance(outcome, Refused):
            raise refusal(outcome)
        definition, changed = outcome
        if changed:
            await self._publication.experiment(definition.id or 0)
        return definition, changed


def experiment_routes(experiments: Experiments) -> APIRouter:
    routes = APIRouter(route_class=StrictRoute, prefix=PREFIX, tags=["experiments"])

    @routes.post("/experiments", status_code=201, summary="Create experiment")
    async def create_experiment(body: CreateExperiment, who: Who) -> dict[str, Any]:
        draft = body.to_domain(who.organisation)
        return experiment_body(await experiments.create(draft, numbered=body.key is None))

    @routes.get("/experiments", summary="List experiments")
    async def list_experiments(
        who: Who,
        status: StatusName | None = None,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
        offset: Annotated[int, Query(ge=0, le=1_000_000)] = 0,
    ) -> Sequence[dict[str, Any]]:
        found = await experiments.store.newest(who.organisation, status_of(status), limit=limit, offset=offset)
        return [experiment_body(d) for d in found]

    @routes.get("/experiments/{id}", summary="Get experiment")
    async def get_experiment(id: str, who: Who) -> dict[str, Any]:
        return experiment_body(await _found(experiments.store, who, id))

    @routes.patch("/experiments/{id}", summary="Update experiment")
    async def update_experiment(id: str, body: PatchExperiment, who: Who) -> dict[str, Any]:
        patch = body.to_domain()
        definition, _ = await experiments.change(who.organisation, id, lambda d: changes.with_patch(d, patch))
        return experiment_body(definition)

    @routes.post("/experiments/{id}/start", summary="Start or resume experiment")
    async def start(id: str, who: Who) -> dict[str, Any]:
        others = await experiments.store.running(who.organisation)
        definition, _ = await experiments.change(who.organisation, id, _step(Action.START, experiments.now))
        return {**experiment_body(definition), "warnings": _warnings(definition, others)}

    def lifecycle(action: Action) -> None:
        async def step(id: str, who: Who) -> dict[str, Any]:
            definition, _ = await experiments.change(who.organisation, id, _step(action, experiments.now))
            return experiment_body(definition)

        name = f"{action.value}_experiment"
        path = f"/experiments/{{id}}/{action.value}"
        routes.post(path, name=name, summary=f"{action.value.capitalize()} experiment")(step)

    for action in Action:
        if action is not Action.START:
            lifecycle(action)

    @routes.post("/experiments/{id}/variants", status_code=201, summary="Create variant")
    async def create_variant(id: str, body: VariantBody, who: Who) -> dict[str, Any]:
        given = body.traffic_percentage is not None
        add = partial(changes.with_variant, variant=body.to_domain(), share_given=given)
        definition, _ = await experiments.change(who.organisation, id, add)
        return stored_variant_body(definition, definition.variants[-1])

    @routes.get("/experiments/{id}/variants", summary="List variants")
    async def list_variants(id: str, who: Who) -> Sequence[dict[str, Any]]:
        definition = await _found(experiments.store, who, id)
        return [stored_variant_body(definition, v) for v in definition.variants]

    return routes


async def _found(store: ExperimentStore, who: Principal, reference: str) -> Definition:
    found = await store.find(who.organisation, reference)
    if found is None:
        raise not_found(reference)
    return found


def _step(action: Action, now: Callable[[], int]) -> Decide:
    return lambda definition: changes.act(definition, action, now())


def _warnings(started: Definition, running_before: Sequence[str]) -> list[dict[str, str]]:
    others = [key for key in running_before if key != started.key]
    if not others:
        return []
    text = f"run one experiment at a time when possible: {', '.join(others[:10])} also running"
    return [{"reason": "concurrent_experiments", "detail": text}]
