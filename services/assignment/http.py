"""Everything the service answers over HTTP, put together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.openapi.utils import get_openapi

from services.assignment import assign_endpoint, ofrep_endpoint
from services.assignment.docs import DOCS, mount_docs
from shared.http import new_api
from shared.messages import Scope

_SCHEMA = "/api/v1/openapi/"
_RESULTS = "/api/v1/ab-testing/results"


def needed_scope(method: str, path: str) -> Scope | None:
    """Assigning, evaluating and looking need `read`, recording results `ingest`, all else `admin`, docs no key."""
    if path.startswith((f"{DOCS}/", _SCHEMA)) or path == DOCS:
        return None
    if path == assign_endpoint.ASSIGN or path.startswith("/ofrep/"):
        return "read"
    if path == _RESULTS:
        return "ingest"
    if method in ("GET", "HEAD") and path.startswith("/api/v1/ab-testing/"):
        return "read"
    return "admin"


def rest_api(*routers: APIRouter) -> FastAPI:
    """The FastAPI part: all but the hot paths, which its schema describes too."""
    api = new_api("Tidegate assignment", "assignment", "Experiments, flags, assignment, switches, results and keys.")
    for router in routers:
        api.include_router(router)
    mount_docs(api)
    api.openapi = _with_hot_paths(api)  # type: ignore[method-assign]  # FastAPI's documented way to extend a schema
    return api


def _with_hot_paths(api: FastAPI) -> Callable[[], dict[str, Any]]:
    def openapi() -> dict[str, Any]:
        if api.openapi_schema is None:
            schema = get_openapi(
                title=api.title,
                version=api.version,
                openapi_version=api.openapi_version,
                description=api.description,
                routes=api.routes,
                separate_input_output_schemas=False,
            )
            path, components = assign_endpoint.openapi_path()
            schema["paths"][assign_endpoint.ASSIGN] = path
            schema["paths"][f"{ofrep_endpoint.EVALUATE}{{key}}"] = ofrep_endpoint.openapi_path()
            schema["components"]["schemas"].update(components)
            api.openapi_schema = schema
        return api.openapi_schema

    return openapi
