"""Everything ingest serves that is not the hot path, and the schema of all of it."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.openapi.utils import get_openapi

from services.ingest.compat.schema import add_compatible_routes
from services.ingest.domain.normalise import Reason
from services.ingest.event_schema import add_event_routes
from services.ingest.problem_schema import add_problems
from services.ingest.websocket import STREAM_PATH
from shared.http import new_api

_REASONS = ", ".join(f"`{reason.value}`" for reason in Reason)

_DESCRIPTION = f"""Takes events in and answers when Kafka has them.

An event is valid or comes back with one of the reasons {_REASONS}.
Sending the same `event_id` again is safe: it is counted once. After a 503, send the whole request again.
Bodies may be compressed (`Content-Encoding`: gzip, deflate, zstd, br).

A WebSocket at `{STREAM_PATH}` takes the same events over one connection, with acknowledgements and flow control
(docs/websocket.md).
"""


def ingest_api(*routers: APIRouter) -> FastAPI:
    """The routes behind the hot path; its schema describes the hot path too."""
    api = new_api("Tidegate ingest", "ingest", _DESCRIPTION)
    for router in routers:
        api.include_router(router)

    def whole_schema() -> dict[str, Any]:
        if api.openapi_schema is None:
            schema = get_openapi(
                title=api.title,
                version=api.version,
                openapi_version=api.openapi_version,
                description=_DESCRIPTION,
                routes=api.routes,
            )
            add_event_routes(schema)
            add_compatible_routes(schema)
            add_problems(schema)
            api.openapi_schema = schema
        return api.openapi_schema

    api.openapi = whole_schema  # type: ignore[method-assign]  # FastAPI's documented way to extend the schema
    return api
