"""Sources when something goes wrong at the wrong moment: nothing is skipped, and one does not end the others."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiokafka import TopicPartition
from prometheus_client import CollectorRegistry

from services.ingest.domain.sources.connections import KafkaConnection
from services.ingest.domain.sources.definition import parse_source
from services.ingest.domain.sources.health import Health
from services.ingest.intake import Intake
from services.ingest.metrics import IngestMetrics
from services.ingest.quality.inspections import Inspections
from services.ingest.sources.catalogue import Catalogue
from services.ingest.sources.definitions import SourceSpecs
from services.ingest.sources.delivery import Delivery
from services.ingest.sources.kafka_reader import GroupReader
from services.ingest.sources.leases import Lease, Leases
from services.ingest.sources.manager import SourceManager
from services.ingest.sources.webhooks import Webhooks
from shared.messages import Source
from shared.sealing import Sealer, new_sealing_key
from tests.unit.ingest.fakes import MemoryLog
from tests.waiting import eventually

NOW = 1_729_593_000_000_000


def _intake(events: MemoryLog) -> Intake:
    return Intake(
        events=events,
        letters=MemoryLog(),
        clock=lambda: NOW,
        new_id=lambda: "letter",
        metrics=IngestMetrics(CollectorRegistry()),
        inspections=Inspections(),
    )


def _catalogue(type: str, config: Mapping[str, Any]) -> Catalogue:
    specs = SourceSpecs(Sealer([new_sealing_key()]))
    stored = specs.stored(7, {"source_name": "s", "source_type": type, "connection_config": config})
    catalogue = Catalogue(specs)
    catalogue.learn(Source(organisation="acme", key="s", version=1, spec=stored))
    assert catalogue.find("acme", "s") is not None
    return catalogue


@dataclass(frozen=True)
class Read:
    partition: int
    offset: int
    topic: str = "t"
    timestamp: int = 1_000
    value: bytes = b'{"event_type":"x"}'


@dataclass
class Group:
    """A consumer with one record in each partition; the second partition arrives during the first poll."""

    committed_at: dict[TopicPartition, int]
    positions: dict[TopicPartition, int] = field(default_factory=dict)
    assigned: frozenset[TopicPartition] = frozenset({TopicPartition("t", 0)})

    def assignment(self) -> frozenset[TopicPartition]:
        return self.assigned

    def partitions_for_topic(self, topic: str) -> set[int]:
        return {partition.partition for partition in self.committed_at}

    async def committed(self, partition: TopicPartition) -> int:
        return self.committed_at[partition]

    async def getmany(self, **_: int) -> dict[TopicPartition, list[Read]]:
        self.assigned = frozenset(self.committed_at)
        fetched = {}
        for partition in sorted(self.assigned):
            position = self.positions.get(partition, self.committed_at[partition])
            if position == 5:
                fetched[partition] = [Read(partition.partition, 5)]
                self.positions[partition] = 6
        return fetched

    def seek(self, partition: TopicPartition, offset: int) -> None:
        self.positions[partition] = offset

    async def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        self.committed_at.update(offsets)

    async def end_offsets(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(partitions, 6)

    async def position(self, partition: TopicPartition) -> int:
        return self.positions[partition]

    def highwater(self, partition: TopicPartition) -> int:
        return 6


async def test_records_of_a_partition_that_came_during_a_poll_are_not_skipped() -> None:
    definition = parse_source(
        "acme",
        "s",
        7,
        1,
        {"source_type": "kafka", "connection_config": {"bootstrap_servers": "a:1", "topic": "t"}},
    )
    assert isinstance(definition.connection, KafkaConnection)
    events = MemoryLog()
    lease = Lease(7, 1, {})
    delivery = Delivery(
        definition,
        lease,
        intake=_intake(events),
        leases=Leases(None, "me"),
        health=Health(),
        clock=lambda: NOW,
    )
    group = Group({TopicPartition("t", 0): 5, TopicPartition("t", 1): 5})
    reader = GroupReader(group, definition.connection, delivery)
    await reader.step()
    await reader.step()
    assert delivery.health.events == 2
    assert set(group.committed_at.values()) == {6}


class SlowLeases(Leases):
    """Postgres whose first renewal takes until the manager has given the source up."""

    def __init__(self) -> None:
        super().__init__(None, "me")
        self.asked: list[str] = []
        self.manager: SourceManager | None = None

    async def count_processes(self) -> int:
        self.asked.append("count")
        return 1

    async def leave(self) -> None:
        pass

    async def free(self, source_ids: Sequence[int]) -> list[int]:
        self.asked.append("free")
        if self.asked.count("free") > 1:
            return []
        self.seconds = 0  # what is taken now is over at once
        return list(source_ids)

    async def acquire(self, source_id: int) -> Lease | None:
        return Lease(source_id, 1, {})

    async def renew(self, tokens: Mapping[int, int], healths: Mapping[int, Mapping[str, Any]]) -> set[int]:
        self.asked.append("renew")
        manager = self.manager
        assert manager is not None

        async def given_up() -> bool:
            return not list(manager.runs())

        await eventually(given_up, "the guard stops the source")
        return set(tokens)

    async def release(self, lease: Lease, health: Mapping[str, Any]) -> None:
        pass


class Hasty(Catalogue):
    """Has something new at once, the first time."""

    leases: SlowLeases

    async def changed(self, seconds: float) -> None:
        if self.leases.asked.count("count") > 1:
            await asyncio.Event().wait()
        self.leases.seconds = 30


async def _forever(_: Delivery) -> None:
    await asyncio.Event().wait()


async def test_a_source_that_was_given_up_during_a_renewal_does_not_end_the_round() -> None:
    catalogue = Hasty(SourceSpecs(None))
    catalogue.learn(_catalogue_message())
    leases = catalogue.leases = SlowLeases()
    manager = leases.manager = SourceManager(catalogue, leases, _intake(MemoryLog()), lambda _: _forever, lambda: NOW)
    running = asyncio.create_task(manager.run())

    async def second_round() -> bool:
        return "renew" in leases.asked and not list(manager.runs())

    try:
        await eventually(second_round, "the source was given up")
        await eventually(lambda: _is(leases.asked[-1] != "renew"), "the round goes on", seconds=5)
        assert leases.asked == ["count", "free", "count", "renew", "free"]
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def _is(value: bool) -> bool:
    return value


def _catalogue_message() -> Source:
    spec = {"id": 7, "source_type": "http", "connection_config": {"url": "http://far.example/"}}
    return Source(organisation="acme", key="s", version=1, spec=spec)


class FaultyCounts(Leases):
    """Fails once in a way that nobody foresaw."""

    def __init__(self) -> None:
        super().__init__(None, "me")
        self.asked = 0
        self.counted = 0

    async def count(self, source_id: int, events: int, invalid: int, last_event_at: int | None) -> None:
        self.asked += 1
        if self.asked == 1:
            raise ValueError("no such table")
        self.counted += events


async def test_a_count_that_fails_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    leases = FaultyCounts()
    catalogue = _catalogue("webhook", {"secret": "hush", "header": "X-Signature"})
    webhooks = Webhooks(catalogue, leases, _intake(MemoryLog()), lambda: NOW, tell_every=0.01)
    body = b'{"event_type":"x"}'
    headers = {"x-signature": hmac.new(b"hush", body, hashlib.sha256).hexdigest()}
    telling = asyncio.create_task(webhooks.run())
    try:
        await webhooks.take("acme", "s", headers, body)
        await eventually(lambda: _is(leases.asked == 1), "the first count fails", seconds=5)
        await webhooks.take("acme", "s", headers, body)
        await eventually(lambda: _is(leases.counted == 1), "the next one is told", seconds=5)
    finally:
        telling.cancel()
        await asyncio.gather(telling, return_exceptions=True)
    assert "were not counted" in caplog.text
