"""The gateway's routes, with the real gateway before servers that only say their name."""

import asyncio
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from deploy.local import gateway
from deploy.local.supervisor import Supervisor
from tests.integration.fake_service import serve

BACKENDS = ("ingest", "assignment", "aggregator-api", "alerting")
STREAM = "/api/v1/streaming-analytics"

ROUTES = [
    ("POST", f"{STREAM}/events", "ingest"),
    ("POST", f"{STREAM}/events/batch", "ingest"),
    ("GET", f"{STREAM}/events/stream", "ingest"),
    ("POST", f"{STREAM}/predictions", "ingest"),
    ("GET", f"{STREAM}/data-sources", "ingest"),
    ("DELETE", f"{STREAM}/data-sources/7", "ingest"),
    ("POST", f"{STREAM}/webhooks/github", "ingest"),
    ("GET", f"{STREAM}/dead-letters?limit=5", "ingest"),
    ("GET", f"{STREAM}/events?limit=5", "aggregator-api"),
    ("GET", f"{STREAM}/predictions", "aggregator-api"),
    ("GET", f"{STREAM}/metrics", "aggregator-api"),
    ("GET", f"{STREAM}/metrics/signups", "aggregator-api"),
    ("POST", f"{STREAM}/metrics", "aggregator-api"),
    ("GET", f"{STREAM}/dashboard", "aggregator-api"),
    ("GET", f"{STREAM}/ws/live-stream", "aggregator-api"),
    ("GET", f"{STREAM}/alerts", "alerting"),
    ("POST", f"{STREAM}/alerts/7/resolve", "alerting"),
    ("GET", "/api/v1/ab-testing/experiments", "assignment"),
    ("POST", "/ofrep/v1/evaluate/flags/dark", "assignment"),
    ("PUT", "/api/v1/admin/experiments/e", "assignment"),
    ("PUT", "/api/v1/admin/flags/f", "assignment"),
    ("GET", "/api/v1/admin/keys", "assignment"),
    ("PUT", "/api/v1/admin/metrics/m", "aggregator-api"),
    ("PUT", "/api/v1/admin/rules/r", "alerting"),
    ("PUT", "/api/v1/admin/breakers/b", "alerting"),
    ("PUT", "/api/v1/admin/sources/s", "ingest"),
    ("PUT", "/api/v1/admin/schemas/s", "ingest"),
    ("GET", "/api/v1/admin/schema-history/s", "ingest"),
    ("PUT", "/api/v1/admin/intake-rules/r", "ingest"),
    ("POST", "/v1/track", "ingest"),
    ("POST", "/capture/", "ingest"),
    ("POST", "/batch", "ingest"),
    ("POST", "/i/v0/e/", "ingest"),
    ("POST", "/i/v1/analytics/events", "ingest"),
    ("POST", "/e/?compression=gzip-js", "ingest"),
    ("POST", "/cloudevents", "ingest"),
    ("OPTIONS", "/cloudevents/", "ingest"),
    ("GET", "/api/docs", "assignment"),
    ("GET", "/api/docs/swagger-ui.css", "assignment"),
    ("GET", "/api/v1/openapi/ingest.json", "ingest"),
    ("GET", "/api/v1/openapi/telemetry.schema.json", "ingest"),
    *(
        ("GET", f"/api/v1/openapi/{name}.schema.json", "ingest")
        for name in ("experiment-events", "predictions", "support-tickets", "surveys", "resource-samples")
    ),
    ("GET", "/api/v1/openapi/assignment.json", "assignment"),
    ("GET", "/api/v1/openapi/aggregator.json", "aggregator-api"),
    ("GET", "/api/v1/openapi/alerting.json", "alerting"),
]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@pytest.fixture(scope="module")
async def client(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[httpx.AsyncClient]:
    directory = tmp_path_factory.mktemp("gateway")
    backends, port = {name: free_port() for name in BACKENDS}, free_port()
    servers = [asyncio.create_task(serve(name, backend)) for name, backend in backends.items()]
    process = gateway.gateway(host="127.0.0.1", port=port, backends=backends, directory=directory)
    supervisor = Supervisor([process], Path(directory))
    try:
        await supervisor.start()
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
            yield client
    finally:
        await supervisor.stop()
        for server in servers:
            server.cancel()
        await asyncio.gather(*servers, return_exceptions=True)


@pytest.mark.parametrize(("method", "path", "service"), ROUTES)
async def test_every_path_reaches_its_owner_as_it_was_asked(
    client: httpx.AsyncClient, method: str, path: str, service: str
) -> None:
    answer = await client.request(method, path)
    assert (answer.status_code, answer.text) == (200, f"{service} {method} {path}")


@pytest.mark.parametrize(
    "path", ["/metrics", "/healthz", "/readyz", "/nothing", "/api/v1/admin/nothing/x", "/api/v1", "/v1"]
)
async def test_what_has_no_owner_is_a_problem_with_a_reason(client: httpx.AsyncClient, path: str) -> None:
    answer = await client.get(path)
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["reason"] == "unknown_path"


async def test_the_root_leads_to_the_documentation(client: httpx.AsyncClient) -> None:
    answer = await client.get("/")
    assert (answer.status_code, answer.headers["location"]) == (302, "/api/docs")
