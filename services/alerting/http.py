"""Everything the service answers over HTTP, put together."""

from __future__ import annotations

from fastapi import APIRouter, FastAPI

from services.alerting.alerts_api import PREFIX
from shared.http import new_api
from shared.messages import Scope

_DESCRIPTION = """Watches metrics: rules raise alerts, breakers turn flags off and on again, channels are told.

While Postgres or Kafka is away, answers are 503 with Retry-After."""


def needed_scope(method: str, path: str) -> Scope | None:
    """Reading alerts needs `read`, creating them `ingest`, all else `admin`; the schema is open."""
    if path.startswith("/api/v1/openapi/"):
        return None
    if method in ("GET", "HEAD") and path.startswith(PREFIX):
        return "read"
    return "ingest" if path == PREFIX else "admin"


def rest_api(*routers: APIRouter) -> FastAPI:
    api = new_api("Tidegate alerting", "alerting", _DESCRIPTION)
    for router in routers:
        api.include_router(router)
    return api
