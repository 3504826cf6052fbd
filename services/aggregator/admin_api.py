"""Metric definitions as configuration: /api/v1/admin/metrics."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Path, Response

from services.aggregator.definitions import Definitions
from shared.definition_routes import answer_put
from shared.http import Problem, StrictRoute, principal_of
from shared.keys import Principal

_Asker = Annotated[Principal, Depends(principal_of)]
Key = Annotated[str, Path(max_length=128, description="The metric's key")]

_FAILED = {"path": "properties.finalStatus", "op": "eq", "value": "failed"}
_EXAMPLES = {
    "count": {"value": {"type": "count", "event": "click", "group_by": ["properties.page"]}},
    "value": {
        "value": {
            "type": "value",
            "event": "purchase",
            "value": "properties.amount",
            "aggregations": ["sum", "avg", "p95"],
        }
    },
    "ratio": {
        "summary": "Share of imports that failed",
        "value": {
            "type": "ratio",
            "numerator": {"event": "data_import_completed", "filter": _FAILED},
            "denominator": {"event": "data_import_completed"},
        },
    },
    "streak": {
        "summary": "Consecutive failures, for a breaker",
        "description": "Failures after the latest success, over all partitions. Without `success`, an event that "
        "matches and is no failure is a success. `length` (1 to 100, default 20) is how many are kept.",
        "value": {"type": "streak", "event": "data_import_completed", "failure": _FAILED, "length": 20},
    },
    "journey": {
        "summary": "What became of each import",
        "description": "One journey a unit, counted in the minute of its earliest start: completed (whenever that "
        "comes), abandoned_after_navigation (navigated, and dead or the timeout has passed), abandoned_timeout, or "
        "in_progress. `navigate`, `dead` and `steps` are optional; `timeout` is seconds, or text such as 90s, 30m "
        "or 2h, at most 24h (default 1800s). `group_by` is read from the start.",
        "value": {
            "type": "journey",
            "unit": "job",
            "start": {"event": "background_import_started"},
            "navigate": {
                "event": "background_import_engagement",
                "filter": {"path": "properties.userAction", "op": "eq", "value": "navigate_away"},
            },
            "dead": {"event": "background_import_cancelled"},
            "complete": {"event": "data_import_completed"},
            "steps": [{"name": "reviewed", "event": "field_mapping_review_completed"}],
            "timeout": "1800s",
            "group_by": ["properties.variant"],
        },
    },
}
_TYPE = {"type": "string", "enum": ["count", "value", "ratio", "streak", "journey"]}
_Spec = Annotated[
    Any,
    Body(
        openapi_examples=_EXAMPLES,
        json_schema_extra={"type": "object", "required": ["type"], "properties": {"type": _TYPE}},
    ),
]


def metric_routes(definitions: Definitions) -> APIRouter:
    routes = APIRouter(route_class=StrictRoute, prefix="/api/v1/admin/metrics", tags=["metrics"])

    @routes.put("/{key}", summary="Define metric", responses={201: {"description": "Created"}})
    async def put_metric(key: Key, spec: _Spec, asker: _Asker, response: Response) -> dict[str, Any]:
        """Defines a metric, valid from the next batch. A change makes a new version, which starts at zero."""
        return await answer_put(response, key, definitions.put(asker.organisation, key, spec))

    @routes.get("", summary="List metric definitions")
    async def list_metrics(asker: _Asker) -> list[dict[str, Any]]:
        """In order of their keys."""
        return [stored.as_json() for stored in await definitions.stored(asker.organisation)]

    @routes.get("/{key}", summary="Get metric definition")
    async def get_metric_definition(key: Key, asker: _Asker) -> dict[str, Any]:
        found = await definitions.get(asker.organisation, key)
        if found is None:
            raise metric_unknown(key)
        definition, spec = found
        return {"key": key, "version": definition.version, "spec": spec}

    return routes


def metric_unknown(key: str) -> Problem:
    return Problem(404, "metric_unknown", f"no metric {key!r}; define it with PUT /api/v1/admin/metrics/{key}")
