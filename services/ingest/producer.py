"""Records to Kafka through batches that all requests share, one per partition.

    requests ──append──► lane 0: queue ──► batch in flight ──ack──► the requests that wait on it
                         lane 1: queue ──► …                  (one batch per partition at a time, so a queue
                                                               becomes a batch while the one before travels)

A request waits on one future however many partitions it touches; cancelling it stops nothing. An idempotent producer
retries for ever by itself and may be wedged by one lost batch, so deadlines are kept here and a producer that failed
is replaced: what was in flight fails (it may be stored nevertheless: a resend has the same event ids), what still
waits goes to the next producer.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

from aiokafka.errors import (
    InvalidProducerEpoch,
    KafkaError,
    OutOfOrderSequenceNumber,
    ProducerFenced,
    UnknownProducerId,
)

from services.ingest.event_log import Cause, NotStoredError, Record
from services.ingest.lanes import Batch, Encoded, Lane, Parcel, Ticket, size_of
from services.ingest.metrics import TopicMetrics
from shared.kafka import partition_of

logger = logging.getLogger(__name__)


class BatchProducer(Protocol):
    """The part of an aiokafka producer that is used here, with batches of our own."""

    async def start(self) -> None: ...

    async def stop(self) -> None:
        """Ends soon even if the producer is wedged, and without raising."""

    async def partitions_for(self, topic: str) -> set[int]: ...

    def create_batch(self) -> Batch: ...

    async def send_batch(self, batch: Batch, topic: str, *, partition: int) -> Awaitable[object]: ...


@dataclass(frozen=True, slots=True)
class Limits:
    """`pending_bytes` and `pending_age` (seconds) are checked before anything is queued."""

    pending_bytes: int = 64 * 1024 * 1024
    pending_age: float = 3.0
    ack_deadline: float = 10.0
    """Seconds from `append` to its answer, whatever Kafka does."""
    linger: float = 0.001
    """Seconds in which a batch gathers company before it leaves."""


class SharedBatches:
    """An `EventLog` on one Kafka topic.

    `connect` makes a producer that has not been started. Call `start` before and `stop` after use.
    """

    def __init__(
        self, topic: str, connect: Callable[[], BatchProducer], limits: Limits, metrics: TopicMetrics
    ) -> None:
        self._topic = topic
        self._connect = connect
        self._limits = limits
        self._metrics = metrics
        self._loop = asyncio.get_running_loop()
        self._lanes: list[Lane] = []
        self._pending_bytes = 0
        self._connected = asyncio.Event()
        self._silent_since = self._loop.time()
        """While no producer is connected: when Kafka was last known to work."""
        self._wedged = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._stopping = False
        self._tasks: list[asyncio.Task[None]] = []
        self._abandoned: set[asyncio.Task[None]] = set()
        metrics.pending_bytes.set_function(lambda: self._pending_bytes)
        metrics.pending_age.set_function(self._oldest_age)

    async def start(self) -> None:
        """Returns when a producer is connected, however long that takes."""
        self._tasks = [asyncio.create_task(self._run()), asyncio.create_task(self._watch())]
        await self._connected.wait()

    async def stop(self) -> None:
        """Refuses what comes, waits for what has come (at most the deadline), then lets go of the producer."""
        self._stopping = True
        with suppress(TimeoutError):
            async with asyncio.timeout(self._limits.ack_deadline):
                await self._idle.wait()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for lane in self._lanes:
            self._fail([*lane.take_in_flight(), *lane.take_queued()], Cause.STOPPING)
        await asyncio.gather(*self._abandoned)

    def waiting_for(self) -> str | None:
        """None while a producer is connected and Kafka keeps up."""
        if not self._connected.is_set():
            return f"a Kafka producer for {self._topic}"
        if self._oldest_age() > self._limits.pending_age:
            return f"Kafka to acknowledge {self._topic}"
        return None

    def refusal(self) -> Cause | None:
        if self._stopping:
            return Cause.STOPPING
        if self._pending_bytes > self._limits.pending_bytes:
            return Cause.FULL
        if not self._connected.is_set() and self._silent_since < self._loop.time() - self._limits.pending_age:
            return Cause.STALE  # what is let in would only wait for its deadline
        if self._pending_bytes:
            limit = self._loop.time() - self._limits.pending_age
            for lane in self._lanes:
                born = lane.oldest()
                if born is not None and born < limit:
                    return Cause.STALE
        return None

    async def append(self, records: Sequence[Record]) -> None:
        refusal = self.refusal()
        if refusal is not None:
            self._metrics.refused(refusal.value).inc()
            raise NotStoredError(refusal)
        if not records:
            return
        ticket = Ticket(self._loop.create_future(), self._loop.time())
        for lane, its in self._by_lane(records):
            parcel = Parcel(its, size_of(its), ticket)
            self._pending_bytes += parcel.size
            lane.put(parcel)
        self._idle.clear()
        cause = await ticket.future
        if cause is not None:
            self._metrics.refused(cause.value).inc()
            raise NotStoredError(cause)

    def _by_lane(self, records: Sequence[Record]) -> Iterable[tuple[Lane, Sequence[Encoded]]]:
        lanes = self._lanes
        if len(records) == 1:  # without the containers, which cost more than the record
            ((key, value),) = records
            partition, encoded = _place_of(key, len(lanes))
            return ((lanes[partition], ((encoded, value),)),)
        places: list[list[Encoded]] = [[] for _ in lanes]
        count = len(lanes)
        for key, value in records:
            partition, encoded = _place_of(key, count)
            places[partition].append((encoded, value))
        return [(lane, its) for lane, its in zip(lanes, places, strict=True) if its]

    def _oldest_age(self) -> float:
        born = [age for lane in self._lanes if (age := lane.oldest()) is not None]
        return self._loop.time() - min(born) if born else 0.0

    async def _run(self) -> None:
        """One producer after the other."""
        while True:
            producer = await self._connected_producer()
            try:
                cause = await self._serve(producer)
            finally:
                self._connected.clear()
                self._silent_since = self._loop.time()
                self._abandon(producer)
            if cause == _DEADLINE:
                self._silent_since -= self._limits.ack_deadline
            self._metrics.recreations(cause).inc()
            logger.error("producer given up", extra={"topic": self._topic, "cause": cause})
            for lane in self._lanes:
                self._fail(lane.take_in_flight(), Cause.DEADLINE if cause == _DEADLINE else Cause.PRODUCER)

    async def _connected_producer(self) -> BatchProducer:
        while True:
            producer = self._connect()
            try:
                async with asyncio.timeout(self._limits.ack_deadline):
                    await producer.start()
                    partitions = await producer.partitions_for(self._topic)
            except (KafkaError, OSError, TimeoutError) as error:
                logger.warning("waiting for Kafka", extra={"topic": self._topic, "error": repr(error)})
                self._abandon(producer)
                await asyncio.sleep(0.3)
                continue
            except Exception:  # whatever it was, nobody else would ever try again
                logger.exception("a Kafka producer cannot be started", extra={"topic": self._topic})
                self._abandon(producer)
                await asyncio.sleep(0.3)
                continue
            except asyncio.CancelledError:
                self._abandon(producer)
                raise
            if not self._lanes:
                self._lanes = [Lane(n) for n in range(len(partitions))]
            self._connected.set()
            return producer

    async def _serve(self, producer: BatchProducer) -> str:
        """Sends until the producer fails; returns why it did, as a label."""
        self._wedged.clear()
        wedged = asyncio.create_task(self._wedged.wait())
        lanes = [asyncio.create_task(self._drive(lane, producer)) for lane in self._lanes]
        try:
            done, _ = await asyncio.wait([wedged, *lanes], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (wedged, *lanes):
                task.cancel()
            await asyncio.gather(wedged, *lanes, return_exceptions=True)
        return next((lane.result() for lane in lanes if lane in done), _DEADLINE)

    async def _drive(self, lane: Lane, producer: BatchProducer) -> str:
        """One partition's batches, one after the other, until one fails; returns why."""
        while True:
            await lane.filled.wait()
            if self._limits.linger:
                await asyncio.sleep(self._limits.linger)
            sent_at = self._loop.time()
            try:
                batch = producer.create_batch()
                lane.fill(batch)
                await (await producer.send_batch(batch, self._topic, partition=lane.partition))
            except Exception as error:
                # Whatever it was, this producer's sequence may have a hole now.
                logger.exception("batch failed", extra={"topic": self._topic})
                return _label(error)
            self._metrics.ack_seconds.observe(self._loop.time() - sent_at)
            self._metrics.batches.inc()
            self._metrics.records.inc(sum(len(parcel.records) for parcel in lane.in_flight))
            self._settle(lane)

    def _settle(self, lane: Lane) -> None:
        stored = lane.take_in_flight()
        for parcel in stored:
            parcel.ticket.stored()
        self._release(stored)

    def _fail(self, parcels: list[Parcel], cause: Cause) -> None:
        for parcel in parcels:
            parcel.ticket.failed(cause)
        self._release(parcels)

    def _release(self, parcels: list[Parcel]) -> None:
        self._pending_bytes -= sum([parcel.size for parcel in parcels])
        if not self._pending_bytes:
            self._idle.set()

    async def _watch(self) -> None:
        """Keeps the deadline, also while no producer is connected."""
        while True:
            await asyncio.sleep(self._limits.ack_deadline / 20)
            limit = self._loop.time() - self._limits.ack_deadline
            if any(lane.in_flight and lane.in_flight[0].ticket.born < limit for lane in self._lanes):
                self._wedged.set()
            for lane in self._lanes:
                self._fail(lane.take_queued(born_before=limit), Cause.DEADLINE)

    def _abandon(self, producer: BatchProducer) -> None:
        task = asyncio.create_task(producer.stop())
        self._abandoned.add(task)
        task.add_done_callback(self._abandoned.discard)


_DEADLINE = "deadline"


@lru_cache(maxsize=8_192)
def _place_of(key: str, partitions: int) -> tuple[int, bytes]:
    """Partition and encoded key: a unit mostly has many events, in one batch and soon after."""
    encoded = key.encode()
    return partition_of(encoded, partitions), encoded


def _label(error: Exception) -> str:
    if isinstance(error, OutOfOrderSequenceNumber | UnknownProducerId):
        return "sequence"
    if isinstance(error, ProducerFenced | InvalidProducerEpoch):
        return "fenced"
    return "kafka" if isinstance(error, KafkaError) else "unexpected"
