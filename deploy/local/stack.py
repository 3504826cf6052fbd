"""The whole stack on this machine, as one object: `async with LocalStack(state=…) as stack: stack.kafka …`."""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import os
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from deploy.local import children, gateway, kafka, migrations, ports, postgres, services
from deploy.local.artifacts import LOCK_FILE, ArtifactError, fetch_jars, missing_jars, parse_lock
from deploy.local.children import ProgramError, identify
from deploy.local.process import Account, Job, Process, ProcessState
from deploy.local.reporter import Reporter, Silent
from deploy.local.restarts import RestartPolicy
from deploy.local.services import SERVICES, Neighbours, Service
from deploy.local.settings import default_cache
from deploy.local.state import SCOPES, ProcessRecord, Record, StateDirectory, StateError, read_keys, write_private
from deploy.local.supervisor import StartError, Supervisor
from shared.kafka import create_topics
from shared.keys import new_key
from shared.sealing import new_sealing_key

POSTGRES_VERSION = "18"

logger = logging.getLogger(__name__)


class StackError(Exception):
    """The stack could not start; the message is for the user."""


class LocalStack:
    """Kafka, PostgreSQL, and with `processes="all"` also the gateway, migrations, topics and all services.

    `port` is the gateway's (None: a free one, kept in the state directory). As a context manager it is ready when
    entered and leaves neither process nor port behind. Raises `StackError` or `AlreadyRunningError` on entering.
    """

    def __init__(
        self,
        state: Path,
        *,
        port: int | None = None,
        host: str = "127.0.0.1",
        processes: Literal["all", "infrastructure"] = "all",
        application: Sequence[Service] = SERVICES,
        cache: Path | None = None,
        reporter: Reporter | None = None,
        log_level: str = "INFO",
        policy: RestartPolicy | None = None,
    ) -> None:
        self.state = StateDirectory(state)
        self._port = port
        self._host = host
        self._with_services = processes == "all"
        self._application = tuple(application) if self._with_services else ()
        self._cache = cache or default_cache(os.environ, self.state.path)
        self._reporter = reporter or Silent()
        self._log_level = log_level
        self._policy = policy
        self._ports: Mapping[str, int] = {}
        self._password = ""
        self._phase = ProcessState.STOPPED
        self._supervisor: Supervisor | None = None
        self._cleanup = AsyncExitStack()

    @property
    def kafka(self) -> str:
        """Bootstrap servers."""
        return f"127.0.0.1:{self._ports['kafka']}"

    @property
    def postgres(self) -> str:
        """A postgresql:// URL with the password in it."""
        return postgres.url(password=self._password, port=self._ports["postgres"])

    @property
    def gateway(self) -> str:
        """The URL of the one public port."""
        return f"http://{gateway.reachable(self._host)}:{self._ports['gateway']}"

    @property
    def keys(self) -> dict[str, str]:
        """The admin, ingest and read API keys."""
        return read_keys(self.state)

    def port_of(self, name: str) -> int:
        return self._ports[name]

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Returns when everything is ready; on failure or cancellation nothing is left running."""
        self._cleanup.enter_context(self.state.locked())
        try:
            await self._start()
        except BaseException as error:
            reason = str(error) if isinstance(error, Exception) else "interrupted"
            await self._stop(ProcessState.FAILED, reason)
            if isinstance(error, StartError | ArtifactError | ProgramError | kafka.BrokerRunningError):
                raise StackError(reason) from error
            if isinstance(error, ports.NoFreePortError | postgres.PostgresUnusableError | StateError | OSError):
                raise StackError(reason) from error
            raise

    async def stop(self) -> None:
        """Ends every process, in reverse order of starting."""
        if self._supervisor is not None:
            self._phase = ProcessState.STOPPING
            self._record()
        await self._stop(ProcessState.STOPPED, "")

    async def _start(self) -> None:
        before = self.state.read()
        self._ports = before.ports
        await self._end_left_overs(before)
        self._choose_ports(before)
        self._phase = ProcessState.STARTING
        self._record()
        self._password = self._make_secrets()
        preparing = asyncio.create_task(self._prepare_postgres())
        try:
            jars, account = await self._prepare_kafka(), await preparing
        finally:
            preparing.cancel()
            await asyncio.gather(preparing, return_exceptions=True)
        units = self._infrastructure(jars, account)
        if self._with_services:
            units += self._everything_else()
        self._supervisor = Supervisor(units, self.state.logs, observer=self._on_change, policy=self._policy)
        await self._supervisor.start()
        self._phase = ProcessState.READY
        self._record()

    async def _stop(self, phase: ProcessState, message: str) -> None:
        if self._supervisor is not None:
            await self._supervisor.stop()
        self._phase = phase
        self._record(message)
        self._supervisor = None
        await self._cleanup.aclose()

    async def _end_left_overs(self, before: Record) -> None:
        """Children of a supervisor that was killed end by themselves; this makes sure before anything starts."""
        alive = [
            record.identity
            for record in before.processes
            if record.identity is not None and children.is_alive(record.identity)
        ]
        if alive:
            logger.warning("the last supervisor was killed; ending the %d processes it left", len(alive))
            await children.end_left_overs(alive)

    def _choose_ports(self, before: Record) -> None:
        names = ["kafka", "kafka-controller", "postgres", *(service.name for service in self._application)]
        if self._with_services and self._port is None:
            names.append("gateway")
        choice = ports.choose_ports(names, before.ports, ports.is_free, ports.random_candidates())
        for name, port in choice.moved.items():
            holder = ports.holder_of(port) or "another program"
            logger.warning("port %d of %s was taken by %s; it now has %d", port, name, holder, choice.ports[name])
        chosen = dict(choice.ports)
        if self._with_services and self._port is not None:
            refusal = ports.refusal_of(self._port, self._host)
            if refusal is not None:
                raise StateError(_not_listening(self._host, self._port, refusal))
            chosen["gateway"] = self._port
        self._ports = {**self._ports, **chosen}

    def _make_secrets(self) -> str:
        if self._with_services:
            if not self.state.keys_file.exists():
                keys = {scope: new_key() for scope in SCOPES}
                write_private(self.state.keys_file, json.dumps(keys, indent=1).encode() + b"\n")
            read_keys(self.state)
            if not self.state.sealing_keys_file.exists():
                write_private(self.state.sealing_keys_file, f"{new_sealing_key()}\n".encode())
        if not self.state.password_file.exists():
            if self.state.is_complete("postgres", POSTGRES_VERSION):
                raise StateError(f"{self.state.password_file} is missing: without it the database cannot be opened")
            write_private(self.state.password_file, postgres.new_password().encode())
        return self.state.password_file.read_text(encoding="ascii").strip()

    async def _prepare_kafka(self) -> tuple[Path, ...]:
        directory = self.state.path / "kafka"
        directory.mkdir(exist_ok=True)
        jars = await asyncio.to_thread(fetch, self._cache, self._reporter)
        config, data = directory / "server.properties", directory / "data"
        text = kafka.server_properties(
            data=data, port=self._ports["kafka"], controller_port=self._ports["kafka-controller"]
        )
        write_private(config, text.encode())
        await kafka.refuse_second_broker(data)
        if not self.state.is_complete("kafka", kafka.METADATA_VERSION):
            with self._reporter.working("Formatting Kafka's storage"):
                await kafka.format_storage(jars, config=config, data=data)
            self.state.mark_complete("kafka", kafka.METADATA_VERSION)
        return jars

    async def _prepare_postgres(self) -> Account:
        directory = self.state.path / "postgres"
        directory.mkdir(exist_ok=True)
        account = await postgres.choose_account(directory / "data")
        if account.user is not None:  # that user must be able to pass through
            self.state.path.chmod(0o711)
            directory.chmod(0o711)
        if not self.state.is_complete("postgres", POSTGRES_VERSION):
            with self._reporter.working("Creating the PostgreSQL database"):
                await postgres.initialise(directory / "data", password=self._password, account=account)
            self.state.mark_complete("postgres", POSTGRES_VERSION)
        return account

    def _infrastructure(self, jars: Sequence[Path], account: Account) -> list[Process | Job]:
        root = self.state.path
        return [
            kafka.broker(jars, config=root / "kafka" / "server.properties", port=self._ports["kafka"]),
            postgres.server(
                data=root / "postgres" / "data",
                port=self._ports["postgres"],
                password=self._password,
                account=account,
            ),
        ]

    def _everything_else(self) -> list[Process | Job]:
        directory = self.state.path / "gateway"
        directory.mkdir(exist_ok=True)
        neighbours = Neighbours(
            self.kafka, self.postgres, self.state.keys_file, self._log_level, self.state.sealing_keys_file
        )
        return [
            gateway.gateway(host=self._host, port=self._ports["gateway"], backends=self._ports, directory=directory),
            Job("topics", lambda: create_topics(self.kafka, replication_factor=1), depends_on=("kafka",)),
            Job(
                "migrations",
                lambda: migrations.migrate(self.postgres, cwd=directory),
                depends_on=("postgres",),
            ),
            *(
                services.service_process(
                    service,
                    neighbours=neighbours,
                    port=self._ports[service.name],
                    depends_on=("topics", "migrations"),
                    cwd=self.state.path,
                )
                for service in self._application
            ),
        ]

    def _on_change(self, supervisor: Supervisor) -> None:
        self._record()
        self._reporter.processes(supervisor.statuses())

    def _record(self, message: str = "") -> None:
        statuses = self._supervisor.statuses() if self._supervisor else []
        identities = self._supervisor.identities() if self._supervisor else {}
        me = identify(os.getpid())
        alive = self._phase not in (ProcessState.STOPPED, ProcessState.FAILED)
        self.state.write(
            Record(
                supervisor=ProcessRecord(
                    name="supervisor",
                    pid=os.getpid(),
                    started=me.started if me else "",
                    port=None,
                    state=self._phase,
                )
                if alive
                else None,
                phase=self._phase,
                message=message,
                gateway=self.gateway if self._with_services and "gateway" in self._ports else None,
                ports=self._ports,
                processes=tuple(
                    ProcessRecord(
                        name=status.name,
                        pid=status.pid,
                        started=identities[status.name].started if status.name in identities else "",
                        port=status.port,
                        state=status.state,
                        restarts=status.restarts,
                        detail=status.detail,
                    )
                    for status in statuses
                ),
            )
        )


def fetch(cache: Path, reporter: Reporter) -> tuple[Path, ...]:
    """Kafka's jars, downloaded on first use. Blocks. Raises `ArtifactError`."""
    jars = parse_lock(LOCK_FILE.read_text(encoding="utf-8"))
    directory = cache / "kafka"
    missing = missing_jars(jars, directory)
    if not missing:
        return tuple(directory / jar.file_name for jar in jars)
    with reporter.downloading(sum(jar.size for jar in missing)) as advance:
        return fetch_jars(jars, directory, advance)


def _not_listening(host: str, port: int, refusal: OSError) -> str:
    if refusal.errno != errno.EADDRINUSE:
        return f"cannot listen on {host}, port {port}: {refusal.strerror}"
    return (
        f"port {port} is already in use by {ports.holder_of(port) or 'another program'}; "
        f"stop that, or choose another port: tidegate up --port {port + 1}"
    )
