"""Reads `metric-updates.v1` from its beginning: the topic is compacted, so that is the present state."""

from __future__ import annotations

import logging

import msgspec
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from services.alerting.domain.progress import Noted, Progress
from services.alerting.domain.revisions import LatestUpdates
from services.alerting.metrics import AlertingMetrics
from shared.clock import MINUTE, Clock
from shared.kafka import assigned_consumer
from shared.topics import METRIC_UPDATES

logger = logging.getLogger(__name__)


class UpdateReader:
    """Applies every update to `latest` and `progress`. `run` ends only with an error or by cancellation."""

    def __init__(
        self, bootstrap: str, *, latest: LatestUpdates, progress: Progress, metrics: AlertingMetrics, clock: Clock
    ) -> None:
        self._bootstrap = bootstrap
        self._latest = latest
        self._progress = progress
        self._metrics = metrics
        self._clock = clock
        self._behind: dict[TopicPartition, int] | None = None
        """Partition → the end it had at the start, until that is reached; None before the start."""
        self._swept_at = 0

    def waiting_for(self) -> str | None:
        """None once everything that was published before the start has been applied."""
        if self._behind is None:
            return "Kafka"
        return f"{len(self._behind)} partitions of {METRIC_UPDATES.name} to be read" if self._behind else None

    async def run(self) -> None:
        consumer = await assigned_consumer(self._bootstrap, METRIC_UPDATES.name)
        try:
            await consumer.seek_to_beginning()
            self._behind = dict(await consumer.end_offsets(consumer.assignment()))
            while True:
                fetched = await consumer.getmany(timeout_ms=1_000, max_records=5_000)
                for records in fetched.values():
                    for record in records:
                        self._apply(record)
                self._forget()
                await self._observe(consumer)
        finally:
            await consumer.stop()

    def _apply(self, record: ConsumerRecord) -> None:
        if record.value is None:
            return
        try:
            update = METRIC_UPDATES.decode(record.value)
        except msgspec.MsgspecError as error:
            self._metrics.undecodable.inc()
            logger.error(
                "undecodable update skipped",
                extra={"partition": record.partition, "offset": record.offset, "error": str(error)},
            )
            return
        verdict = self._latest.apply(update, now=self._clock())
        self._metrics.updates[verdict].inc()
        if self._progress.note(update) is Noted.NOT_TRACKED:
            self._metrics.not_tracked.inc()

    def _forget(self) -> None:
        now = self._clock()
        if now - self._swept_at >= MINUTE:
            self._latest.forget_expired(now=now)
            self._swept_at = now

    async def _observe(self, consumer: AIOKafkaConsumer) -> None:
        for partition in consumer.assignment():
            position = await consumer.position(partition)
            end = consumer.highwater(partition)
            if end is not None:
                self._metrics.position_lag.labels(str(partition.partition)).set(max(0, end - position))
            if self._behind and position >= self._behind.get(partition, position):
                self._behind.pop(partition, None)
