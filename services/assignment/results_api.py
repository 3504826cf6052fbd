"""Results in and out: a recorded result becomes an event, the answers come from the aggregator's totals."""

from __future__ import annotations

import uuid
from typing import Annotated, Any

from aiokafka.errors import KafkaError
from fastapi import APIRouter, Depends

from services.assignment.directory import Directory, Entry
from services.assignment.domain import facts
from services.assignment.domain.lifecycle import Status
from services.assignment.domain.results import as_of, summarise
from services.assignment.results_view import ResultsView
from services.assignment.schemas import RecordResult
from shared.clock import Clock
from shared.http import Problem, StrictRoute, principal_of, unavailable
from shared.kafka import Publisher
from shared.keys import Principal
from shared.messages import Variant
from shared.topics import EVENTS

_Who = Annotated[Principal, Depends(principal_of)]
_OPEN = frozenset({Status.RUNNING, Status.PAUSED})
"""A result has the time at which it is recorded, and nothing counts that comes after an experiment's end."""


def results_routes(directory: Directory, view: ResultsView, publisher: Publisher, clock: Clock) -> APIRouter:
    routes = APIRouter(route_class=StrictRoute, prefix="/api/v1/ab-testing", tags=["results"])

    @routes.post("/results", status_code=202, summary="Record result")
    async def record_result(body: RecordResult, who: _Who) -> dict[str, Any]:
        """Answered once Kafka has it. A resend with the same event_id counts once."""
        entry = _entry(directory, who, body.experiment_id)
        experiment = entry.rules.experiment
        if entry.rules.status not in _OPEN:
            raise Problem(409, entry.rules.not_running.value, f"the experiment is {experiment.status.upper()}")
        event = facts.result(
            experiment,
            _variant(entry, body),
            body.metric_name,
            body.metric_value,
            body.metadata,
            facts.Ids(user=body.user_id, anonymous=body.anonymous_id, session=body.session_id, job=body.job_id),
            body.event_id or str(uuid.uuid4()),
            clock(),
        )
        try:
            await publisher.publish(EVENTS, event)
        except (KafkaError, TimeoutError, OSError) as error:
            raise unavailable("Kafka does not answer: send it again with the same event_id") from error
        return {"event_id": event.event_id, "status": "accepted"}

    @routes.get("/experiments/{id}/results", summary="Get results")
    async def get_results(id: str, who: _Who) -> dict[str, Any]:
        """Counts and means per variant. `unit_…` are over units that have a value, `rate` is their share of the
        sample with its 95 % Wilson interval; units seen in two variants are left out as `conflicted_units`."""
        experiment = _entry(directory, who, id).rules.experiment
        shards = await view.shards(who.organisation, experiment.key)
        return {
            "experiment_id": experiment.id,
            "experiment_name": experiment.name,
            "experiment_key": experiment.key,
            "status": experiment.status,
            "as_of": as_of(shards),
            "variants": summarise([v.name for v in experiment.variants], shards),
        }

    return routes


def _entry(directory: Directory, who: Principal, reference: str) -> Entry:
    entry = directory.find(who.organisation, reference)
    if entry is None:
        raise Problem(404, "experiment_not_found", f"there is no experiment {reference!r}")
    return entry


def _variant(entry: Entry, body: RecordResult) -> Variant:
    if (body.variant_id is None) == (body.variant_name is None):
        raise Problem(422, "variant_missing", "send either variant_id or variant_name")
    by_id = None if body.variant_id is None else entry.rules.by_id.get(body.variant_id)
    found = by_id or (None if body.variant_name is None else entry.rules.by_name.get(body.variant_name))
    if found is None:
        raise Problem(
            404, "variant_not_found", f"the experiment has no variant {body.variant_id or body.variant_name!r}"
        )
    return found
