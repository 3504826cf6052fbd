"""`tidegate bench ingest`: one Kafka, and on it one system after the other under each workload.

for each system: start ─► as fast as it answers ─► at half that rate ─► in the topic is what was answered ─► figures
"""

from __future__ import annotations

import asyncio
import secrets
import string
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition

from bench.ingest.figures import BENCH, FLOOR, TIDEGATE, Cost, Rates, Round
from bench.ingest.floor import FloorPlan
from bench.ingest.load import KEY_VARIABLE, Plan, Told
from bench.processes import BenchError, Measured, measured
from bench.progress import Bars
from deploy.local.migrations import migrate
from deploy.local.ports import is_free, random_candidates
from deploy.local.readiness import is_ready
from deploy.local.stack import LocalStack
from shared.kafka import Publisher, create_topics
from shared.keys import describe_key, new_key
from shared.topics import EVENTS, KEYS

__all__ = ["BENCH", "SYSTEMS", "TIDEGATE", "run_ingest"]

PROCESSES = {TIDEGATE: 1, "tidegate-2": 2}
"""Of ours, how many processes share the port."""
SYSTEMS = (*PROCESSES, FLOOR)
_PATH = "/api/v1/streaming-analytics/events"
_START_SECONDS = 60.0
_PEAK_SECONDS = 4.0
_HALF_SECONDS = 3.0
_WARM_UP_SECONDS = 1.5


@dataclass(frozen=True, slots=True)
class Workload:
    """`connections` are enough to keep every system busy."""

    name: str
    events: int
    connections: int
    path: str


WORKLOADS = (
    Workload("single", 1, 128, _PATH),
    Workload("batch100", 100, 32, _PATH + "/batch"),
)


async def run_ingest(
    *, systems: Sequence[str], peers: Mapping[str, str], seed: int, cache: Path, bars: Bars
) -> Rates:
    """`peers` are named by URL: of a peer that takes the same bodies by POST, wherever it puts them.

    Everything it starts is ended and everything it writes removed. Raises BenchError when a program fails, or when
    not exactly what was acknowledged is in the topic.
    """
    rounds: list[Round] = []
    with tempfile.TemporaryDirectory(prefix="tidegate-bench-") as directory:
        root = Path(directory)
        async with AsyncExitStack() as resources:
            with bars.showing("Starting Kafka"):
                stack = LocalStack(root / "state", processes="infrastructure", cache=cache)
                await resources.enter_async_context(stack)
                await migrate(stack.postgres, cwd=root)
            site = Site(stack.kafka, stack.postgres, await _prepared(stack.kafka), root, seed)
            for system in systems:
                for workload in WORKLOADS if system != FLOOR else WORKLOADS[-1:]:
                    with bars.showing(f"Measuring {system}: {workload.name}"):
                        rounds.append(await _measure(site, system, workload))
            for name, url in peers.items():
                for workload in WORKLOADS:
                    with bars.showing(f"Measuring {name}: {workload.name}"):
                        peak, half = await _under_load(site, url, workload)
                        rounds.append(Round(workload.name, name, workload.events, peak, half))
    return Rates(sorted(rounds, key=lambda each: [w.name for w in WORKLOADS].index(each.workload)))


@dataclass(frozen=True, slots=True)
class Site:
    """What stands ready before a system starts; `key` may send events."""

    kafka: str
    postgres: str
    key: str
    directory: Path
    seed: int


async def _prepared(kafka: str) -> str:
    """Topics, and a key that is known to whoever starts from now on."""
    await create_topics(kafka)
    key = new_key()
    publisher = Publisher(kafka)
    await publisher.start()
    try:
        await publisher.publish(KEYS, describe_key(key, organisation="default", scope="ingest"))
    finally:
        await publisher.stop()
    return key


async def _measure(site: Site, system: str, workload: Workload) -> Round:
    before = await _records(site.kafka)
    if system == FLOOR:
        told = await _floor(site)
        found = Round(workload.name, system, 1, told)
        accepted = told.accepted
    else:
        async with _service(site, PROCESSES[system]) as (program, port):
            began = program.usage_of_all()
            url = f"http://127.0.0.1:{port}{workload.path}"
            peak = await _load(site, url, workload, 0.0)
            ended = program.usage_of_all()
            half = await _load(site, url, workload, peak.answers / peak.seconds / 2)
            cost = Cost(ended.cpu_seconds - began.cpu_seconds, program.usage_of_all().peak_memory)
        found = Round(workload.name, system, workload.events, peak, half, cost)
        accepted = peak.accepted + half.accepted
    stored = await _records(site.kafka) - before
    if stored != accepted:
        raise BenchError(f"{system} acknowledged {accepted} events of {workload.name}, the topic has {stored}")
    return found


@asynccontextmanager
async def _service(site: Site, processes: int) -> AsyncIterator[tuple[Measured, int]]:
    """The real service, ready."""
    port = next(port for port in random_candidates() if is_free(port))
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
            if program.has_ended:
                raise await program.death()
            if loop.time() > deadline:
                raise program.failure(f"is not ready after {_START_SECONDS:g} s")
            await asyncio.sleep(0.1)
        yield program, port


async def _says_ready(port: int) -> bool:
    try:
        return await is_ready(port)
    except OSError:
        return False


async def _under_load(site: Site, url: str, workload: Workload) -> tuple[Told, Told]:
    """At its peak, then at half of it."""
    peak = await _load(site, url, workload, 0.0)
    return peak, await _load(site, url, workload, peak.answers / peak.seconds / 2)


async def _load(site: Site, url: str, workload: Workload, rate: float) -> Told:
    plan = Plan(
        url=url,
        events=workload.events,
        connections=workload.connections,
        seconds=_HALF_SECONDS if rate else _PEAK_SECONDS,
        warm_up=_WARM_UP_SECONDS,
        rate=rate,
        run="".join(secrets.choice(string.ascii_lowercase) for _ in range(4)),
        seed=site.seed,
    )
    return await _told(site, "load", plan)


async def _floor(site: Site) -> Told:
    return await _told(site, "floor", FloorPlan(site.kafka, _PEAK_SECONDS, _WARM_UP_SECONDS, site.seed))


async def _told(site: Site, name: str, plan: Plan | FloorPlan) -> Told:
    argv = ("-m", f"bench.ingest.{name}", msgspec.json.encode(plan).decode())
    environment = {KEY_VARIABLE: site.key}
    async with measured(name, argv, core=None, env=environment, directory=site.directory) as program:
        async for line in program.lines():
            try:
                return msgspec.json.decode(line, type=Told)
            except msgspec.MsgspecError as error:
                raise BenchError(f"{name} said {line!r}") from error
    raise AssertionError  # `lines` raises at the end


async def _records(kafka: str) -> int:
    """How many have ever been written to the topic."""
    consumer = AIOKafkaConsumer(bootstrap_servers=kafka, group_id=None, enable_auto_commit=False)
    await consumer.start()
    try:
        partitions = [TopicPartition(EVENTS.name, n) for n in range(EVENTS.partitions)]
        return sum((await consumer.end_offsets(partitions)).values())
    finally:
        await consumer.stop()
