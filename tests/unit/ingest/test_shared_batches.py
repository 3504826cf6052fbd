"""Batches over a fake producer: sharing, bounds, deadlines, wedged producers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from unittest.mock import Mock

import pytest
from aiokafka.errors import KafkaError, OutOfOrderSequenceNumber, ProducerFenced
from prometheus_client import CollectorRegistry

from services.ingest.event_log import Cause, NotStoredError, Record
from services.ingest.metrics import IngestMetrics
from services.ingest.producer import Limits, SharedBatches
from shared.kafka import partition_of
from tests.unit.ingest.event_log_suite import EventLogSuite
from tests.unit.ingest.fakes import Batch, Broker, MemoryLog, Producer, until

LIMITS = Limits(pending_bytes=10_000, pending_age=60, ack_deadline=60, linger=0)


class Running:
    """A started log on a fake broker."""

    def __init__(self, limits: Limits = LIMITS, broker: Broker | None = None) -> None:
        self.broker = broker or Broker()
        self.registry = CollectorRegistry()
        metrics = IngestMetrics(self.registry).of_topic("events.v1")
        self.log = SharedBatches("events.v1", self.broker.connect, limits, metrics)

    async def __aenter__(self) -> Running:
        await self.log.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def stop(self) -> None:
        await self.log.stop()

    async def stored(self, count: int) -> Mapping[int, Sequence[Record]]:
        await until(lambda: len(self.broker.records()) >= count)
        return dict(enumerate(self.broker.stored))

    def metric(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(name, {"topic": "events.v1", **labels})


class TestSharedBatches(EventLogSuite):
    @pytest.fixture
    async def harness(self) -> AsyncIterator[Running]:
        async with Running(Limits(ack_deadline=60, pending_age=60)) as running:
            yield running


class MemoryHarness:
    def __init__(self) -> None:
        self.log = MemoryLog()

    async def stored(self, count: int) -> Mapping[int, Sequence[Record]]:
        await until(lambda: len(self.log.records()) >= count)
        return dict(enumerate(self.log.stored))

    async def stop(self) -> None:
        self.log.refuses = Cause.STOPPING


class TestMemoryLog(EventLogSuite):
    @pytest.fixture
    def harness(self) -> MemoryHarness:
        return MemoryHarness()


async def _cause_of(append: asyncio.Task[None]) -> Cause:
    with pytest.raises(NotStoredError) as failed:
        await append
    return failed.value.cause


def _append(running: Running, key: str = "user-1", value: bytes = b"x") -> asyncio.Task[None]:
    return asyncio.create_task(running.log.append([(key, value)]))


def _keys_on(partition: int, count: int) -> list[str]:
    keys = (f"user-{n}" for n in range(10_000))
    return [key for key in keys if partition_of(key, 4) == partition][:count]


async def test_requests_that_come_while_a_batch_travels_share_the_next_one() -> None:
    async with Running() as running:
        running.broker.answers.clear()
        first = _append(running)
        await until(lambda: running.metric("tidegate_ingest_pending_bytes") == 7)
        for _ in range(5):
            await asyncio.sleep(0)  # the first batch leaves
        others = [_append(running) for _ in range(50)]
        await asyncio.sleep(0)
        running.broker.answers.set()

        await asyncio.gather(first, *others)

        assert running.broker.batches == [1, 50]
        assert running.metric("tidegate_ingest_batches_total") == 2
        assert running.metric("tidegate_ingest_batch_records_total") == 51


async def test_what_does_not_fit_into_one_batch_goes_with_the_next() -> None:
    async with Running(Limits(linger=0)) as running:
        await running.log.append([("user-1", bytes(40_000)) for _ in range(7)])

        assert running.broker.batches == [2, 2, 2, 1]


async def test_more_pending_bytes_than_allowed_are_refused_before_they_are_queued() -> None:
    async with Running() as running:
        running.broker.answers.clear()
        waiting = [_append(running, value=bytes(1_000)) for _ in range(10)]
        await asyncio.sleep(0)

        assert running.log.refusal() is Cause.FULL
        assert await _cause_of(_append(running)) is Cause.FULL
        assert (running.metric("tidegate_ingest_pending_bytes") or 0) < 11_000
        assert running.metric("tidegate_ingest_requests_refused_total", cause="pending_bytes") == 1

        running.broker.answers.set()
        await asyncio.gather(*waiting)
        assert running.log.refusal() is None
        await running.log.append([("user-1", b"again")])
        assert len(running.broker.records()) == 11


async def test_when_the_oldest_record_waits_too_long_new_ones_are_refused() -> None:
    async with Running(Limits(pending_age=0.02, linger=0)) as running:
        running.broker.answers.clear()
        waiting = _append(running)
        await until(lambda: running.log.refusal() is Cause.STALE)

        assert await _cause_of(_append(running)) is Cause.STALE
        assert running.log.waiting_for() is not None

        running.broker.answers.set()
        await waiting
        assert running.log.refusal() is None
        assert running.log.waiting_for() is None


async def test_past_the_deadline_requests_fail_and_the_wedged_producer_is_replaced() -> None:
    async with Running(Limits(pending_age=60, ack_deadline=0.1, linger=0)) as running:
        running.broker.answers.clear()

        travelling = _append(running, "user-1")
        for _ in range(5):
            await asyncio.sleep(0)
        queued = _append(running, "user-1")
        assert await _cause_of(travelling) is Cause.DEADLINE
        assert await _cause_of(queued) is Cause.DEADLINE

        running.broker.answers.set()
        await until(lambda: running.log.waiting_for() is None)
        await running.log.append([("user-1", b"after")])
        wedged, *_, successor = running.broker.producers
        assert wedged.stopped
        assert successor.started
        assert not successor.stopped
        assert running.metric("tidegate_ingest_producer_recreations_total", cause="deadline") == 1
        assert running.metric("tidegate_ingest_pending_bytes") == 0


@pytest.mark.parametrize(
    ("error", "label"),
    [
        (OutOfOrderSequenceNumber(), "sequence"),
        (ProducerFenced(), "fenced"),
        (KafkaError("Unexpected error during batch delivery"), "kafka"),
        (RuntimeError("a bug"), "unexpected"),
    ],
)
async def test_a_failed_batch_fails_all_who_wait_on_it_and_its_producer_goes(error: Exception, label: str) -> None:
    async with Running() as running:
        running.broker.failures[partition_of("user-1", 4)] = [error]
        running.broker.answers.clear()
        together = [_append(running) for _ in range(3)]
        for _ in range(5):
            await asyncio.sleep(0)
        queued = _append(running, value=b"waited")
        await asyncio.sleep(0)
        running.broker.answers.set()

        assert [await _cause_of(append) for append in together] == [Cause.PRODUCER] * 3
        await queued

        assert running.broker.records() == [("user-1", b"waited")]
        assert len(running.broker.producers) == 2
        assert running.broker.producers[0].stopped
        assert running.metric("tidegate_ingest_producer_recreations_total", cause=label) == 1


async def test_a_request_fails_when_only_one_of_its_partitions_does() -> None:
    async with Running() as running:
        running.broker.failures[2] = [OutOfOrderSequenceNumber()]
        records = [(_keys_on(partition, 1)[0], b"x") for partition in range(4)]

        with pytest.raises(NotStoredError):
            await running.log.append(records)

        await running.log.append(records)
        assert {key for key, _ in running.broker.records()} == {key for key, _ in records}


async def test_start_waits_for_a_kafka_that_is_not_there_yet() -> None:
    broker = Broker()
    broker.reachable = False
    running = Running(broker=broker)
    starting = asyncio.create_task(running.log.start())
    await until(lambda: bool(broker.producers) and broker.producers[0].stopped)
    assert running.log.waiting_for() is not None

    broker.reachable = True
    await starting

    assert running.log.waiting_for() is None
    await running.log.append([("user-1", b"x")])
    await running.stop()


async def test_what_no_producer_should_raise_is_no_reason_to_give_up(monkeypatch: pytest.MonkeyPatch) -> None:
    start, failures = Producer.start, [ValueError("a fault of the client library")]

    async def faulty(producer: Producer) -> None:
        if failures:
            raise failures.pop()
        await start(producer)

    monkeypatch.setattr(Producer, "start", faulty)
    async with asyncio.timeout(10), Running() as running:
        monkeypatch.setattr(Producer, "create_batch", Mock(side_effect=[ValueError("another"), Batch()]))
        await running.log.append([("user-1", b"x")])


async def test_while_kafka_is_gone_nobody_is_let_in_to_wait_for_a_deadline() -> None:
    async with Running(Limits(pending_age=0.3, ack_deadline=0.4, linger=0)) as running:
        running.broker.answers.clear()
        running.broker.reachable = False
        assert await _cause_of(_append(running)) is Cause.DEADLINE

        assert running.log.refusal() is Cause.STALE
        assert await _cause_of(_append(running)) is Cause.STALE

        running.broker.reachable = True
        running.broker.answers.set()
        await until(lambda: running.log.refusal() is None)
        await running.log.append([("user-1", b"again")])


async def test_a_producer_that_is_replaced_for_another_reason_leaves_time_to_wait_for_the_next() -> None:
    async with Running(Limits(pending_age=30, ack_deadline=60, linger=0)) as running:
        running.broker.failures = {partition: [ProducerFenced()] for partition in range(4)}
        running.broker.reachable = False
        assert await _cause_of(_append(running)) is Cause.PRODUCER

        assert running.log.refusal() is None
        waiting = _append(running)
        await asyncio.sleep(0)
        running.broker.reachable = True
        await waiting


async def test_stop_refuses_new_records_and_stores_what_waits() -> None:
    running = Running()
    await running.log.start()
    running.broker.answers.clear()
    waiting = [_append(running, f"user-{n}") for n in range(20)]
    await asyncio.sleep(0)

    stopping = asyncio.create_task(running.stop())
    await asyncio.sleep(0)
    assert running.log.refusal() is Cause.STOPPING
    running.broker.answers.set()
    await stopping

    await asyncio.gather(*waiting)
    assert len(running.broker.records()) == 20
    assert all(producer.stopped for producer in running.broker.producers)


async def test_stop_gives_up_on_a_kafka_that_does_not_answer() -> None:
    running = Running(Limits(ack_deadline=0.1, pending_age=60, linger=0))
    await running.log.start()
    running.broker.answers.clear()
    waiting = _append(running)
    await asyncio.sleep(0)

    await running.stop()

    assert await _cause_of(waiting) in (Cause.DEADLINE, Cause.STOPPING)
    assert all(producer.stopped for producer in running.broker.producers)
