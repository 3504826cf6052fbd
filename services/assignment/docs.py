"""/api/docs: Swagger UI from its package's files, over the schemas of all services; nothing comes from outside."""

from __future__ import annotations

import json

from fastapi import APIRouter, FastAPI
from fastapi.responses import HTMLResponse
from starlette.staticfiles import StaticFiles
from swagger_ui_bundle import swagger_ui_path

DOCS = "/api/docs"
FILES = f"{DOCS}/files"

_SERVICES = {
    "ingest": "Ingest: events, dead letters",
    "assignment": "Assignment: experiments, flags, switches, results, keys",
    "aggregator": "Aggregator: metrics, recent events, dashboard",
    "alerting": "Alerting: follows every metric",
}


def mount_docs(api: FastAPI) -> None:
    routes = APIRouter()
    page = _page()

    @routes.get(DOCS, include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(page)

    api.include_router(routes)
    api.mount(FILES, StaticFiles(directory=str(swagger_ui_path)), name="swagger-ui")


def _page() -> str:
    urls = [{"url": f"/api/v1/openapi/{service}.json", "name": name} for service, name in _SERVICES.items()]
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Tidegate API</title>
<link rel="stylesheet" href="{FILES}/swagger-ui.css">
<link rel="icon" type="image/png" href="{FILES}/favicon-32x32.png" sizes="32x32">
</head>
<body>
<div id="swagger-ui"></div>
<script src="{FILES}/swagger-ui-bundle.js"></script>
<script src="{FILES}/swagger-ui-standalone-preset.js"></script>
<script>
window.ui = SwaggerUIBundle({{
  urls: {json.dumps(urls)},
  "urls.primaryName": {json.dumps(_SERVICES["assignment"])},
  dom_id: "#swagger-ui",
  deepLinking: true,
  persistAuthorization: true,
  presets: [SwaggerUIBundle.presets.apis, SwaggerUIStandalonePreset],
  layout: "StandaloneLayout",
  validatorUrl: null,
}});
</script>
</body>
</html>
"""
