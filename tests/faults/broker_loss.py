"""Kafka is killed and stays away while clients go on: what ingest answers, what it keeps, and when it is back.

python -m tests.faults.broker_loss [--seconds 600] [--quiet] [--processes N] [--json FILE]

 load ───────────────────────────────────────────────────────────────────► all acknowledged, all in the topic
   before │ kill -9 of Kafka │ …nothing but 503… │ Kafka starts │ first 202 │ after
          └── memory of ingest, every quarter of a second ──────────────────────┘
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import orjson
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError

from deploy.local.restarts import RestartPolicy
from deploy.local.stack import LocalStack
from shared.kafka import Publisher, create_topics
from shared.keys import describe_key, new_key
from shared.topics import EVENTS as EVENT_TOPIC
from shared.topics import KEYS
from tests.faults.clients import BUSY, QUIET, Clients, Heard, Load, Target
from tests.faults.progress import Progress
from tests.faults.victims import OfStack, family, resident_bytes, send
from tests.programs import Program
from tests.waiting import eventually

_PROBE_TOPIC = "probe.v1"
_SAMPLE_SECONDS = 0.25


@dataclass(frozen=True, slots=True)
class Outage:
    """`seconds` are those until Kafka is started again; `before` and `after` those of load on either side."""

    seconds: float
    before: float = 20.0
    after: float = 10.0
    load: Load = BUSY
    processes: int = 1


@dataclass(frozen=True, slots=True)
class Figures:
    """Memory in bytes, of all processes of ingest together. Times in seconds from Kafka's being back: when its port
    was open, and when it first acknowledged a record of somebody else's, who tried all the time."""

    seconds: float
    """For how long nobody could write to Kafka: what was asked for, and its start."""
    requests: int
    """Meanwhile."""
    statuses: Mapping[str, int]
    """From the first to the last: by way in, status and reason."""
    statuses_meanwhile: Mapping[str, int]
    without_retry_after: int
    waits: Mapping[str, int]
    slowest_answer: float
    memory_before: int
    memory_most: int
    memory_after: int
    from_open_port: float
    from_first_record: float
    acknowledged: int
    missing: int
    """Acknowledged events that the topic does not have."""
    restarts: int
    memory: tuple[tuple[float, int], ...] = ()
    """Every ten seconds or so."""


class _Memory:
    """Samples what a program and its children use until it is cancelled."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self.most = 0
        self.line: list[tuple[float, int]] = []

    def now(self) -> int:
        found = sum(resident_bytes(each) for each in family(self._pid))
        self.most = max(self.most, found)
        return found

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        while True:
            found = self.now()
            at = loop.time() - began
            if not self.line or at - self.line[-1][0] >= 10:
                self.line.append((round(at, 1), found))
            await asyncio.sleep(_SAMPLE_SECONDS)


async def lose_broker(outage: Outage, directory: Path, progress: Progress) -> Figures:
    """Everything it starts is ended."""
    loop = asyncio.get_running_loop()
    policy = RestartPolicy(first_delay=outage.seconds, longest_delay=outage.seconds)
    async with LocalStack(directory / "state", processes="infrastructure", policy=policy) as stack:
        key = await _prepared(stack.kafka)
        async with _ingest(stack, outage.processes, directory / "ingest.log") as ingest:
            heard = Heard(loop.time)
            target = Target(lambda: ingest.port, key, "outage")
            clients = Clients(target, outage.load, heard)
            memory = _Memory(ingest.pid)
            running = asyncio.create_task(clients.run())
            sampling = asyncio.create_task(memory.run())
            try:
                await asyncio.sleep(outage.before)
                memory.most, before, so_far = 0, memory.now(), heard.statuses.copy()
                pids = family(ingest.pid)
                progress.say(f"kill -9 of Kafka; ingest has {before / 1e6:.0f} MB")
                send(OfStack(stack, "kafka"), signal.SIGKILL)
                killed = loop.time()
                back = await _Return.awaited(stack)
                meanwhile = heard.statuses - so_far
                progress.say("Kafka takes records again")
                first = await _first_success(target, heard, back)
                progress.say(f"first 202 {first - back.record:.2f} s after that")
                if running.done():
                    await running
                await asyncio.sleep(outage.after)
                after = memory.now()
                clients.stop()
                async with asyncio.timeout(120):
                    await running
            finally:
                running.cancel()
                sampling.cancel()
                await asyncio.gather(running, sampling, return_exceptions=True)
            missing = heard.acknowledged - await _stored(stack.kafka)
            return Figures(
                seconds=round(back.record - killed, 1),
                requests=sum(meanwhile.values()),
                statuses=dict(heard.statuses),
                statuses_meanwhile=dict(meanwhile),
                without_retry_after=heard.without_retry_after,
                waits=dict(heard.waits),
                slowest_answer=round(heard.slowest, 2),
                memory_before=before,
                memory_most=memory.most,
                memory_after=after,
                from_open_port=round(first - back.port, 2),
                from_first_record=round(first - back.record, 2),
                acknowledged=len(heard.acknowledged),
                missing=len(missing),
                restarts=len(set(family(ingest.pid)) - set(pids)),
                memory=tuple(memory.line),
            )


@dataclass(frozen=True, slots=True)
class _Return:
    """When Kafka came back, by the event loop's clock."""

    port: float
    record: float

    @classmethod
    async def awaited(cls, stack: LocalStack) -> _Return:
        loop = asyncio.get_running_loop()
        port = stack.port_of("kafka")
        while await _is_open(port):  # it takes a moment to die
            await asyncio.sleep(0.01)
        while not await _is_open(port):
            await asyncio.sleep(0.02)
        opened = loop.time()
        while True:
            producer = AIOKafkaProducer(bootstrap_servers=stack.kafka, request_timeout_ms=1_000)
            try:
                async with asyncio.timeout(3):
                    await producer.start()
                    await producer.send_and_wait(_PROBE_TOPIC, b"back?")
                return cls(opened, loop.time())
            except (KafkaError, OSError, TimeoutError):
                await asyncio.sleep(0.02)
            finally:
                await producer.stop()


async def _is_open(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


async def _first_success(target: Target, heard: Heard, back: _Return) -> float:
    """When the first answer 202 came after Kafka's port was open; asks by itself too, for nobody else may."""
    probe = Clients(target, Load(singles=1, batches=0, uploads=0, sockets=0, pause=0.1), heard)
    probing = asyncio.create_task(probe.run("probe-"))

    async def found() -> bool:
        return any(at > back.port for at in heard.successes)

    try:
        await eventually(found, "an event is taken again", seconds=60, every=0.01)
    finally:
        probe.stop()
        await probing
    return min(at for at in heard.successes if at > back.port)


async def _prepared(kafka: str) -> str:
    """Topics, and a key that is known to whoever starts from now on."""
    await create_topics(kafka, replication_factor=1)
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(_PROBE_TOPIC, 1, 1)])
    finally:
        await admin.close()
    key = new_key()
    publisher = Publisher(kafka)
    await publisher.start()
    try:
        await publisher.publish(KEYS, describe_key(key, organisation="default", scope="ingest"))
    finally:
        await publisher.stop()
    return key


@asynccontextmanager
async def _ingest(stack: LocalStack, processes: int, log: Path) -> AsyncIterator[Program]:
    env = {
        "TIDEGATE_KAFKA": stack.kafka,
        "TIDEGATE_POSTGRES": stack.postgres,
        "TIDEGATE_PROCESSES": str(processes),
    }
    async with Program("services.ingest", log=log, env=env) as program:
        yield program


async def _stored(kafka: str) -> set[str]:
    """The ids of all events in the topic."""
    consumer = AIOKafkaConsumer(bootstrap_servers=kafka, group_id=None, enable_auto_commit=False)
    await consumer.start()
    try:
        partitions = [TopicPartition(EVENT_TOPIC.name, n) for n in range(EVENT_TOPIC.partitions)]
        consumer.assign(partitions)
        await consumer.seek_to_beginning(*partitions)
        ends = await consumer.end_offsets(partitions)
        left = {partition for partition, end in ends.items() if end}
        found: set[str] = set()
        while left:
            for partition, records in (await consumer.getmany(timeout_ms=1_000)).items():
                found.update(orjson.loads(record.value)["event_id"] for record in records)
                if records[-1].offset + 1 >= ends[partition]:
                    left.discard(partition)
        return found
    finally:
        await consumer.stop()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.broker_loss", description="Kafka goes away.")
    parser.add_argument("--seconds", type=float, default=15.0, help="how long Kafka is away")
    parser.add_argument("--quiet", action="store_true", help="nobody sends until Kafka is back")
    parser.add_argument("--processes", type=int, default=1, help="of ingest")
    parser.add_argument("--clients", type=int, default=40, help="connections that send all the time")
    parser.add_argument("--json", type=Path, help="where the figures go besides the terminal")
    options = parser.parse_args()
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    singles = options.clients * 3 // 4
    load = QUIET if options.quiet else Load(singles=singles, batches=options.clients - singles)
    outage = Outage(options.seconds, load=load, processes=options.processes)
    with tempfile.TemporaryDirectory(prefix="tidegate-outage-") as directory:
        figures = asyncio.run(lose_broker(outage, Path(directory), Progress()))
    text = orjson.dumps(asdict(figures), option=orjson.OPT_INDENT_2).decode()
    print(text)
    if options.json is not None:
        options.json.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
