"""Reads what alerting decides on, in one task: definitions, switches, updates and heartbeats.

    definitions, switches ─► states from Postgres ─► updates up to the stored position: applied
                                                     updates after it: decided one by one, clock = their watermark
                                                     then live: heartbeats from their end are the clock

Whenever Kafka makes that impossible, it begins again: nothing but the position is trusted, and that is in Postgres.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

import msgspec
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from services.alerting.committer import Progress
from services.alerting.domain.heartbeat_clock import HeartbeatClock
from services.alerting.domain.progress import Noted
from services.alerting.domain.progress import Progress as SeriesProgress
from services.alerting.domain.revisions import LatestUpdates, UnsoundUpdateError, check_update
from services.alerting.domain.silence import KEY as SILENCE
from services.alerting.domain.silence import LIMIT
from services.alerting.guard import Guard
from services.alerting.installer import Installer
from services.alerting.metrics import AlertingMetrics
from services.alerting.store.positions import (
    Place,
    forget_other_generations,
    forget_positions,
    load_positions,
    save_positions,
)
from shared.clock import MINUTE, SECOND, Clock
from shared.kafka import assigned_consumer
from shared.messages import Heartbeat, Message, MetricUpdate, Switch
from shared.postgres import RETRYABLE, Pool
from shared.topics import BREAKERS, HEARTBEATS, METRIC_UPDATES, METRICS, RULES, SWITCHES, Topic

logger = logging.getLogger(__name__)

T = TypeVar("T", bound=Message)

_DEFINITIONS = (METRICS.name, RULES.name, BREAKERS.name, SWITCHES.name)
_TOPICS = (*_DEFINITIONS, METRIC_UPDATES.name, HEARTBEATS.name)
_ORDER = {name: number for number, name in enumerate(_TOPICS)}
_TICK_MS = 100
_RETRY_SECONDS = 0.5
_SAVE_EVERY = SECOND


def elapsed() -> int:
    """Monotonic microseconds."""
    return time.monotonic_ns() // 1_000


class Pipeline:
    """`run` ends only with an error of ours or by cancellation. `begun` is set once switches may be published.

    Before that, what was restored by hand meanwhile has been taken note of.
    """

    def __init__(
        self,
        bootstrap: str,
        guard: Guard,
        installer: Installer,
        pool: Pool,
        *,
        begun: asyncio.Event,
        latest: LatestUpdates,
        series: SeriesProgress,
        metrics: AlertingMetrics,
        clock: Clock,
    ) -> None:
        self._begun = begun
        self._bootstrap = bootstrap
        self._guard = guard
        self._installer = installer
        self._progress: Progress = guard.committer.progress
        self._pool = pool
        self._latest = latest
        self._series = series
        self._metrics = metrics
        self._clock = clock
        self._waits_for: str | None = "Kafka"
        self._saved_at = 0
        self._swept_at = 0

    def waiting_for(self) -> str | None:
        """None while updates are decided as they come."""
        return self._waits_for

    async def run(self) -> None:
        while True:
            self._waits_for = "Kafka"
            try:
                consumer = await assigned_consumer(self._bootstrap, *_TOPICS, fetch_max_wait_ms=250)
            except (KafkaError, TimeoutError, OSError) as error:
                logger.warning("the topics cannot be read yet", extra={"error": repr(error)})
                await asyncio.sleep(_RETRY_SECONDS)
                continue
            try:
                self._metrics.sessions.inc()
                await self._session(consumer)
            except (KafkaError, *RETRYABLE) as error:
                logger.warning("the topics are read anew", extra={"error": repr(error)})
                await asyncio.sleep(_RETRY_SECONDS)
            finally:
                await consumer.stop()

    async def _session(self, consumer: AIOKafkaConsumer) -> None:
        everything = consumer.assignment()
        await consumer.seek_to_beginning(*everything)
        ends = dict(await consumer.end_offsets(everything))
        self._waits_for = "definitions"
        async with self._guard.lock:
            self._guard.forget()
            self._guard.listen(None, elapsed)
        rules, breakers, restored = await self._read_definitions(consumer, ends)
        self._waits_for = "Postgres"
        generation = await self._cluster_id()
        await self._guard.committer.patiently(lambda: self._load_positions(consumer, generation))
        async with self._guard.lock:
            for rule in rules.values():
                await self._installer.install_rule(rule, decide=False)
            for breaker in breakers.values():
                await self._installer.install_breaker(breaker)
            for row in await self._guard.committer.patiently(self._guard.committer.store.all):
                if row.key.kind == "builtin" and row.key.key == SILENCE:
                    self._guard.hold_silence(row.key.organisation, row)
            switches = Place(SWITCHES.name, 0)
            known = self._progress[switches].next_offset
            for offset, switch in restored:
                if offset >= known:
                    await self._guard.restore(switch)
            self._progress.move(switches, max(known, ends[TopicPartition(*switches)]), 0)
        self._begun.set()
        await self._catch_up(consumer, ends)
        await self._live(consumer)

    async def _read_definitions(
        self, consumer: AIOKafkaConsumer, ends: dict[TopicPartition, int]
    ) -> tuple[dict[Any, Any], dict[Any, Any], list[tuple[int, Switch]]]:
        """The newest version of each rule and breaker, and what was restored by hand, in order."""
        rules: dict[Any, Any] = {}
        breakers: dict[Any, Any] = {}
        restored: list[tuple[int, Switch]] = []
        async for record in self._until(consumer, ends, _DEFINITIONS):
            if record.topic == METRICS.name:
                if (metric := self._decoded(METRICS, record)) is not None:
                    async with self._guard.lock:
                        await self._guard.learn_metric(metric)
            elif record.topic == SWITCHES.name:
                if (switch := self._decoded(SWITCHES, record)) is not None and _by_hand(switch):
                    restored.append((record.offset, switch))
            else:
                message: Any
                if record.topic == RULES.name:
                    message, found = self._decoded(RULES, record), rules
                else:
                    message, found = self._decoded(BREAKERS, record), breakers
                if message is not None:
                    name = (message.organisation, message.key)
                    if name not in found or found[name].version < message.version:
                        found[name] = message
        return rules, breakers, restored

    async def _catch_up(self, consumer: AIOKafkaConsumer, ends: dict[TopicPartition, int]) -> None:
        """What was missed is decided as it would have been then: each partition by its own clock."""
        self._waits_for = "updates to be read"
        stored = {p: self._progress[Place(METRIC_UPDATES.name, p)] for p in range(METRIC_UPDATES.partitions)}
        async for record in self._until(consumer, ends, (METRIC_UPDATES.name,)):
            update = self._decoded(METRIC_UPDATES, record)
            place, reached = Place(record.topic, record.partition), stored[record.partition]
            async with self._guard.lock:
                if record.offset < reached.next_offset:
                    if update is not None:
                        self._guard.apply(update)
                        self._series.note(update)
                    continue
                clock = self._progress[place].clock
                if update is None:
                    self._progress.move(place, record.offset + 1, clock)
                else:
                    # Not when it was sent: an aggregator that is behind sends late what it counts early.
                    then = min(update.published_at, update.watermark)
                    await self._take(place, record.offset, update, max(clock, then))
            if record.offset % 1_000 == 0:
                await self._save(every=_SAVE_EVERY)

    async def _take(self, place: Place, offset: int, update: Any, clock: int) -> None:
        await self._guard.take(update, place, offset, clock)
        if self._series.note(update) is Noted.NOT_TRACKED:
            self._metrics.not_tracked.inc()

    async def _live(self, consumer: AIOKafkaConsumer) -> None:
        beats = [tp for tp in consumer.assignment() if tp.topic == HEARTBEATS.name]
        await consumer.seek_to_end(*beats)
        clock = HeartbeatClock(elapsed=elapsed())
        async with self._guard.lock:
            self._guard.listen(clock, elapsed)
        self._waits_for = None
        silent: tuple[int, ...] = ()
        while True:
            fetched = await consumer.getmany(timeout_ms=_TICK_MS)
            async with self._guard.lock:
                for tp in sorted(fetched, key=lambda tp: (_ORDER[tp.topic], tp.partition)):
                    for record in fetched[tp]:
                        await self._learn(record, clock)
                await self._guard.tick()
                found = clock.silent(elapsed(), LIMIT)
                # Only who can still read may say that nobody writes.
                if not found or silent or await self._has_read(consumer, beats):
                    silent = found
                    await self._guard.hear_silence(silent)
            await self._save(every=_SAVE_EVERY)
            self._sweep()
            self._observe(consumer)

    async def _learn(self, record: ConsumerRecord, clock: HeartbeatClock) -> None:
        place = Place(record.topic, record.partition)
        message: Any
        match record.topic:
            case METRIC_UPDATES.name:
                message = self._decoded(METRIC_UPDATES, record)
                now = max(self._progress[place].clock, clock.now(elapsed()) or 0)
                if message is None:
                    self._progress.move(place, record.offset + 1, now)
                else:
                    await self._take(place, record.offset, message, now)
            case HEARTBEATS.name:
                beat: Heartbeat | None = self._decoded(HEARTBEATS, record)
                if beat is not None:
                    clock.hear(beat, now=self._clock(), elapsed=elapsed())
            case METRICS.name:
                if (message := self._decoded(METRICS, record)) is not None:
                    await self._guard.learn_metric(message)
            case RULES.name:
                if (message := self._decoded(RULES, record)) is not None:
                    await self._installer.install_rule(message, decide=True)
            case BREAKERS.name:
                if (message := self._decoded(BREAKERS, record)) is not None:
                    await self._installer.install_breaker(message)
            case SWITCHES.name:
                if record.offset < self._progress[place].next_offset:
                    return  # another process has heeded it
                self._progress.move(place, record.offset + 1, 0)
                if (message := self._decoded(SWITCHES, record)) is not None:
                    self._guard.committer.hear(message, by_hand=_by_hand(message))
                    if _by_hand(message):
                        await self._guard.restore(message)

    async def _until(self, consumer: AIOKafkaConsumer, ends: dict[TopicPartition, int], topics: Sequence[str]) -> Any:
        """The records of `topics` below `ends`, in the order of each partition."""
        missing = {tp for tp, end in ends.items() if tp.topic in topics and end > 0}
        while missing:
            fetched = await consumer.getmany(*missing, timeout_ms=_TICK_MS)
            for tp in sorted(fetched):
                for record in fetched[tp]:
                    yield record
            for tp in list(missing):
                if await consumer.position(tp) >= ends[tp]:
                    missing.discard(tp)

    def _decoded(self, topic: Topic[T], record: ConsumerRecord) -> T | None:
        """None for tombstones, and for what can only be another program's."""
        if record.value is None:
            return None
        try:
            message = topic.decode(record.value)
            if isinstance(message, MetricUpdate):
                check_update(message)
            return message
        except (msgspec.MsgspecError, UnsoundUpdateError) as error:
            self._metrics.undecodable.inc()
            logger.error(
                "undecodable record skipped",
                extra={
                    "topic": record.topic,
                    "partition": record.partition,
                    "offset": record.offset,
                    "error": str(error),
                },
            )
            return None

    async def _load_positions(self, consumer: AIOKafkaConsumer, generation: str) -> None:
        """Asks for the ends afterwards: another process may have read beyond those of a while ago."""
        if await forget_other_generations(self._pool, generation):
            logger.warning("Kafka is another one than before: its topics are read from the start")
        stored = await load_positions(self._pool, generation)
        ends = dict(await consumer.end_offsets(consumer.assignment()))
        if any(reached.next_offset > ends.get(TopicPartition(*place), 0) for place, reached in stored.items()):
            logger.warning("topics are shorter than before: they are read from the start")
            await forget_positions(self._pool)
            stored = {}
        self._progress.begin(generation, stored)

    async def _save(self, *, every: int) -> None:
        """So that a restart need not decide again on what led to nothing; transitions store their own position."""
        now = elapsed()
        if now - self._saved_at < every:
            return
        self._saved_at = now
        positions = self._progress.unsaved()
        if not positions or self._progress.generation is None:
            return
        try:
            await save_positions(self._pool, self._progress.generation, positions)
            self._progress.saved(positions)
        except RETRYABLE as error:
            logger.info("the position could not be stored", extra={"error": repr(error)})

    async def _has_read(self, consumer: AIOKafkaConsumer, beats: Iterable[TopicPartition]) -> bool:
        try:
            async with asyncio.timeout(2):
                ends = await consumer.end_offsets(list(beats))
                return all([await consumer.position(tp) >= end for tp, end in ends.items()])
        except (KafkaError, TimeoutError):
            return False

    def _sweep(self) -> None:
        now = self._clock()
        if now - self._swept_at >= MINUTE:
            self._latest.forget_expired(now=now)
            self._swept_at = now

    def _observe(self, consumer: AIOKafkaConsumer) -> None:
        for partition in range(METRIC_UPDATES.partitions):
            end = consumer.highwater(TopicPartition(METRIC_UPDATES.name, partition))
            if end is not None:
                reached = self._progress[Place(METRIC_UPDATES.name, partition)].next_offset
                self._metrics.position_lag.labels(str(partition)).set(max(0, end - reached))

    async def _cluster_id(self) -> str:
        admin = AIOKafkaAdminClient(bootstrap_servers=self._bootstrap)
        await admin.start()
        try:
            described = await admin.describe_cluster()
            return str(described["cluster_id"])
        finally:
            await admin.close()


def _by_hand(switch: Switch) -> bool:
    """Whether a person let go of it: our own records name their breaker in the evidence."""
    return not switch.off and "by" in switch.evidence and "breaker" not in switch.evidence
