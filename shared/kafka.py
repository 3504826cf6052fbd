"""Kafka as all services use it: one partitioner, one publisher, replicas of compacted topics, topic tails."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Generic, TypeVar

import msgspec
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, for_code
from murmurhash2 import murmurhash2

from shared.cancelling import cancel_until_ended
from shared.clock import Clock, system_clock
from shared.messages import Message
from shared.topics import METRIC_UPDATES, TOPICS, Topic, subject_key

logger = logging.getLogger(__name__)

T = TypeVar("T", bound=Message)

_SEED = 0x9747B28C


MAX_BATCH_SIZE = 512 * 1024
"""Bytes of a producer's batch before compression."""


def partition_of(key: str | bytes, partitions: int) -> int:
    """Kafka's default placement (murmur2, sign bit cleared, modulo), the same for every producer of ours."""
    encoded = key if isinstance(key, bytes) else key.encode()
    place: int = (murmurhash2(encoded, _SEED) & 0x7FFFFFFF) % partitions
    return place


class _MurmurPartitioner:
    """aiokafka's own partitioner computes the same in pure Python."""

    @classmethod
    def __call__(cls, key: bytes | None, all_partitions: list[int], available: list[int]) -> int:
        if key is None:
            raise ValueError("every record of ours has a key")
        return all_partitions[(murmurhash2(key, _SEED) & 0x7FFFFFFF) % len(all_partitions)]


async def create_topics(bootstrap: str, *, replication_factor: int = 1) -> None:
    """Creates the topics that are missing and leaves the others as they are."""
    client = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await _start_patiently(client)
    try:
        present = set(await client.list_topics())
        wanted = [
            NewTopic(t.name, t.partitions, replication_factor, topic_configs=t.topic_config())
            for t in TOPICS
            if t.name not in present
        ]
        if not wanted:
            return
        answer = await client.create_topics(wanted)
        for name, code, *_ in answer.topic_errors:
            error = for_code(code)
            if code and error is not TopicAlreadyExistsError:
                raise error(f"topic {name}")
    finally:
        await client.close()


def new_producer(bootstrap: str, **overrides: Any) -> AIOKafkaProducer:
    """An idempotent producer that answers after all in-sync replicas have the record."""
    settings: dict[str, Any] = {
        "bootstrap_servers": bootstrap,
        "acks": "all",
        "enable_idempotence": True,
        "compression_type": "lz4",
        "partitioner": _MurmurPartitioner(),
        "max_batch_size": MAX_BATCH_SIZE,
        "max_request_size": 2 * 1024 * 1024,
        "request_timeout_ms": 10_000,
    }
    return AIOKafkaProducer(**{**settings, **overrides})


class Publisher:
    """Publishes typed messages one by one; for the rates of definitions, exposures and updates."""

    def __init__(self, bootstrap: str) -> None:
        self._bootstrap = bootstrap
        self._producer: AIOKafkaProducer | None = None
        self._replacing = asyncio.Lock()

    async def start(self) -> None:
        self._producer = await self._new()

    async def stop(self) -> None:
        if self._producer is not None:
            await self._producer.stop()

    async def publish(self, topic: Topic[T], message: T, *, deadline: float = 10) -> tuple[int, int]:
        """Returns (partition, offset) once Kafka has it. Raises KafkaError or TimeoutError.

        After a time-out the record may still arrive: publish only what may arrive twice.
        """
        producer = self._started()
        partition = None
        if topic.name == METRIC_UPDATES.name:
            count = len(await producer.partitions_for(topic.name))
            partition = partition_of(_placing_key(topic, message), count)
        try:
            async with asyncio.timeout(deadline):
                sent = await producer.send_and_wait(
                    topic.name,
                    topic.encode(message),
                    key=topic.key(message).encode(),
                    partition=partition,
                )
        except (KafkaError, TimeoutError):
            await self._replace(producer)
            raise
        return sent.partition, sent.offset

    async def remove(self, topic: Topic[T], message: T, *, deadline: float = 10) -> None:
        """Lets compaction drop all records of the message's key. Raises KafkaError or TimeoutError."""
        producer = self._started()
        try:
            async with asyncio.timeout(deadline):
                await producer.send_and_wait(topic.name, None, key=topic.key(message).encode())
        except (KafkaError, TimeoutError):
            await self._replace(producer)
            raise

    async def publish_all(
        self, topic: Topic[T], messages: Sequence[T], *, deadline: float = 10
    ) -> list[KafkaError | TimeoutError | None]:
        """For each message None once Kafka has it, or what went wrong. Those of one key stay in order.

        Costs a tenth of publishing one by one. After a time-out a record may still arrive.
        """
        producer = self._started()
        failures: list[KafkaError | TimeoutError | None] = [None] * len(messages)
        sent: list[tuple[list[int], asyncio.Future[Any]]] = []
        try:
            async with asyncio.timeout(deadline):
                count = len(await producer.partitions_for(topic.name))
                places: defaultdict[int, list[int]] = defaultdict(list)
                for i, message in enumerate(messages):
                    places[partition_of(_placing_key(topic, message), count)].append(i)
                for partition, indices in places.items():
                    for batch, taken in _batches(producer, topic, messages, indices):
                        sent.append((taken, await producer.send_batch(batch, topic.name, partition=partition)))
                answers = await asyncio.gather(*(future for _, future in sent), return_exceptions=True)
        except (KafkaError, TimeoutError) as error:
            await self._replace(producer)
            return [error] * len(messages)
        for (taken, _), answer in zip(sent, answers, strict=True):
            if isinstance(answer, KafkaError | TimeoutError):
                for i in taken:
                    failures[i] = answer
            elif isinstance(answer, BaseException):
                raise answer
        if any(failures):
            await self._replace(producer)
        return failures

    def _started(self) -> AIOKafkaProducer:
        if self._producer is None:
            raise RuntimeError("start() the publisher first")
        return self._producer

    async def _replace(self, wedged: AIOKafkaProducer) -> None:
        """An idempotent producer may never recover from a lost batch (its sequence has a hole): start anew."""
        async with self._replacing:
            if self._producer is not wedged:
                return
            self._producer = await self._new()
            asyncio.get_running_loop().create_task(_abandon(wedged))

    async def _new(self) -> AIOKafkaProducer:
        producer = new_producer(self._bootstrap)
        await _start_patiently(producer)
        return producer


def _placing_key(topic: Topic[T], message: T) -> str:
    """What decides a message's partition."""
    if topic.name == METRIC_UPDATES.name:
        return subject_key(message)  # type: ignore[arg-type]  # Topic[T] holds it
    return topic.key(message)


def _batches(
    producer: AIOKafkaProducer, topic: Topic[T], messages: Sequence[T], indices: Sequence[int]
) -> Iterator[tuple[Any, list[int]]]:
    """Those messages in Kafka's batches, and which each holds. A message that is too large has one of its own."""
    batch, taken = producer.create_batch(), list[int]()
    for i in indices:
        key, value = topic.key(messages[i]).encode(), topic.encode(messages[i])
        if batch.append(key=key, value=value, timestamp=None) is None:
            yield batch, taken
            batch, taken = producer.create_batch(), []
            batch.append(key=key, value=value, timestamp=None)
        taken.append(i)
    if taken:
        yield batch, taken


class ReplicaStoppedError(Exception):
    """A replica's reader has ended: waiting or asking again does not help, only a new replica does."""


class Replica(Generic[T]):
    """A local copy of a compacted topic: every key's latest message, kept current in the background.

    `on_change` is called for each record in order, the first ones before `start` returns. A record that cannot
    be decoded is logged and skipped: it can only be another program's.
    """

    def __init__(
        self,
        bootstrap: str,
        topic: Topic[T],
        on_change: Callable[[T], None],
        *,
        clock: Clock = system_clock,
    ) -> None:
        self._topic = topic
        self._on_change = on_change
        self._clock = clock
        self._bootstrap = bootstrap
        self._consumer: AIOKafkaConsumer | None = None
        self._offsets = _OffsetsClient(bootstrap)
        self._task: asyncio.Task[None] | None = None
        self._advanced = asyncio.Condition()
        self._failure: BaseException | None = None

    async def start(self) -> None:
        """Returns when everything that was published before the call has been applied."""
        await self._offsets.start()
        self._consumer = await assigned_consumer(self._bootstrap, self._topic.name)
        await self._consumer.seek_to_beginning()
        self._task = asyncio.create_task(self._run(self._consumer), name=f"replica {self._topic.name}")
        await self.catch_up()

    async def stop(self) -> None:
        try:
            if self._task is not None:
                await cancel_until_ended(self._task)
        finally:  # whoever stops it may be cancelled meanwhile
            try:
                if self._consumer is not None:
                    await self._consumer.stop()
            finally:
                await self._offsets.stop()

    @property
    def failure(self) -> BaseException | None:
        """What ended the background reader; from then on the copy grows old."""
        return self._failure

    def waiting_for(self) -> str | None:
        """None while the copy is kept, else what a service's /readyz should say."""
        return None if self._failure is None else f"a new start: the copy of {self._topic.name} is no longer kept"

    async def catch_up(self) -> int:
        """Waits until all that was published before the call is applied; returns the time of the call.

        Raises KafkaError when the brokers do not answer, ReplicaStoppedError if the background reader has ended.
        """
        consumer = self._consumer
        if consumer is None:
            raise RuntimeError("start() the replica first")
        asked_at = self._clock()
        ends = await self._offsets.ends(consumer.assignment())
        async with self._advanced:
            while not await self._reached(consumer, ends):
                await self._advanced.wait()
        if self._failure is not None:
            raise ReplicaStoppedError(f"the copy of {self._topic.name} is no longer kept") from self._failure
        return asked_at

    async def _reached(self, consumer: AIOKafkaConsumer, ends: dict[TopicPartition, int]) -> bool:
        if self._failure is not None:
            return True
        for partition, end in ends.items():
            if await consumer.position(partition) < end:
                return False
        return True

    async def _run(self, consumer: AIOKafkaConsumer) -> None:
        try:
            while True:
                fetched = await consumer.getmany(timeout_ms=1_000)
                for records in fetched.values():
                    for record in records:
                        self._apply(record)
                async with self._advanced:
                    self._advanced.notify_all()
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            self._failure = error
            logger.exception("replica stopped", extra={"topic": self._topic.name})
            async with self._advanced:
                self._advanced.notify_all()
            raise

    def _apply(self, record: ConsumerRecord) -> None:
        if record.value is None:
            return
        try:
            message = self._topic.decode(record.value)
        except msgspec.MsgspecError as error:
            logger.error(
                "undecodable record skipped",
                extra={"topic": record.topic, "offset": record.offset, "error": str(error)},
            )
            return
        self._on_change(message)


class Tail:
    """Reads the newest records of a topic on demand; one read at a time."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        self._bootstrap = bootstrap
        self._topic = topic
        self._consumer: AIOKafkaConsumer | None = None
        self._offsets = _OffsetsClient(bootstrap)
        self._reading = asyncio.Lock()

    async def start(self) -> None:
        await self._offsets.start()
        # A seek waits for the fetch that is under way: keep that short.
        self._consumer = await assigned_consumer(self._bootstrap, self._topic, fetch_max_wait_ms=100)

    async def stop(self) -> None:
        if self._consumer is not None:
            await self._consumer.stop()
        await self._offsets.stop()

    async def read(self, per_partition: int, *, deadline: float = 5) -> Sequence[ConsumerRecord]:
        """Up to `per_partition` newest records of each partition, in offset order. Raises TimeoutError."""
        consumer = self._consumer
        if consumer is None:
            raise RuntimeError("start() the tail first")
        found: list[ConsumerRecord] = []
        async with self._reading, asyncio.timeout(deadline):
            partitions = consumer.assignment()
            begins = await self._offsets.begins(partitions)
            ends = await self._offsets.ends(partitions)
            missing = {p: end for p, end in ends.items() if end > begins[p]}
            for partition, end in missing.items():
                consumer.seek(partition, max(begins[partition], end - per_partition))
            while missing:
                batches = await consumer.getmany(*missing, timeout_ms=200)
                for partition, records in batches.items():
                    found.extend(r for r in records if r.offset < missing[partition])
                for partition in list(missing):
                    if await consumer.position(partition) >= missing[partition]:
                        del missing[partition]
        return sorted(found, key=lambda r: (r.partition, r.offset))

    async def end_offsets(self) -> dict[int, int]:
        """Partition → offset of the next record to be written."""
        consumer = self._consumer
        if consumer is None:
            raise RuntimeError("start() the tail first")
        ends = await self._offsets.ends(consumer.assignment())
        return {partition.partition: end for partition, end in ends.items()}


class _OffsetsClient:
    """Asks where partitions begin and end, on a connection of its own.

    On a reader's connection the question would wait behind its long poll: up to half a second.
    """

    def __init__(self, bootstrap: str) -> None:
        self._consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, group_id=None, enable_auto_commit=False)

    async def start(self) -> None:
        await _start_patiently(self._consumer)

    async def stop(self) -> None:
        await self._consumer.stop()

    async def begins(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        return dict(await self._consumer.beginning_offsets(partitions))

    async def ends(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        return dict(await self._consumer.end_offsets(partitions))


async def assigned_consumer(bootstrap: str, *topics: str, fetch_max_wait_ms: int = 500) -> AIOKafkaConsumer:
    """Without a group: reads all partitions of the topics and commits nothing."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap,
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        fetch_max_wait_ms=fetch_max_wait_ms,
    )
    try:
        await _start_patiently(consumer)
        async with asyncio.timeout(30):
            while not all(consumer.partitions_for_topic(topic) for topic in topics):
                await consumer._client.force_metadata_update()
                for topic in topics:
                    consumer._client.add_topic(topic)
                await asyncio.sleep(0.05)
    except BaseException:  # whoever is cancelled meanwhile has nothing yet that could be stopped
        await consumer.stop()
        raise
    consumer.assign([TopicPartition(t, n) for t in topics for n in sorted(consumer.partitions_for_topic(t))])
    return consumer


async def _start_patiently(client: Any, *, seconds: float = 60) -> None:
    """Retries `client.start()` while the brokers are not there yet. Raises the last KafkaError."""
    deadline = asyncio.get_running_loop().time() + seconds
    while True:
        try:
            await client.start()
            return
        except (KafkaError, OSError) as error:
            if asyncio.get_running_loop().time() > deadline:
                raise
            logger.info("waiting for Kafka", extra={"error": repr(error)})
            await asyncio.sleep(0.3)


async def _abandon(producer: AIOKafkaProducer) -> None:
    try:
        async with asyncio.timeout(5):
            await producer.stop()
    except (KafkaError, TimeoutError, OSError):
        logger.warning("a replaced producer did not stop cleanly")
