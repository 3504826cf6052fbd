"""The schema of telemetry, for whoever sends it."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from services.ingest.domain.telemetry.schema import telemetry_schema

SCHEMA_PATH = "/api/v1/openapi/telemetry.schema.json"


def telemetry_routes() -> APIRouter:
    """The published JSON Schema, which anyone may read."""
    routes = APIRouter(tags=["events"])

    @routes.get(SCHEMA_PATH, summary="Get the JSON Schema of telemetry of WebSockets and jobs")
    async def get_telemetry_schema() -> JSONResponse:
        return JSONResponse(telemetry_schema(), media_type="application/schema+json")

    return routes
