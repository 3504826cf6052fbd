"""Stand-ins for Kafka. Each passes the suite of the real thing (`event_log_suite`)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from services.ingest import lanes as real
from services.ingest.event_log import Cause, NotStoredError, Record
from shared.kafka import partition_of

PARTITIONS = 4


class Broker:
    """What a topic holds, and how the broker behaves at the moment."""

    def __init__(self, partitions: int = PARTITIONS) -> None:
        self.stored: list[list[Record]] = [[] for _ in range(partitions)]
        self.batches: list[int] = []
        """Size of each stored batch."""
        self.answers = asyncio.Event()
        self.answers.set()
        self.failures: dict[int, list[Exception]] = {}
        """Partition → what its next batches fail with."""
        self.reachable = True
        self.producers: list[Producer] = []

    def connect(self) -> Producer:
        producer = Producer(self)
        self.producers.append(producer)
        return producer

    def records(self) -> list[Record]:
        return [record for partition in self.stored for record in partition]


class Batch:
    """Holds at most `room` bytes of values, but always one record."""

    def __init__(self, room: int = 100_000) -> None:
        self.records: list[Record] = []
        self._room = room
        self._closed = False

    def extend(self, records: Sequence[real.Encoded]) -> int:
        assert not self._closed
        for count, (key, value) in enumerate(records):
            if self.records and len(value) > self._room:
                return count
            self._room -= len(value)
            self.records.append((key.decode(), value))
        return len(records)

    def close(self) -> None:
        self._closed = True


class Producer:
    """A `BatchProducer` on a `Broker`."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self.started = False
        self.stopped = False

    async def start(self) -> None:
        if not self._broker.reachable:
            raise OSError("nobody listens")
        self.started = True

    async def stop(self) -> None:
        self.stopped = True

    async def partitions_for(self, topic: str) -> set[int]:
        return set(range(len(self._broker.stored)))

    def create_batch(self) -> Batch:
        return Batch()

    async def send_batch(self, batch: real.Batch, topic: str, *, partition: int) -> Awaitable[object]:
        assert isinstance(batch, Batch)
        return asyncio.ensure_future(self._deliver(batch, partition))

    async def _deliver(self, batch: Batch, partition: int) -> None:
        await self._broker.answers.wait()
        if failures := self._broker.failures.get(partition):
            raise failures.pop(0)
        self._broker.stored[partition].extend(batch.records)
        self._broker.batches.append(len(batch.records))


class MemoryLog:
    """An `EventLog` for tests of what stands before it: `refuses` makes it fail."""

    def __init__(self) -> None:
        self.stored: list[list[Record]] = [[] for _ in range(PARTITIONS)]
        self.refuses: Cause | None = None

    def refusal(self) -> Cause | None:
        return self.refuses

    async def append(self, records: Sequence[Record]) -> None:
        if self.refuses is not None:
            raise NotStoredError(self.refuses)
        for key, value in records:
            self.stored[partition_of(key, PARTITIONS)].append((key, value))
        await asyncio.sleep(0)

    def records(self) -> list[Record]:
        return [record for partition in self.stored for record in partition]


async def until(condition: Callable[[], bool], *, seconds: float = 5) -> None:
    """Returns once `condition` holds; fails the test if it does not in time."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.002)
