"""Other people's Kafka: a topic read as a consumer group, committed only after our own Kafka has the events.

poll ─► map ─► intake: events.v1, dead letters ─► commit          (a crash anywhere: the same records again,
                                                                    under the same ids, which count once)
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import CommitFailedError, IllegalStateError

from services.ingest.domain.compat.cloudevents_kafka import document_of
from services.ingest.domain.sources.connections import CLOUDEVENTS, KafkaConnection
from services.ingest.domain.sources.identity import event_id_of
from services.ingest.sources.delivery import Delivery, Message
from services.ingest.sources.own_kafka import OwnKafka
from services.ingest.sources.reader import ReadError

logger = logging.getLogger(__name__)

_POLL_MS = 500
_MAX_RECORDS = 1_000
_FETCH_BYTES = 4 * 1024 * 1024
_METADATA_MS = 10_000
"""A topic or partition that is made later is found after so long."""
_FAREWELL_SECONDS = 5.0
_SILENCE_SECONDS = 5.0
_ANSWER_SECONDS = 10.0
_PER_TURN = 100
"""So many records are made messages before others have their turn."""


async def read_kafka(connection: KafkaConnection, own: OwnKafka, delivery: Delivery) -> None:
    """Raises KafkaError and ReadError."""
    security = _security(connection)
    consumer = _consumer(connection, await own.check(connection, security), security)
    try:
        await consumer.start()
        reader = GroupReader(consumer, connection, delivery)
        while True:
            await reader.step()
    finally:
        await _stop(consumer)


def _consumer(connection: KafkaConnection, servers: Sequence[str], security: Mapping[str, Any]) -> AIOKafkaConsumer:
    return AIOKafkaConsumer(
        connection.topic,
        bootstrap_servers=list(servers),
        client_id="tidegate",
        group_id=connection.group_id,
        enable_auto_commit=False,
        # What the group should begin with is decided below; where an offset is gone, the next that is there follows.
        auto_offset_reset="earliest",
        isolation_level="read_committed",
        metadata_max_age_ms=_METADATA_MS,
        fetch_max_bytes=_FETCH_BYTES,
        max_partition_fetch_bytes=_FETCH_BYTES // 4,
        **security,
    )


def _security(connection: KafkaConnection) -> dict[str, Any]:
    """As every client of that Kafka takes it. Raises ReadError."""
    return {
        "security_protocol": connection.security_protocol,
        "ssl_context": _tls(connection) if connection.security_protocol.endswith("SSL") else None,
        "sasl_mechanism": connection.sasl_mechanism,
        "sasl_plain_username": connection.sasl_username,
        "sasl_plain_password": connection.sasl_password,
    }


class GroupReader:
    """What a consumer that has been started does for its group."""

    def __init__(self, consumer: AIOKafkaConsumer, connection: KafkaConnection, delivery: Delivery) -> None:
        self._consumer = consumer
        self._connection = connection
        self._delivery = delivery
        self._begun: set[TopicPartition] = set()
        self._heard_at = asyncio.get_running_loop().time()

    async def step(self) -> None:
        """One poll, from the brokers to the commit."""
        await self._begin(self._consumer.assignment())
        fetched = await self._consumer.getmany(timeout_ms=_POLL_MS, max_records=_MAX_RECORDS)
        assigned = self._consumer.assignment()
        if not assigned:
            if not self._consumer.partitions_for_topic(self._connection.topic):
                self._delivery.notice(f"there is no topic {self._connection.topic}, or we may not read it")
            return
        await self._check_brokers(assigned, bool(fetched))
        self._delivery.works()
        # Partitions that came with this poll may have to begin elsewhere: what was read of them is read again.
        ready = {partition: records for partition, records in fetched.items() if partition in self._begun}
        for partition in (fetched.keys() & assigned) - self._begun:
            self._consumer.seek(partition, fetched[partition][0].offset)
        self._begun &= assigned
        await self._delivery.take(await self._messages(ready))
        if ready:
            await self._commit(ready)
        with suppress(IllegalStateError):  # the group may be rearranged at this very moment
            self._delivery.health.lag = await self._lag(self._consumer.assignment())

    async def _check_brokers(self, assigned: frozenset[TopicPartition], heard: bool) -> None:
        """The consumer says nothing while brokers are away: when no record comes, somebody has to ask.

        Raises ReadError, or KafkaError.
        """
        now = asyncio.get_running_loop().time()
        if not heard and now - self._heard_at < _SILENCE_SECONDS:
            return
        self._heard_at = now
        if not heard:
            try:
                async with asyncio.timeout(_ANSWER_SECONDS):
                    await self._consumer.end_offsets(assigned)
            except TimeoutError:
                raise ReadError("the brokers do not answer") from None

    async def _begin(self, assigned: frozenset[TopicPartition]) -> None:
        """Pins where a partition begins that the group has never read: `latest` must not mean later after a crash.

        If the group has read others, the partition is a new one of the topic, and its first record is the first.
        """
        new = assigned - self._begun
        if not new:
            return
        everything = {
            TopicPartition(self._connection.topic, number)
            for number in self._consumer.partitions_for_topic(self._connection.topic) or ()
        }
        committed = {p: await self._consumer.committed(p) for p in sorted(everything | new)}
        unread = [p for p in new if committed[p] is None]
        is_first = all(offset is None for offset in committed.values())
        if unread:
            to_end = is_first and self._connection.auto_offset_reset == "latest"
            find = self._consumer.end_offsets if to_end else self._consumer.beginning_offsets
            begins: Mapping[TopicPartition, int] = await find(unread)
            for partition, offset in begins.items():
                self._consumer.seek(partition, offset)
            await self._consumer.commit(dict(begins))
        self._begun |= new

    async def _messages(self, fetched: Mapping[TopicPartition, Sequence[ConsumerRecord]]) -> list[Message]:
        messages: list[Message] = []
        for record in (record for records in fetched.values() for record in records):
            messages.append(self._message(record))
            if not len(messages) % _PER_TURN:
                await asyncio.sleep(0)
        return messages

    def _message(self, record: ConsumerRecord) -> Message:
        """Its time is part of the id: a topic that was made anew counts its offsets from 0 again."""
        raw: bytes = record.value or b""
        if self._connection.format == CLOUDEVENTS:
            raw = document_of(record.headers, record.key, raw)
        return Message(
            raw=raw,
            event_id=event_id_of(
                self._delivery.definition.key, record.topic, record.partition, record.offset, record.timestamp
            ),
            place=(record.partition, record.offset),
            time=record.timestamp * 1_000,
        )

    async def _commit(self, done: Mapping[TopicPartition, Sequence[ConsumerRecord]]) -> None:
        try:
            await self._consumer.commit({partition: records[-1].offset + 1 for partition, records in done.items()})
        except (CommitFailedError, IllegalStateError):
            # The group was rearranged meanwhile: whoever has the partitions now reads these records again.
            logger.info("offsets were not committed", extra={"source": self._delivery.definition.key})

    async def _lag(self, assigned: frozenset[TopicPartition]) -> int:
        lag = 0
        for partition in assigned:
            end = self._consumer.highwater(partition)
            if end is not None:
                lag += max(0, end - await self._consumer.position(partition))
        return lag


def _tls(connection: KafkaConnection) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cadata=connection.ssl_ca)
    except ssl.SSLError as error:
        raise ReadError(f"ssl_ca holds no certificates: {error}") from None


async def _stop(consumer: AIOKafkaConsumer) -> None:
    """Leaves the group, so that the partitions are free at once."""
    try:
        async with asyncio.timeout(_FAREWELL_SECONDS):
            await consumer.stop()
    except Exception as error:  # whatever it is, the group does without us after its session time-out
        logger.info("a consumer did not leave its group", extra={"error": repr(error)})
