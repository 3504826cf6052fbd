"""A stack whose workers are ours: as many as wanted, and with a proxy between them and Postgres.

gateway ─ ingest ─ Kafka ─────────────┐
                     │             worker 0 … 2 ─ proxy ─ Postgres
          assignment, aggregator's REST, alerting ──────────┘
"""

from __future__ import annotations

import socket
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit, urlunsplit

import orjson

from deploy.local.process import Process
from deploy.local.readiness import http_status
from deploy.local.restarts import RestartPolicy
from deploy.local.services import SERVICES, Neighbours, service_process
from deploy.local.stack import LocalStack
from deploy.local.supervisor import Supervisor
from services.aggregator.shard_folder import GapError
from tests.faults.proxy import Proxy
from tests.faults.reader import Reader
from tests.faults.victims import OfStack, OfSupervisor, Victim
from tests.patient import PatientClient

WORKER = next(service for service in SERVICES if service.name == "aggregator-worker")


AT_ONCE = RestartPolicy(longest_delay=0.1)
"""Who is killed every few seconds should not be taken for one that cannot live."""


_MOST_CRASHES = 5
_RECOVERY = "automatic recovery in progress"
_SOON = timedelta(seconds=30)
"""After a recovery, every partition has met its gap if there is one."""


class Site:
    """As a context manager: everything is ready with one worker when entered, nothing is left when exited."""

    def __init__(self, state: Path) -> None:
        self.stack = LocalStack(state, application=tuple(s for s in SERVICES if s is not WORKER), policy=AT_ONCE)
        self._workers: dict[int, Supervisor] = {}
        self._cleanup = AsyncExitStack()

    async def __aenter__(self) -> Self:
        try:
            await self._cleanup.enter_async_context(self.stack)
            self.proxy = await self._cleanup.enter_async_context(Proxy(self.stack.port_of("postgres")))
            self.client = PatientClient(self.stack.gateway, self.stack.keys["admin"])
            self._cleanup.push_async_callback(self.client.close)
            self.reader = Reader(self.client)
            self._cleanup.push_async_callback(self.scale, 0)
            await self.scale(1)
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Ends everything, once."""
        await self._cleanup.aclose()

    def victim(self, name: str) -> Victim:
        """One of the stack's processes."""
        return OfStack(self.stack, name)

    @property
    def workers(self) -> list[Victim]:
        return [OfSupervisor(supervisor) for supervisor in self._workers.values()]

    async def scale(self, workers: int) -> None:
        """Returns when exactly so many workers run, the new ones ready."""
        while len(self._workers) > workers:
            _, supervisor = self._workers.popitem()
            await supervisor.stop()
        while len(self._workers) < workers:
            instance = len(self._workers)
            process = self.worker(instance, self.proxied(self.stack.postgres))
            supervisor = Supervisor([process], self.logs, policy=AT_ONCE)
            self._workers[instance] = supervisor
            await supervisor.start()

    def crashes(self) -> list[str]:
        """How workers ended that ended by themselves: for no fault of ours may they have to.

        But for one: Postgres that died may have lost its last commits; a worker then starts again from the cursor.
        """
        recoveries = self._recoveries()
        found = []
        for log in sorted(self.logs.glob("worker-*.log")):
            for line in log.read_bytes().splitlines():
                if b'"the worker stops"' in line:
                    entry = orjson.loads(line)
                    why, at = entry["exception"].strip().splitlines()[-1], datetime.fromisoformat(entry["time"])
                    if GapError.__name__ not in why or not any(at - _SOON < one < at for one in recoveries):
                        found.append(f"{log.stem}, {at}: {why}")
        return found

    def _recoveries(self) -> list[datetime]:
        """When Postgres found that it had died."""
        lines = (self.logs / "postgres.log").read_text().splitlines()
        return [datetime.fromisoformat(f"{line[:23]}+00:00") for line in lines if _RECOVERY in line]

    def expect_life(self) -> None:
        """Fails early where waiting is in vain: a worker that dies again and again by itself counts nothing."""
        crashes = self.crashes()
        assert len(crashes) <= _MOST_CRASHES, "\n".join(crashes[-_MOST_CRASHES:])

    @property
    def logs(self) -> Path:
        return self.stack.state.logs

    def proxied(self, url: str) -> str:
        """The same database by way of the proxy."""
        parts = urlsplit(url)
        place = parts.netloc.rpartition(":")[0]
        return urlunsplit(parts._replace(netloc=f"{place}:{self.proxy.port}"))

    def worker(self, instance: int, postgres: str, name: str = "worker") -> Process:
        """A worker that writes to the database `postgres`."""
        neighbours = Neighbours(self.stack.kafka, postgres, self.stack.state.keys_file, "INFO")
        process = service_process(
            WORKER, neighbours=neighbours, port=free_port(), depends_on=(), cwd=self.stack.state.path
        )
        env = {**process.env, "TIDEGATE_INSTANCE": str(instance)}
        return replace(process, name=f"{name}-{instance}", env=env, check=partial(_lives, process.port or 0))


async def _lives(port: int) -> bool:
    """Not `/readyz`: the group may have no partition left for a worker, then there is nothing to be ready for."""
    return await http_status(port, "/healthz") == 200


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
