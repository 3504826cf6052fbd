"""Ingest on real Kafka: what is acknowledged is in the topic, through bad input, shutdowns and broker crashes."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import random
import signal
import socket
import sys
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

import httpx
import pytest
import pytest_asyncio
from prometheus_client import CollectorRegistry

from deploy.local.stack import LocalStack
from services.ingest.event_log import Cause, NotStoredError, Record
from services.ingest.http import BATCH_PATH, EVENT_PATH, PREDICTION_PATH
from services.ingest.kafka_producer import KafkaProducer
from services.ingest.metrics import IngestMetrics
from services.ingest.producer import Limits, SharedBatches
from shared.kafka import Publisher, Tail, create_topics, partition_of
from shared.keys import describe_key, new_key
from shared.messages import Event, Scope
from shared.topics import EVENTS, KEYS, PREDICTIONS
from tests.unit.ingest.event_log_suite import EventLogSuite
from tests.waiting import eventually

JSON = {"Content-Type": "application/json"}


class TopicTail:
    """What has come into `events.v1` since the object was made."""

    def __init__(self, tail: Tail, begins: Mapping[int, int]) -> None:
        self._tail = tail
        self._begins = begins

    @classmethod
    @asynccontextmanager
    async def opened(cls, kafka: str) -> AsyncIterator[TopicTail]:
        tail = Tail(kafka, EVENTS.name)
        await tail.start()
        try:
            yield cls(tail, await tail.end_offsets())
        finally:
            await tail.stop()

    async def records(self) -> Mapping[int, Sequence[Record]]:
        """Partition → (key, value) in order."""
        found: dict[int, list[Record]] = {partition: [] for partition in self._begins}
        for record in await self._tail.read(1_000_000, deadline=60):
            if record.offset >= self._begins[record.partition]:
                found[record.partition].append((record.key.decode(), record.value))
        return found

    async def events(self) -> list[tuple[int, Event]]:
        """(partition, event)"""
        partitions = await self.records()
        return [(number, EVENTS.decode(value)) for number, found in partitions.items() for _, value in found]


class KafkaHarness:
    def __init__(self, log: SharedBatches, topic: TopicTail) -> None:
        self.log = log
        self._topic = topic

    async def stored(self, count: int) -> Mapping[int, Sequence[Record]]:
        async def enough() -> bool:
            return sum(map(len, (await self._topic.records()).values())) >= count

        await eventually(enough, f"{count} records are in the topic")
        return await self._topic.records()

    async def stop(self) -> None:
        await self.log.stop()


class TestSharedBatchesOnKafka(EventLogSuite):
    @pytest_asyncio.fixture
    async def harness(self, kafka: str) -> AsyncIterator[KafkaHarness]:
        metrics = IngestMetrics(CollectorRegistry()).of_topic(EVENTS.name)
        log = SharedBatches(EVENTS.name, lambda: KafkaProducer(kafka), Limits(), metrics)
        await log.start()
        async with TopicTail.opened(kafka) as topic:
            harness = KafkaHarness(log, topic)
            yield harness
            await harness.stop()


class Ingest:
    """A running process of the service, with a key for each scope."""

    def __init__(
        self, process: asyncio.subprocess.Process, client: httpx.AsyncClient, keys: Mapping[Scope, str]
    ) -> None:
        self.process = process
        self.client = client
        self.keys = keys

    async def send(self, path: str, body: bytes) -> httpx.Response:
        return await self.client.post(path, content=body, headers={**JSON, "X-API-Key": self.keys["ingest"]})

    async def dead_letters(self, limit: int = 100) -> list[dict[str, object]]:
        answer = await self.client.get(
            "/api/v1/streaming-analytics/dead-letters",
            params={"limit": limit},
            headers={"X-API-Key": self.keys["read"]},
        )
        assert answer.status_code == 200, answer.text
        items: list[dict[str, object]] = answer.json()["items"]
        return items


@asynccontextmanager
async def running_ingest(kafka: str, processes: int = 1) -> AsyncIterator[Ingest]:
    scopes: tuple[Scope, ...] = ("ingest", "read")
    keys: dict[Scope, str] = {scope: new_key() for scope in scopes}
    publisher = Publisher(kafka)
    await publisher.start()
    for scope, key in keys.items():
        await publisher.publish(KEYS, describe_key(key, organisation="acme", scope=scope))
    await publisher.stop()
    port = _free_port()
    environment = {
        "TIDEGATE_KAFKA": kafka,
        "TIDEGATE_POSTGRES": "postgresql://nobody@127.0.0.1:1/none",
        "TIDEGATE_PORT": str(port),
        "TIDEGATE_PROCESSES": str(processes),
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services.ingest", env={**os.environ, **environment}
    )
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
            await eventually(lambda: _is_ready(client), "ingest is ready")
            yield Ingest(process, client, keys)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@pytest_asyncio.fixture(scope="module")
async def ingest(kafka: str) -> AsyncIterator[Ingest]:
    async with running_ingest(kafka) as running:
        yield running


async def _is_ready(client: httpx.AsyncClient) -> bool:
    try:
        return (await client.get("/readyz")).status_code == 200
    except httpx.TransportError:
        return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _event(event_id: str, user: int) -> bytes:
    return b'{"event_type":"user_action","event_id":"%s","user_id":"user-%d"}' % (event_id.encode(), user)


async def test_acknowledged_events_are_in_the_topic_once_each_on_the_right_partition(
    ingest: Ingest, kafka: str
) -> None:
    async with TopicTail.opened(kafka) as topic:
        singles = [str(uuid.uuid4()) for _ in range(100)]
        batches = [[str(uuid.uuid4()) for _ in range(50)] for _ in range(20)]
        answers = await asyncio.gather(
            *(ingest.send(EVENT_PATH, _event(event_id, n)) for n, event_id in enumerate(singles)),
            *(
                ingest.send(BATCH_PATH, b'{"events":[' + b",".join(_event(e, n) for n, e in enumerate(ids)) + b"]}")
                for ids in batches
            ),
        )

        assert {answer.status_code for answer in answers} == {202}
        events = await topic.events()
        assert Counter(e.event_id for _, e in events) == Counter(singles + [e for ids in batches for e in ids])
        assert all(partition == partition_of(event.user_id or "", 4) for partition, event in events)
        assert {event.organisation for _, event in events} == {"acme"}


async def test_a_file_sent_again_with_its_key_keeps_its_ids_in_any_process(ingest: Ingest, kafka: str) -> None:
    """Its lines have none; as they keep what follows from the key, the aggregator counts each of them once."""
    count = 30_000
    file = gzip.compress(b"".join(b'{"event_type":"user_action","user_id":"user-%d"}\n' % n for n in range(count)))
    described = {"Content-Type": "application/x-ndjson", "Content-Encoding": "gzip", "Idempotency-Key": "file-1"}
    async with TopicTail.opened(kafka) as topic, running_ingest(kafka) as another:
        for process in (ingest, another):
            headers = {**described, "X-API-Key": process.keys["ingest"]}
            answer = await process.client.post(BATCH_PATH, content=file, headers=headers)
            assert (answer.status_code, answer.json()["accepted"]) == (202, count)

        stored = Counter(event.event_id for _, event in await topic.events())

    assert len(stored) == count
    assert set(stored.values()) == {2}


HOSTILE = {
    "wrong types": b'{"event_type":5,"event_data":"x","user_id":[1]}',
    "NaN": b'{"event_type":"a","event_data":{"x":NaN}}',
    "1e400": b'{"event_type":"a","event_data":{"x":1e400}}',
    "2^70": b'{"event_type":"a","event_data":{"x":1180591620717411303424}}',
    "NUL": b'{"event_type":"a\\u0000b"}',
    "lone surrogate": b'{"event_type":"a","user_id":"\\ud800"}',
    "1 MB string": b'{"event_type":"a","event_data":{"x":"' + b"y" * 1_000_000 + b'"}}',
    "deep nesting": b'{"event_type":"a","event_data":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "two documents": b'{"event_type":"a"}{"event_type":"b"}',
    "empty body": b"",
    "null": b"null",
    "list": b'[{"event_type":"a"}]',
    "number": b"1e999",
    "truncated": b'{"event_type":"a"',
    "no UTF-8": b'{"event_type":"\xff"}',
    "too long type": b'{"event_type":"' + b"t" * 201 + b'"}',
    "year 1": b'{"event_type":"a","event_timestamp":"0001-01-01T00:00:00+23:59"}',
    "year 9999": b'{"event_type":"a","event_timestamp":"9999-12-31T23:59:59-23:59"}',
}


@pytest.mark.parametrize("body", HOSTILE.values(), ids=HOSTILE)
async def test_hostile_bodies_are_refused_and_nothing_of_them_is_stored(
    ingest: Ingest, kafka: str, body: bytes
) -> None:
    async with TopicTail.opened(kafka) as topic:
        for answer in (
            await ingest.send(EVENT_PATH, body),
            await ingest.send(BATCH_PATH, body),
            await ingest.send(BATCH_PATH, b'{"events":[' + body + b"]}"),
        ):
            assert 400 <= answer.status_code < 500, answer.text
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.json()["reason"]

        assert await topic.events() == []
    assert (await ingest.client.get("/readyz")).status_code == 200


@pytest.mark.parametrize("key", [None, "", "wrong", "tg_0000000000_" + "0" * 48, "\xff\xfe"])
async def test_a_wrong_key_is_refused(ingest: Ingest, key: str | None) -> None:
    headers = {} if key is None else {"X-API-Key": key.encode("latin-1")}
    answer = await ingest.client.post(EVENT_PATH, content=_event("e", 1), headers={**_bytes(JSON), **_bytes(headers)})

    assert answer.status_code == 401


def _bytes(headers: Mapping[str, str | bytes]) -> dict[bytes, bytes]:
    return {k.encode(): v if isinstance(v, bytes) else v.encode() for k, v in headers.items()}


async def test_an_invalid_event_can_be_looked_up_among_the_dead_letters(ingest: Ingest) -> None:
    event_id = str(uuid.uuid4())
    body = b'{"event_type":"","event_id":"%s"}' % event_id.encode()
    large = b'{"event_type":"a","event_id":"%s","event_data":{"x":"' % event_id.encode() + b"y" * 2_000_000 + b'"}}'

    for sent in (body, large):
        answer = await ingest.send(EVENT_PATH, sent)
        assert (answer.status_code, "reason" in answer.json()) == (422, True)

    newest, before = (await ingest.dead_letters())[:2]
    assert newest["reason"] == "event_too_large"
    assert before["reason"] == "event_type_empty"
    assert before["payload"] == {"event_type": "", "event_id": event_id}
    assert before["origin"] == "http"


async def test_a_prediction_is_an_event_and_stands_among_few_others_to_be_listed(ingest: Ingest, kafka: str) -> None:
    event_id = str(uuid.uuid4())
    said = {"prediction_type": "churn", "input_data": {"customer_id": 123}, "prediction_result": {"risk": "high"}}

    answer = await ingest.send(PREDICTION_PATH, json.dumps({**said, "event_id": event_id}).encode())

    assert (answer.status_code, answer.json()["event_id"]) == (202, event_id)
    for topic in (EVENTS, PREDICTIONS):
        tail = Tail(kafka, topic.name)
        await tail.start()
        newest = [topic.decode(record.value) for record in await tail.read(1_000)]
        await tail.stop()
        assert [e.properties for e in newest if e.event_id == event_id] == [said]


async def test_sigterm_under_load_loses_nothing_acknowledged_and_ends_cleanly(kafka: str) -> None:
    async with TopicTail.opened(kafka) as topic, running_ingest(kafka) as ingest:
        acknowledged: set[str] = set()

        async def client(user: int) -> None:
            while True:
                event_id = str(uuid.uuid4())
                try:
                    answer = await ingest.send(EVENT_PATH, _event(event_id, user))
                except httpx.TransportError:
                    return
                assert answer.status_code in (202, 503)
                if answer.status_code == 202:
                    acknowledged.add(event_id)

        clients = [asyncio.create_task(client(user)) for user in range(20)]
        await eventually(lambda: _true(len(acknowledged) > 300), "300 events are acknowledged")
        ingest.process.send_signal(signal.SIGTERM)
        await asyncio.gather(*clients)

        assert await asyncio.wait_for(ingest.process.wait(), 20) == 0
        assert acknowledged <= {event.event_id for _, event in await topic.events()}


@pytest_asyncio.fixture(scope="module")
async def fragile(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LocalStack]:
    """A Kafka of our own, to be maltreated."""
    async with LocalStack(tmp_path_factory.mktemp("fragile"), processes="infrastructure") as stack:
        await create_topics(stack.kafka)
        yield stack


async def test_a_broker_killed_under_load_loses_nothing_acknowledged(fragile: LocalStack) -> None:
    async with TopicTail.opened(fragile.kafka) as topic, running_ingest(fragile.kafka) as ingest:
        load = Load(ingest)
        clients = [asyncio.create_task(load.client(user)) for user in range(20)]
        for kill in (signal.SIGKILL, signal.SIGTERM):
            await load.progresses()
            os.kill(_broker(fragile), kill)
            await load.progresses()
        load.enough = True
        await asyncio.gather(*clients)

        # Each id was sent until it was acknowledged, so the topic holds exactly these, some of them perhaps twice.
        assert {event.event_id for _, event in await topic.events()} == load.acknowledged
        assert load.failed <= {503}


async def test_with_a_frozen_broker_requests_fail_at_the_deadline_and_a_new_producer_goes_on(
    fragile: LocalStack,
) -> None:
    registry = CollectorRegistry()
    limits = Limits(ack_deadline=1)
    metrics = IngestMetrics(registry).of_topic(EVENTS.name)
    log = SharedBatches(EVENTS.name, lambda: KafkaProducer(fragile.kafka), limits, metrics)
    await log.start()
    broker = _broker(fragile)
    os.kill(broker, signal.SIGSTOP)
    try:
        with pytest.raises(NotStoredError) as failed:
            async with asyncio.timeout(5):
                await log.append([("user-1", b"{}")])
    finally:
        os.kill(broker, signal.SIGCONT)

    assert failed.value.cause is Cause.DEADLINE
    await eventually(lambda: _true(log.waiting_for() is None), "a new producer is connected")
    await log.append([("user-1", b"{}")])
    labels = {"topic": EVENTS.name, "cause": "deadline"}
    assert registry.get_sample_value("tidegate_ingest_producer_recreations_total", labels) == 1
    await log.stop()


class Load:
    """Clients that send each event, singly or in batches, again and again until it is acknowledged."""

    def __init__(self, ingest: Ingest) -> None:
        self._ingest = ingest
        self.acknowledged: set[str] = set()
        self.failed: set[int] = set()
        self.enough = False

    async def progresses(self, more: int = 200) -> None:
        goal = len(self.acknowledged) + more
        await eventually(
            lambda: _true(len(self.acknowledged) >= goal), f"{more} more events are acknowledged", seconds=60
        )

    async def client(self, user: int) -> None:
        while not self.enough:
            ids = [str(uuid.uuid4()) for _ in range(random.choice((1, 5)))]
            if len(ids) == 1:
                path, body = EVENT_PATH, _event(ids[0], user)
            else:
                path, body = BATCH_PATH, b'{"events":[' + b",".join(_event(e, user) for e in ids) + b"]}"
            while (answer := await self._ingest.send(path, body)).status_code != 202:
                self.failed.add(answer.status_code)
                await asyncio.sleep(0.05)
            self.acknowledged.update(ids)


def _broker(stack: LocalStack) -> int:
    pid = next(process.pid for process in stack.state.read().processes if process.name == "kafka")
    assert pid is not None
    return pid


async def _true(condition: bool) -> bool:
    return condition
