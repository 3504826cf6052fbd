"""Metric definitions as configuration: /api/v1/admin/metrics."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Path, Response
from fastapi.responses import JSONResponse

from services.aggregator.definitions import Definitions
from services.aggregator.domain.metrics import KINDS
from services.aggregator.domain.schema import metric_schema
from services.aggregator.examples import EXAMPLES
from shared.definition_routes import answer_put
from shared.http import Problem, StrictRoute, principal_of
from shared.keys import Principal

_Asker = Annotated[Principal, Depends(principal_of)]
Key = Annotated[str, Path(max_length=128, description="The metric's key")]

SCHEMA_PATH = "/api/v1/openapi/metric.schema.json"

_TYPE = {"type": "string", "enum": list(KINDS)}
_Spec = Annotated[
    Any,
    Body(
        openapi_examples={name: dict(example) for name, example in EXAMPLES.items()},
        json_schema_extra={"type": "object", "required": ["type"], "properties": {"type": _TYPE}},
    ),
]


def metric_routes(definitions: Definitions) -> APIRouter:
    routes = APIRouter(route_class=StrictRoute, prefix="/api/v1/admin/metrics", tags=["metrics"])

    @routes.put("/{key}", summary="Define metric", responses={201: {"description": "Created"}})
    async def put_metric(key: Key, spec: _Spec, asker: _Asker, response: Response) -> dict[str, Any]:
        """Defines a metric, valid from the next batch. A change makes a new version, which starts at zero.

        What can be said stands in the JSON Schema at `/api/v1/openapi/metric.schema.json` and in docs/metrics.md.
        """
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


def schema_routes() -> APIRouter:
    """The published JSON Schema, which anyone may read."""
    routes = APIRouter(tags=["metrics"])

    @routes.get(SCHEMA_PATH, summary="Get the JSON Schema of metric definitions")
    async def get_metric_schema() -> JSONResponse:
        return JSONResponse(metric_schema(), media_type="application/schema+json")

    return routes


def metric_unknown(key: str) -> Problem:
    return Problem(404, "metric_unknown", f"no metric {key!r}; define it with PUT /api/v1/admin/metrics/{key}")
