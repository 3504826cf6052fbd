"""Writes definitions and events as their owners would, and reads the aggregator's tables."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import asyncpg

from shared import topics
from shared.clock import system_clock
from shared.kafka import Publisher, new_producer, partition_of
from shared.messages import Event, Experiment, Metric, Variant
from tests.waiting import eventually

EVENT_PARTITIONS = topics.EVENTS.partitions


async def define_metrics(kafka: str, organisation: str, specs: dict[str, dict[str, Any]], version: int = 1) -> None:
    publisher = Publisher(kafka)
    await publisher.start()
    for key, spec in specs.items():
        await publisher.publish(
            topics.METRICS, Metric(organisation=organisation, key=key, version=version, spec=spec)
        )
    await publisher.stop()


async def define_experiment(
    kafka: str,
    organisation: str,
    key: str,
    metrics: tuple[str, ...],
    segments: tuple[str, ...] = (),
    ended_at: int | None = None,
) -> None:
    """Once it has ended, its second version."""
    half = 500_000
    experiment = Experiment(
        organisation=organisation,
        id=1,
        key=key,
        name=key,
        version=1 if ended_at is None else 2,
        status="running" if ended_at is None else "completed",
        unit="user",
        salt=key,
        variants=(
            Variant(id=1, name="control", type="control", buckets=half),
            Variant(id=2, name="treatment", type="treatment", buckets=half),
        ),
        metrics=metrics,
        segments=segments,
        started_at=system_clock(),
        ended_at=ended_at,
    )
    publisher = Publisher(kafka)
    await publisher.start()
    await publisher.publish(topics.EXPERIMENTS, experiment)
    await publisher.stop()


def event(organisation: str, event_id: str, event_type: str = "purchase", **fields: Any) -> Event:
    now = system_clock()
    return Event(
        **{
            "organisation": organisation,
            "event_id": event_id,
            "event_type": event_type,
            "time": now,
            "received_at": now,
            **fields,
        }
    )


def exposure(organisation: str, experiment: str, unit: str, variant: str, time: int) -> Event:
    return event(
        organisation,
        f"exposure:{experiment}:{unit}:{variant}",
        "experiment_exposure",
        user_id=unit,
        time=time,
        properties={"experiment": experiment, "variant": variant, "unit_kind": "user", "unit": unit},
    )


async def publish_events(kafka: str, events: Iterable[Event]) -> None:
    """In order; returns once all are acknowledged."""
    await publish_raw(kafka, [(topics.event_key(e), topics.EVENTS.encode(e)) for e in events])


async def publish_raw(kafka: str, records: Iterable[tuple[str, bytes | None]]) -> None:
    """(key, value) pairs, placed as every producer of ours places them."""
    producer = new_producer(kafka)
    await producer.start()
    sent = []
    for key, value in records:
        partition = partition_of(key, EVENT_PARTITIONS)
        sent.append(await producer.send(topics.EVENTS.name, value, key=key.encode(), partition=partition))
    await asyncio.gather(*sent)
    await producer.stop()


async def wait_until_folded(postgres: str, records: int, *, seconds: float = 60) -> None:
    """Returns once the shards' cursors together have passed `records` records."""
    connection = await asyncpg.connect(postgres)
    try:

        async def folded() -> bool:
            return bool(await connection.fetchval("SELECT sum(next_offset) FROM aggregator.shards") == records)

        await eventually(folded, f"{records} records are folded", seconds=seconds)
    finally:
        await connection.close()


async def totals_of(postgres: str, organisation: str, metric: str) -> dict[str, int]:
    """A metric's counters and its windows' n and scaled sum, over all shards, minutes and groups."""
    connection = await asyncpg.connect(postgres)
    try:
        counters = await connection.fetchrow(
            "SELECT coalesce(sum(counted), 0)::bigint AS counted, coalesce(sum(late), 0)::bigint AS late, "
            "coalesce(sum(duplicates), 0)::bigint AS duplicates, coalesce(sum(invalid), 0)::bigint AS invalid "
            "FROM aggregator.series_counters c JOIN aggregator.window_series s ON s.id = c.series_id "
            "WHERE s.organisation = $1 AND s.metric = $2",
            organisation,
            metric,
        )
        windows = await connection.fetchrow(
            "SELECT coalesce(sum(n), 0)::bigint AS n, coalesce(sum(sum), 0) AS sum, "
            "coalesce(sum(sum_squares), 0) AS sum_squares "
            "FROM aggregator.window_minutes m JOIN aggregator.window_series s ON s.id = m.series_id "
            "WHERE s.organisation = $1 AND s.metric = $2",
            organisation,
            metric,
        )
        return {name: int(value) for name, value in (*counters.items(), *windows.items())}
    finally:
        await connection.close()


async def experiment_totals(postgres: str, organisation: str, metric: str) -> dict[str, dict[str, int]]:
    """Variant → observations, sum, units, unit_sum, unit_sum_squares, conflicted over all shards."""
    connection = await asyncpg.connect(postgres)
    try:
        rows = await connection.fetch(
            "SELECT variant, sum(observations) AS observations, sum(sum) AS sum, sum(units) AS units, "
            "sum(unit_sum) AS unit_sum, sum(unit_sum_squares) AS unit_sum_squares, sum(conflicted) AS conflicted "
            "FROM aggregator.v1_experiment_totals WHERE organisation = $1 AND metric = $2 GROUP BY variant",
            organisation,
            metric,
        )
        return {row["variant"]: {k: int(v) for k, v in row.items() if k != "variant"} for row in rows}
    finally:
        await connection.close()
