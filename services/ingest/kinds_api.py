"""The schemas of the kinds of events that we know, for whoever sends them."""

from __future__ import annotations

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse

from services.ingest.domain.kinds.catalogue import FAMILIES
from services.ingest.domain.kinds.family import Family
from services.ingest.domain.kinds.schema import schema_of


def kind_routes() -> APIRouter:
    """The published JSON Schemas, which anyone may read."""
    routes = APIRouter(tags=["events"])
    for family in FAMILIES:
        _add(routes, family)
    return routes


def schema_path(family: Family) -> str:
    return f"/api/v1/openapi/{family.name}.schema.json"


def _add(routes: APIRouter, family: Family) -> None:
    async def get_schema() -> JSONResponse:
        return JSONResponse(schema_of(family), media_type="application/schema+json")

    name = family.name.replace("-", "_")
    routes.add_api_route(
        schema_path(family),
        get_schema,
        name=f"get_{name}_schema",
        operation_id=f"get_{name}_schema",
        summary=f"Get the JSON Schema: {family.title[0].lower()}{family.title[1:]}",
        response_class=Response,
        responses={200: {"content": {"application/schema+json": {}}}},
    )
