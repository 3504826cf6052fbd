"""Real Kafka and Postgres for tests: containers where a Docker engine answers, our embedded stack otherwise."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import docker
from docker.errors import DockerException
from testcontainers.core.container import DockerContainer
from testcontainers.core.wait_strategies import LogMessageWaitStrategy

from deploy.local.stack import LocalStack

logger = logging.getLogger(__name__)

KAFKA_IMAGE = "apache/kafka:4.3.1"
POSTGRES_IMAGE = "postgres:18"
_DOCKER_SOCKET = "/var/run/docker.sock"


@dataclass(frozen=True, slots=True)
class Backends:
    """Bootstrap servers, and a URL whose user may create databases."""

    kafka: str
    postgres: str


def docker_answers() -> bool:
    """Set TIDEGATE_TEST_BACKENDS=embedded to do without an engine that is there."""
    if os.environ.get("TIDEGATE_TEST_BACKENDS") == "embedded":
        return False
    if "DOCKER_HOST" not in os.environ and not _listens(_DOCKER_SOCKET):
        return False  # the client library would leak the socket of its failed attempt
    try:
        client = docker.from_env(timeout=5)
    except DockerException:
        return False
    client.close()
    return True


def _listens(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(path)
        except OSError:
            return False
    return True


@asynccontextmanager
async def embedded(state: Path) -> AsyncIterator[Backends]:
    async with LocalStack(state, processes="infrastructure") as stack:
        yield Backends(stack.kafka, stack.postgres)


@asynccontextmanager
async def containers() -> AsyncIterator[Backends]:
    port = _free_port()
    kafka = DockerContainer(KAFKA_IMAGE).with_bind_ports(9092, port)
    for name, value in _kafka_settings(port).items():
        kafka = kafka.with_env(name, value)
    kafka = kafka.waiting_for(LogMessageWaitStrategy("Kafka Server started"))
    postgres = (
        DockerContainer(POSTGRES_IMAGE)
        .with_exposed_ports(5432)
        .with_env("POSTGRES_USER", "tidegate")
        .with_env("POSTGRES_PASSWORD", "tidegate")
        .waiting_for(LogMessageWaitStrategy("listening on IPv4"))
    )
    await asyncio.gather(asyncio.to_thread(kafka.start), asyncio.to_thread(postgres.start))
    try:
        host = postgres.get_container_host_ip()
        url = f"postgresql://tidegate:tidegate@{host}:{postgres.get_exposed_port(5432)}/tidegate"
        yield Backends(f"localhost:{port}", url)
    finally:
        await asyncio.gather(asyncio.to_thread(kafka.stop), asyncio.to_thread(postgres.stop))


def _kafka_settings(port: int) -> dict[str, str]:
    return {
        "KAFKA_NODE_ID": "1",
        "KAFKA_PROCESS_ROLES": "broker,controller",
        "KAFKA_LISTENERS": "PLAINTEXT://:9092,CONTROLLER://:9093",
        "KAFKA_ADVERTISED_LISTENERS": f"PLAINTEXT://localhost:{port}",
        "KAFKA_CONTROLLER_LISTENER_NAMES": "CONTROLLER",
        "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
        "KAFKA_CONTROLLER_QUORUM_VOTERS": "1@localhost:9093",
        "KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR": "1",
        "KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS": "0",
        "KAFKA_AUTO_CREATE_TOPICS_ENABLE": "false",
        "KAFKA_MESSAGE_MAX_BYTES": "2097152",
    }


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
