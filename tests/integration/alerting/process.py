"""Alerting as a process, an aggregator that says what a test wants, and a listener on what alerting publishes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import msgspec
from aiokafka import AIOKafkaConsumer
from prometheus_client.parser import text_string_to_metric_families

from shared.clock import MINUTE, SECOND, system_clock
from shared.kafka import Publisher, assigned_consumer
from shared.keys import describe_key, new_key
from shared.messages import Alert, Heartbeat, Metric, MetricUpdate, Scope, Switch
from shared.topics import ALERTS, HEARTBEATS, KEYS, METRIC_UPDATES, METRICS, SWITCHES
from tests.programs import Program
from tests.waiting import eventually

API_KEYS: dict[Scope, str] = {"admin": new_key(), "ingest": new_key(), "read": new_key()}
STREAK = {"type": "streak", "event": "import", "failure": {"path": "properties.ok", "op": "eq", "value": False}}


class Alerting(Program):
    """`admin`, `ingest`, `read` are clients with keys, `nobody` has none."""

    def __init__(self, kafka: str, postgres: str, log: Path) -> None:
        super().__init__("services.alerting", log=log, env={"TIDEGATE_KAFKA": kafka, "TIDEGATE_POSTGRES": postgres})
        self.admin = self._client(API_KEYS["admin"])
        self.ingest = self._client(API_KEYS["ingest"])
        self.read = self._client(API_KEYS["read"])
        self.nobody = self._client(None)

    def _client(self, key: str | None) -> httpx.AsyncClient:
        headers = {"Content-Type": "application/json", **({} if key is None else {"X-API-Key": key})}
        return httpx.AsyncClient(base_url=self.url, headers=headers, timeout=30)

    async def close_clients(self) -> None:
        for client in (self.admin, self.ingest, self.read, self.nobody):
            await client.aclose()

    async def define(self, kind: str, key: str, spec: dict[str, Any]) -> None:
        answer = await self.admin.put(f"/api/v1/admin/{kind}s/{key}", json=spec)
        assert answer.status_code in (200, 201), answer.text

    async def breaker(self, key: str) -> dict[str, Any]:
        answer = await self.admin.get(f"/api/v1/admin/breakers/{key}")
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    async def rule(self, key: str) -> dict[str, Any]:
        answer = await self.admin.get(f"/api/v1/admin/rules/{key}")
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    async def becomes(self, key: str, state: str, *, seconds: float = 30) -> dict[str, Any]:
        """The breaker, once it is in `state`."""

        async def reached() -> bool:
            return bool((await self.breaker(key))["state"] == state)

        await eventually(reached, f"{key} is {state}; see the log:\n{self.tail()}", seconds=seconds)
        return await self.breaker(key)

    async def is_watching(self, key: str) -> None:
        """Returns once the breaker's first state is stored: from then on its updates count."""

        async def stored() -> bool:
            shown = await self.breaker(key)
            return shown["since"] is not None and shown["problem"] is None

        await eventually(stored, f"{key} is watched; see the log:\n{self.tail()}")

    async def alerts(self, **filters: Any) -> list[dict[str, Any]]:
        answer = await self.read.get("/api/v1/streaming-analytics/alerts", params=filters)
        assert answer.status_code == 200, answer.text
        return list(answer.json())

    async def metric(self, name: str, **labels: str) -> float | None:
        """The sample called `name` with at least these labels."""
        text = (await self.nobody.get("/metrics")).text
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if sample.name == name and labels.items() <= sample.labels.items():
                    return sample.value
        return None


@asynccontextmanager
async def alerting(kafka: str, postgres: str, log: Path) -> AsyncIterator[Alerting]:
    program = Alerting(kafka, postgres, log)
    async with program:
        try:
            yield program
        finally:
            await program.close_clients()


@dataclass
class Aggregator:
    """Publishes what a test makes up; its heart beats while it is entered."""

    publisher: Publisher
    shards: int = 4
    lag: int = 0
    beating: bool = True
    organisation: str = "acme"
    _revision: dict[int, int] = field(default_factory=dict)
    _streaks: dict[tuple[str, int], tuple[int, list[int], int]] = field(default_factory=dict)
    _task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Aggregator:
        self._task = asyncio.create_task(self._beat())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _beat(self) -> None:
        while True:
            if self.beating:
                now = system_clock()
                for shard in range(self.shards):
                    beat = Heartbeat(
                        shard=shard,
                        next_offset=self._revision.get(shard, 0),
                        watermark=now,
                        time=now,
                        lag=self.lag,
                        shards=self.shards,
                    )
                    await self.publisher.publish(HEARTBEATS, beat)
            await asyncio.sleep(0.1)

    async def define(self, key: str, spec: dict[str, Any], version: int = 1) -> None:
        metric = Metric(organisation=self.organisation, key=key, version=version, spec=spec)
        await self.publisher.publish(METRICS, metric)

    async def fail(self, metric: str, times: int = 1, *, shard: int = 0) -> MetricUpdate:
        """`times` more failures, now; returns the last update, which each failure has one of."""
        for _ in range(times):
            success, failures, n = self._streaks.get((metric, shard), (0, [], 0))
            self._streaks[(metric, shard)] = (success, [*failures, system_clock()][-100:], n + 1)
            last = await self._send_streak(metric, shard)
        return last

    async def succeed(self, metric: str, *, shard: int = 0) -> MetricUpdate:
        _, _, n = self._streaks.get((metric, shard), (0, [], 0))
        self._streaks[(metric, shard)] = (system_clock(), [], n + 1)
        return await self._send_streak(metric, shard)

    async def _send_streak(self, metric: str, shard: int) -> MetricUpdate:
        success, failures, n = self._streaks[(metric, shard)]
        return await self.send(
            metric, "streak", (), shard=shard, window=0, latest_success=success, failures=tuple(failures), n=n
        )

    async def send(
        self,
        metric: str,
        component: str,
        group: Sequence[str | None] = (),
        *,
        shard: int = 0,
        window: int | None = None,
        version: int = 1,
        **state: Any,
    ) -> MetricUpdate:
        """One update of the present minute (or `window`), with the next revision of its shard."""
        now = system_clock()
        self._revision[shard] = self._revision.get(shard, 0) + 1
        update = MetricUpdate(
            organisation=self.organisation,
            subject_kind="metric",
            subject=metric,
            version=version,
            series=msgspec.json.encode((component, msgspec.json.encode(tuple(group)).decode())).decode(),
            window_start=now - now % MINUTE if window is None else window,
            shard=shard,
            revision=self._revision[shard],
            watermark=now,
            published_at=now,
            **state,
        )
        await self.publisher.publish(METRIC_UPDATES, update)
        return update

    async def ratio(self, metric: str, bad: int, of: int, group: Sequence[str | None] = ()) -> None:
        """A failure ratio of the present minute; as the aggregator does, with the numerator first."""
        await self.send(metric, "numerator", group, n=bad)
        await self.send(metric, "denominator", group, n=of)


class Listener:
    """Everything on switches.v1 and alerts.v1 since it was opened, with the time at which it was seen (µs)."""

    def __init__(self, consumer: AIOKafkaConsumer) -> None:
        self._consumer = consumer
        self.switches: list[tuple[int, Switch]] = []
        self.alerts: list[tuple[int, Alert]] = []
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        while True:
            for tp, records in (await self._consumer.getmany(timeout_ms=100)).items():
                for record in records:
                    if tp.topic == SWITCHES.name:
                        self.switches.append((system_clock(), SWITCHES.decode(record.value)))
                    else:
                        self.alerts.append((system_clock(), ALERTS.decode(record.value)))

    def of(self, flag: str) -> list[Switch]:
        return [switch for _, switch in self.switches if switch.flag == flag]

    async def turned(self, flag: str, *, times: int = 1, seconds: float = 10) -> list[Switch]:
        """A flag's switches, once there are `times`."""

        async def seen() -> bool:
            return len(self.of(flag)) >= times

        await eventually(seen, f"{flag} is switched {times} times", seconds=seconds, every=0.005)
        return self.of(flag)

    async def stop(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await self._consumer.stop()


@asynccontextmanager
async def listening(kafka: str) -> AsyncIterator[Listener]:
    consumer = await assigned_consumer(kafka, SWITCHES.name, ALERTS.name, fetch_max_wait_ms=100)
    await consumer.seek_to_end()
    for tp in consumer.assignment():
        await consumer.position(tp)
    listener = Listener(consumer)
    try:
        yield listener
    finally:
        await listener.stop()


async def publish_keys(publisher: Publisher, organisation: str = "acme") -> None:
    for scope, key in API_KEYS.items():
        await publisher.publish(KEYS, describe_key(key, organisation=organisation, scope=scope))


async def transitions_of(postgres: str, key: str) -> list[tuple[str, str, str]]:
    """(from, to, reason) of all transitions, oldest first."""
    connection = await asyncpg.connect(postgres)
    try:
        rows = await connection.fetch(
            "SELECT from_state, to_state, reason FROM alerting.transitions WHERE key = $1 ORDER BY id", key
        )
        return [tuple(row) for row in rows]
    finally:
        await connection.close()


SPEC: dict[str, Any] = {
    "metric": "imports_streak",
    "failure_threshold": 10,
    "timeout_ms": 1_000,
    "recovery_attempts": 3,
    "flag": "data_import_enabled",
}
DEADLINE = SECOND


async def breaker_of(service: Alerting, aggregator: Aggregator, name: str, **spec: object) -> str:
    """A breaker `name` that watches a streak and a flag of its own; returns the streak's key."""
    streak = f"{name}_streak"
    await aggregator.define(streak, STREAK)
    await service.define("breaker", name, {**SPEC, "metric": streak, "flag": f"{name}_flag", **spec})
    await service.is_watching(name)
    return streak
