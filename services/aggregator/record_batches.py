"""A Faust transport whose streams carry record batches: one item per fetched batch of a partition.

Faust keeps the worker, the group and rebalancing; what it does per event (four tasks each) is left out. Positions
come from our store instead of committed offsets.

    fetcher ──► gate (one batch a partition) ──► Faust stream ──► agent ──► store ──► gate opens
                     ▲ backpressure: fetching stops here
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, Protocol, TypeVar, cast

import faust
from aiokafka.errors import ConsumerStoppedError, IllegalStateError
from aiokafka.structs import OffsetAndMetadata, TopicPartition
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from faust.types.tuples import ConsumerMessage

from services.aggregator.domain.records import Records, batches
from services.aggregator.record_columns import Fetched, fetched_columns
from shared.clock import SECOND

logger = logging.getLogger(__name__)

MAX_RECORDS = 40_000
MAX_BYTES = 10 * 1024 * 1024
"""Twenty of the batches that our producers write, handed on whole: busy units then cost a row each, once."""
MAX_FETCH = 2 * 1024 * 1024
"""Bytes of a partition that are fetched at once; compressed, records are often four times as many."""
LINGER = 0.05
"""Seconds to wait for more when little came: one transaction then serves many events."""
_LOG_APPEND_TIME = 1

_K = TypeVar("_K")
_V = TypeVar("_V")


@dataclass(frozen=True, slots=True)
class RecordBatch:
    """Consecutive records of one partition."""

    partition: int
    records: Records
    epoch: int
    """The gate's, when they were fetched: a later one reads them again."""


class Positions(Protocol):
    """Where reading begins, and what happens when partitions come and go."""

    async def assigned(self, partitions: Iterable[int]) -> Mapping[int, int]:
        """Partition → offset of the first record to read. Forgets everything not stored."""

    async def revoked(self, partitions: Iterable[int]) -> None:
        """Returns once nothing of these partitions is in flight any more."""


class Gate:
    """Lets one batch of a partition through at a time, the next waits with the reader; every seek starts afresh.

    What is fetched in one epoch is worth nothing in another: behind a seek it would leave a gap or come twice.
    """

    def __init__(self) -> None:
        self._places: dict[int, asyncio.Semaphore] = {}
        self.epoch = 0

    def reset(self, partitions: Iterable[int]) -> None:
        self.epoch += 1
        self._places = {p: asyncio.Semaphore(1) for p in partitions}

    def opened(self) -> None:
        """The seek is done: what was fetched meanwhile may be from either side of it."""
        self.epoch += 1

    def place(self, partition: int) -> asyncio.Semaphore | None:
        return self._places.get(partition)


class RawSchema(faust.Schema[Any, Any]):
    """Hands batches through undecoded."""

    def loads_key(self, app: Any, message: Any, **_: Any) -> Any:
        return message.key

    def loads_value(self, app: Any, message: Any, **_: Any) -> Any:
        return message.value


class BatchConsumerThread(driver.AIOKafkaConsumerThread):
    """Fetches columns instead of records."""

    async def _commit(self, offsets: Mapping[TP, int]) -> bool:
        """Only tools that show lag read what is committed: whatever goes wrong ends nothing. Raises KafkaError."""
        owned = self.assignment()
        committed = {
            TopicPartition(*tp): OffsetAndMetadata(offset, "") for tp, offset in offsets.items() if tp in owned
        }
        if committed:
            await self._ensure_consumer().commit(committed)
        return bool(committed)

    async def _fetch_records(
        self,
        consumer: Any,
        active_partitions: Collection[Any],
        timeout: float | None = None,
        max_records: int | None = None,
    ) -> Any:
        if not self.consumer.flow_active:
            return {}
        fetcher = consumer._fetcher
        if consumer._closed or fetcher._closed:
            raise ConsumerStoppedError
        with fetcher._subscriptions.fetch_context():
            return await fetched_columns(fetcher, active_partitions, timeout or 0.0, MAX_RECORDS, MAX_BYTES)


class BatchConsumer(driver.Consumer):
    """Reads one topic, in batches, from positions that `Positions` knows."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._seeking = asyncio.Lock()

    def _new_consumer_thread(self) -> BatchConsumerThread:
        return BatchConsumerThread(self, loop=self.loop, beacon=self.beacon)

    @property
    def _batch_transport(self) -> BatchTransport:
        return cast("BatchTransport", self.transport)

    async def perform_seek(self) -> None:
        """Every seek of Faust's goes through here; it runs before any record is read."""
        transport = self._batch_transport
        async with self._seeking:  # Faust's seek may meet one of ours: the last sees the last assignment
            partitions = sorted(tp.partition for tp in self.assignment() if tp.topic == transport.events_topic)
            transport.gate.reset(partitions)
            positions = await transport.positions.assigned(partitions)
            try:
                await self.seek_wait({TP(transport.events_topic, p): offset for p, offset in positions.items()})
            except IllegalStateError as error:
                # Some were revoked meanwhile: the assignment that follows seeks again.
                logger.warning("the assignment changed while it was being opened", extra={"error": str(error)})
                kept = {tp.partition for tp in self.assignment()}
                await transport.positions.revoked([p for p in partitions if p not in kept])
            transport.gate.opened()

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        await super().on_partitions_assigned(assigned, generation_id)
        if not assigned:  # one worker too many, which stands by: Faust seeks nothing then
            await self._batch_transport.positions.assigned(())

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        await self._batch_transport.positions.revoked(sorted(tp.partition for tp in revoked))
        await super().on_partitions_revoked(revoked)

    async def report(self, positions: Mapping[TP, int]) -> None:
        """Commits offsets to Kafka, for tools that show lag."""
        await self._commit(positions)

    async def _drain_messages(self, fetcher: Any) -> None:
        try:
            while not (self._stopped.is_set() or fetcher._stopped.is_set()):
                if not self.flow_active:  # a rebalance: its seek begins a new epoch
                    await self.wait_first(self.can_resume_flow.wait())
                epoch = self._batch_transport.gate.epoch
                records, active = await self._fetch_with_linger()
                await self.sleep(0)
                if self.should_stop or not records:
                    continue
                if not await self._deliver_all(records, epoch, active) and not self.should_stop:
                    # The position stands behind what was fetched and not handed on.
                    await self.perform_seek()
        except (ConsumerStoppedError, asyncio.CancelledError):
            if not self.transport.app.should_stop:
                raise
        except Exception as error:
            # Faust would log and go on without a reader.
            logger.exception("the reader of events failed")
            await self.crash(error)
            raise

    async def _fetch_with_linger(self) -> tuple[Fetched, set[TP] | None]:
        found, active = await self._wait_next_records(1.0)
        fetched = cast("Fetched", dict(found or {}))
        if fetched and _count(fetched) < MAX_RECORDS // 4 and self.flow_active:
            await self.sleep(LINGER)
            if self.flow_active and not self.should_stop:
                more, active = await self._wait_next_records(0.0)
                for tp, records in cast("Fetched", more or {}).items():
                    fetched[tp] = [*fetched.get(tp, ()), *records]
        return fetched, active

    async def _deliver_all(self, fetched: Fetched, epoch: int, active: set[TP] | None) -> bool:
        """False if something was left out."""
        whole = True
        for tp, records in in_turn({tp: batches(f, MAX_RECORDS, MAX_BYTES) for tp, f in fetched.items()}):
            # What is left out leaves a gap: all behind it is refused by the epoch of the seek that follows.
            whole = whole and await self._deliver(tp, records, epoch, active)
        return whole

    async def _deliver(self, tp: Any, records: Records, epoch: int, active: set[TP] | None) -> bool:
        """False if the records were fetched before a seek, or the partition is not ours (any more)."""
        place = self._batch_transport.gate.place(tp.partition)
        if place is None:
            return False
        await self.wait_first(place.acquire(), self.suspend_flow.wait())
        current = epoch == self._batch_transport.gate.epoch
        if not (self.flow_active and current and (active is None or tp in active)):
            return False
        batch = RecordBatch(tp.partition, records, epoch)
        message = ConsumerMessage(
            tp.topic,
            tp.partition,
            records.next_offset - 1,
            int(records.broker_times[-1]) / SECOND,
            _LOG_APPEND_TIME,
            [],
            None,
            cast("bytes", batch),  # the one place where a message's value is no bytes
            None,
            0,
            0,
            TP(tp.topic, tp.partition),
            generation_id=self.app.consumer_generation_id,
        )
        await self.wait_first(self.callback(message), self.suspend_flow.wait())
        return True


class BatchTransport(driver.Transport):
    """Set as `app.transport`; `events_topic` is the one topic whose records come in batches."""

    Consumer = BatchConsumer

    def __init__(self, *args: Any, events_topic: str, positions: Positions, gate: Gate, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.events_topic = events_topic
        self.positions = positions
        self.gate = gate


def in_turn(columns: Mapping[_K, Iterable[_V]]) -> Iterator[tuple[_K, _V]]:
    """The first of each, then the second of each, and so on: a partition with much waiting holds up no other."""
    for row in zip_longest(*([(key, value) for value in values] for key, values in columns.items())):
        yield from (pair for pair in row if pair is not None)


def _count(fetched: Fetched) -> int:
    return sum(len(records) for found in fetched.values() for records in found)
