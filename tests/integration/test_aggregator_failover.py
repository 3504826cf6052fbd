"""How long partitions stand still when their worker dies."""

from __future__ import annotations

import time
from collections import Counter
from functools import partial
from pathlib import Path

import asyncpg
import msgspec
import pytest

from shared.kafka import partition_of
from tests.integration.aggregation import EVENT_PARTITIONS, define_metrics, event, publish_events
from tests.programs import Program, aggregator
from tests.waiting import eventually

FAIL_OVER = 15.0
"""Seconds from kill -9 of a worker to the survivor's first commit on each of its partitions."""
SESSION = 10.0
"""Seconds without a sign of life after which a worker counts as dead."""
METRIC = {"type": "count", "event": "purchase"}


@pytest.fixture(scope="module")
def published() -> Counter[int]:
    """Partition → records in it."""
    return Counter()


async def test_a_survivor_folds_the_partitions_of_a_killed_worker_within_fifteen_seconds(
    kafka: str, postgres: str, tmp_path: Path, published: Counter[int]
) -> None:
    await define_metrics(kafka, "failover", {"purchases": METRIC})
    async with (
        aggregator(kafka, postgres, tmp_path / "a.log", "a") as one,
        aggregator(kafka, postgres, tmp_path / "b.log", "b") as other,
    ):
        await eventually(partial(_share, one, other), "both have partitions, and together all")
        await _publish_everywhere(kafka, published, "first")
        await _wait_until_folded(postgres, published)
        await one.kill()
        died = time.monotonic()
        await _publish_everywhere(kafka, published, "second")
        await _wait_until_folded(postgres, published)
        took = time.monotonic() - died
    print(f"fail-over took {took:.1f} s")
    assert took <= FAIL_OVER


async def test_a_killed_worker_that_comes_back_under_its_name_goes_on_without_a_rebalance(
    kafka: str, postgres: str, tmp_path: Path, published: Counter[int]
) -> None:
    await define_metrics(kafka, "failover", {"purchases": METRIC})
    async with (
        aggregator(kafka, postgres, tmp_path / "a.log", "a") as one,
        aggregator(kafka, postgres, tmp_path / "b.log", "b") as other,
    ):
        await eventually(partial(_share, one, other), "both have partitions, and together all", seconds=60)
        assignments = len(_assignments(other))
        await one.kill()
        died = time.monotonic()
        await _publish_everywhere(kafka, published, "third")
        async with aggregator(kafka, postgres, tmp_path / "a.log", "a"):
            back = time.monotonic() - died
            if back > SESSION:
                pytest.skip(f"this machine takes {back:.0f} s to start a worker: by then it counts as dead")
            await _wait_until_folded(postgres, published)
            print(f"coming back took {time.monotonic() - died:.1f} s")
            assert len(_assignments(other)) == assignments, "the other one was not disturbed"


async def _publish_everywhere(kafka: str, published: Counter[int], run: str) -> None:
    events = [event("failover", f"{run}-{i}", user_id=f"user-{i}") for i in range(200)]
    await publish_events(kafka, events)
    published.update(partition_of(f"user-{i}", EVENT_PARTITIONS) for i in range(200))
    assert len(published) == EVENT_PARTITIONS


async def _wait_until_folded(postgres: str, published: Counter[int]) -> None:
    connection = await asyncpg.connect(postgres)
    try:

        async def folded() -> bool:
            rows = await connection.fetch("SELECT shard, next_offset FROM aggregator.shards")
            return dict(map(tuple, rows)) == dict(published)

        await eventually(folded, "every partition is folded to its end", seconds=60)
    finally:
        await connection.close()


async def _share(one: Program, other: Program) -> bool:
    """Whether the workers' latest assignments are those of a settled group of two."""
    held = [set(assignments[-1]) for program in (one, other) if (assignments := _assignments(program))]
    return len(held) == 2 and all(held) and not held[0] & held[1] and len(held[0] | held[1]) == EVENT_PARTITIONS


def _assignments(program: Program) -> list[list[str]]:
    """Partitions by assignment, as the worker's log tells them."""
    lines = [line for line in program.log.read_text().splitlines() if '"partitions assigned"' in line]
    return [sorted(msgspec.json.decode(line)["positions"]) for line in lines]
