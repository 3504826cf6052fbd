"""Tidegate's own services as processes of the embedded stack."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from deploy.local.process import Process
from deploy.local.readiness import is_ready


@dataclass(frozen=True, slots=True)
class Service:
    """`command` follows the Python interpreter. The owner of API keys is told where the first three stand, who seals
    secrets where the keys for that stand. Who does not end within `stop_timeout` seconds is killed."""

    name: str
    command: tuple[str, ...]
    owns_keys: bool = False
    seals: bool = False
    stop_timeout: float = 10.0


INGEST_STOP_SECONDS = 40.0
"""With Kafka gone ingest gives its clients up to 35 s to hear what became of their events; then its parent ends."""

SERVICES = (
    Service("ingest", ("-m", "services.ingest"), seals=True, stop_timeout=INGEST_STOP_SECONDS),
    Service("assignment", ("-m", "services.assignment"), owns_keys=True),
    Service("aggregator-worker", ("-m", "services.aggregator", "worker")),
    Service("aggregator-api", ("-m", "services.aggregator", "api")),
    Service("alerting", ("-m", "services.alerting")),
)


@dataclass(frozen=True, slots=True)
class Neighbours:
    """What every service is told."""

    kafka: str
    postgres: str
    keys_file: Path
    log_level: str
    sealing_keys_file: Path | None = None


def service_environment(service: Service, neighbours: Neighbours, port: int) -> Mapping[str, str]:
    keys = {"TIDEGATE_BOOTSTRAP_KEYS": str(neighbours.keys_file)} if service.owns_keys else {}
    if service.seals and neighbours.sealing_keys_file is not None:
        keys["TIDEGATE_SEALING_KEYS"] = str(neighbours.sealing_keys_file)
    return {
        **keys,
        "TIDEGATE_KAFKA": neighbours.kafka,
        "TIDEGATE_POSTGRES": neighbours.postgres,
        "TIDEGATE_HOST": "127.0.0.1",
        "TIDEGATE_PORT": str(port),
        "TIDEGATE_INSTANCE": "0",
        "TIDEGATE_LOG_LEVEL": neighbours.log_level,
        "PYTHONUNBUFFERED": "1",
        "PYTHONSAFEPATH": "1",  # the working directory holds data, not modules
    }


def service_process(
    service: Service, *, neighbours: Neighbours, port: int, depends_on: tuple[str, ...], cwd: Path
) -> Process:
    return Process(
        name=service.name,
        argv=(sys.executable, *service.command),
        port=port,
        check=partial(is_ready, port),
        env=service_environment(service, neighbours, port),
        depends_on=depends_on,
        stop_timeout=service.stop_timeout,
        cwd=cwd,
    )
