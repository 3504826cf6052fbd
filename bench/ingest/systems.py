"""The systems that take events over HTTP: ours and peers, each started for one workload and ready to take events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.ingest.forms import TIDEGATE, Form
from bench.ingest.peers import Peer, Place, start_of
from bench.ingest.requests import Requests, new_run
from bench.ingest.target import Target
from bench.ingest.workloads import WORKLOADS, Workload
from bench.processes import BenchError, Measured, measured
from deploy.local.ports import is_free, random_candidates
from deploy.local.readiness import is_ready
from shared.topics import EVENTS

_START_SECONDS = 60.0
_PROBE_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Site:
    """What stands ready before a system starts; `key` may send events."""

    kafka: str
    postgres: str
    key: str
    directory: Path
    seed: int


@dataclass(frozen=True, slots=True)
class Running:
    """Takes events in its `form` below `base` into `topic`.

    Of what others started only the URL is `given`: it has no `program`, and nobody knows its topic.
    """

    form: Form
    base: str = ""
    topic: str = ""
    program: Measured | None = None
    given: str = ""

    def url(self, workload: Workload) -> str:
        return self.given or self.base + self.form.path_for(is_batch=workload.is_batch, topic=self.topic)


@asynccontextmanager
async def ours(site: Site, processes: int) -> AsyncIterator[Running]:
    """The real service, ready. Raises BenchError."""
    port = _free_port()
    environment = {
        "TIDEGATE_KAFKA": site.kafka,
        "TIDEGATE_POSTGRES": site.postgres,
        "TIDEGATE_PORT": str(port),
        "TIDEGATE_PROCESSES": str(processes),
    }
    argv = ("-m", "services.ingest")
    async with measured("ingest", argv, core=None, env=environment, directory=site.directory) as program:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _START_SECONDS
        while not await _says_ready(port):
            await _still_starting(program, deadline)
        yield Running(TIDEGATE, f"http://127.0.0.1:{port}", EVENTS.name, program)


@asynccontextmanager
async def peer_running(site: Site, peer: Peer, topic: str) -> AsyncIterator[Running]:
    """Has taken one event, so that it is connected with Kafka. Raises BenchError."""
    if peer.url:
        running = Running(peer.form, given=peer.url)
        if not await _takes(running, site):
            raise BenchError(f"{peer.name} does not take a single event at {peer.url}")
        yield running
        return
    place = Place(site.kafka, topic, _free_port(), site.directory)
    start = start_of(peer, place)
    program, *argv = start.command
    async with measured(
        peer.name,
        argv,
        core=None,
        env=start.environment,
        directory=site.directory,
        program=program,
        cwd=Path.cwd(),
        is_heard=False,
    ) as process:
        running = Running(peer.form, f"http://127.0.0.1:{place.port}", topic, process)
        deadline = asyncio.get_running_loop().time() + _START_SECONDS
        while not await _takes(running, site):
            await _still_starting(process, deadline)
        yield running


async def _still_starting(program: Measured, deadline: float) -> None:
    if program.has_ended:
        raise await program.death()
    if asyncio.get_running_loop().time() > deadline:
        raise program.failure(f"is not ready after {_START_SECONDS:g} s")
    await asyncio.sleep(0.1)


def _free_port() -> int:
    return next(port for port in random_candidates() if is_free(port))


async def _says_ready(port: int) -> bool:
    try:
        return await is_ready(port)
    except OSError:
        return False


async def _takes(running: Running, site: Site) -> bool:
    """Whether a single event is answered with success."""
    single = WORKLOADS["single"]
    target = Target.of(running.url(single))
    sample = Requests(
        host=target.netloc,
        path=target.path,
        key=site.key,
        form=running.form,
        workload=single,
        run=new_run(),
        seed=site.seed,
    )
    try:
        async with asyncio.timeout(_PROBE_SECONDS):
            reader, writer = await asyncio.open_connection(*target.address)
            try:
                writer.write(sample.numbered(0))
                words = (await reader.readline()).split()
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return False
    return len(words) > 1 and words[1].startswith(b"2")
