"""What an operator does about a log that the worker refuses, and what is counted afterwards."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete

from services.aggregator.event_log import EventLog, LogVerdict
from services.aggregator.log_adoption import LogAdoption, ShardMovedError, Start
from services.aggregator.watchdog import STALLED
from shared import topics
from shared.clock import system_clock
from shared.kafka import create_topics
from shared.messages import Event
from shared.postgres import Pool, create_pool
from tests.integration.aggregation import (
    EVENT_PARTITIONS,
    define_metrics,
    event,
    publish_events,
    totals_of,
    wait_until_folded,
)
from tests.programs import Program, aggregator
from tests.waiting import eventually

ORGANISATION = "adoption"
PURCHASES = {"type": "count", "event": "purchase"}


@pytest_asyncio.fixture
async def pool(postgres: str) -> AsyncIterator[Pool]:
    pool = await create_pool(postgres, name="test", schema="aggregator")
    yield pool
    await pool.close()


@pytest_asyncio.fixture
async def counted(kafka: str, postgres: str, pool: Pool, tmp_path: Path) -> None:
    """A fresh log of forty records that are folded into an empty database."""
    await _wipe(kafka)
    await pool.execute(
        "TRUNCATE shards, id_digests, window_minutes, window_rolls, series_counters, series_starts, accepted_losses, "
        "organisation_counters"
    )
    await define_metrics(kafka, ORGANISATION, {"purchases": PURCHASES})
    await publish_events(kafka, _events("first", 40))
    async with aggregator(kafka, postgres, tmp_path / "first.log"):
        await wait_until_folded(postgres, 40)


@pytest.mark.usefixtures("counted")
async def test_records_that_retention_deleted_unfolded_are_named_and_given_up_by_command_only(
    kafka: str, postgres: str, pool: Pool, tmp_path: Path
) -> None:
    log = tmp_path / "worker.log"
    env = {"TIDEGATE_KAFKA": kafka, "TIDEGATE_POSTGRES": postgres}
    program = Program("services.aggregator", "worker", log=log, env=env)
    await program.start()
    with program.stopped():
        await publish_events(kafka, _events("underway", 20))  # some answer a fetch that waits at the broker
        await publish_events(kafka, _events("lost", 30))
        ends = await _delete_all(kafka)
    assert await program.wait(90) == 1, "also when nothing follows that would show the gap"
    cursors = dict(await _cursors(pool))
    await publish_events(kafka, _events("after", 20))
    assert await _refused(kafka, postgres, log) == 1
    lost = {p: (cursors[p], end - 1) for p, end in ends.items() if end > cursors[p]}
    assert any(f"partition {p}: retention has deleted" in log.read_text() for p in lost)
    named = [f"offsets {first} to {last} are lost; `tidegate adopt-log`" for first, last in lost.values()]
    assert any(name in log.read_text() for name in named)

    code, said = await _adopt_log(kafka, postgres)
    assert code == 1
    assert all(f"offsets {first} to {last} are lost" in said for first, last in lost.values())
    assert dict(await _cursors(pool)) == cursors, "nothing was changed"

    code, said = await _adopt_log(kafka, postgres, "--from", "beginning", "--yes")
    assert code == 0
    async with aggregator(kafka, postgres, log):
        await _counted(postgres, sum(cursors.values()) + 20)
    kept = await pool.fetch("SELECT shard, reason, offset_before, offset_after - 1 FROM accepted_losses")
    assert {shard: (begin, end) for shard, reason, begin, end in kept if reason == "overrun"} == lost
    assert await _adopt_log(kafka, postgres, "--from", "end", "--yes") == (0, await _healthy(pool))


@pytest.mark.usefixtures("counted")
async def test_a_worker_under_which_the_log_is_wiped_ends_and_counts_the_new_log_once_it_is_adopted(
    kafka: str, postgres: str, pool: Pool, tmp_path: Path
) -> None:
    log = tmp_path / "worker.log"
    env = {"TIDEGATE_KAFKA": kafka, "TIDEGATE_POSTGRES": postgres}
    program = Program("services.aggregator", "worker", log=log, env=env)
    await program.start()
    await _wipe(kafka)
    # Faust may have dropped the topic while it was gone: then the watchdog ends the worker, within 60 s.
    assert await program.wait(120) in (1, STALLED)
    assert await _refused(kafka, postgres, log) == 1
    assert (await totals_of(postgres, ORGANISATION, "purchases"))["counted"] == 40, "nothing was swallowed or counted"
    assert "adopt-log" in log.read_text()
    code, _ = await _adopt_log(kafka, postgres, "--from", "beginning", "--yes")
    assert code == 0
    # As many as before and more: a worker that skips what lies below its old cursor would not count some of them.
    await publish_events(kafka, [*_events("first", 40), *_events("second", 80)])
    async with aggregator(kafka, postgres, log):
        await _counted(postgres, 120)
    totals = await totals_of(postgres, ORGANISATION, "purchases")
    assert (totals["n"], totals["duplicates"]) == (120, 40), "what both logs hold is known by its ids"


@pytest.mark.usefixtures("counted")
async def test_a_log_that_was_restored_from_a_backup_goes_on_from_its_end(
    kafka: str, postgres: str, pool: Pool, tmp_path: Path
) -> None:
    await _wipe(kafka)
    await publish_events(kafka, _events("first", 25))
    log = tmp_path / "worker.log"
    assert await _refused(kafka, postgres, log) == 1
    code, _ = await _adopt_log(kafka, postgres, "--from", "end", "--yes")
    assert code == 0
    async with aggregator(kafka, postgres, log):
        await publish_events(kafka, _events("second", 30))
        await _counted(postgres, 70)
    assert (await totals_of(postgres, ORGANISATION, "purchases"))["duplicates"] == 0


@pytest.mark.usefixtures("counted")
async def test_partitions_that_are_healthy_or_have_moved_meanwhile_are_not_touched(kafka: str, pool: Pool) -> None:
    adoption = LogAdoption(pool, EventLog(kafka, topics.EVENTS.name), system_clock)
    healthy, *others = await adoption.look()
    assert {s.verdict for s in (healthy, *others)} == {LogVerdict.SAME}
    with pytest.raises(ValueError, match="nothing is lost"):
        await adoption.adopt(healthy, Start.BEGINNING)
    await _wipe(kafka)
    standing, *_ = await adoption.look([s.row.shard for s in others])
    assert standing.verdict is LogVerdict.SHORTER
    await adoption.adopt(standing, Start.BEGINNING)
    with pytest.raises(ShardMovedError):
        await adoption.adopt(standing, Start.BEGINNING)
    # Twice over: ids of three logs lie in the same minute under offsets of their own.
    for _ in range(2):
        await pool.execute("UPDATE shards SET generation = 'another' WHERE shard = $1", standing.row.shard)
        (again,) = await adoption.look([standing.row.shard])
        assert again.verdict is LogVerdict.OTHER_CLUSTER
        await adoption.adopt(again, Start.BEGINNING)
    assert await pool.fetchval("SELECT max(first_offset) FROM id_digests WHERE shard = $1", standing.row.shard) < 0


def _events(run: str, count: int) -> list[Event]:
    return [event(ORGANISATION, f"{run}-{i}", user_id=f"user-{i}") for i in range(count)]


async def _healthy(pool: Pool) -> str:
    lines = [
        f"partition {shard}: the log continues where the cursor stands, at {cursor}"
        for shard, cursor in await _cursors(pool)
    ]
    return "\n".join([*lines, "No partition is refused: nothing to accept."])


async def _cursors(pool: Pool) -> list[tuple[int, int]]:
    return [tuple(row) for row in await pool.fetch("SELECT shard, next_offset FROM shards ORDER BY shard")]


async def _counted(postgres: str, events: int) -> None:
    async def counted() -> bool:
        return (await totals_of(postgres, ORGANISATION, "purchases"))["counted"] == events

    await eventually(counted, f"{events} events are counted")


async def _refused(kafka: str, postgres: str, log: Path) -> int:
    """The exit code of a worker that does not start."""
    env = {"TIDEGATE_KAFKA": kafka, "TIDEGATE_POSTGRES": postgres}
    program = Program("services.aggregator", "worker", log=log, env=env)
    await program.start(wait_until_ready=False)
    return await program.wait()


async def _adopt_log(kafka: str, postgres: str, *options: str) -> tuple[int, str]:
    """The command's exit code, and what it says."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tidegate", "adopt-log", *options),
        env={**os.environ, "TIDEGATE_KAFKA": kafka, "TIDEGATE_POSTGRES": postgres},
        stdout=asyncio.subprocess.PIPE,
    )
    said, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, said.decode().strip()


async def _wipe(kafka: str) -> None:
    """The log of events begins anew, as after its disk was lost."""
    client = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await client.start()
    try:
        await client.delete_topics([topics.EVENTS.name])

        async def gone() -> bool:
            return topics.EVENTS.name not in await client.list_topics()

        await eventually(gone, "the log is gone")
    finally:
        await client.close()
    await create_topics(kafka)


async def _delete_all(kafka: str) -> dict[int, int]:
    """Deletes all records, as retention would; returns where the partitions begin now."""
    tps = [TopicPartition(topics.EVENTS.name, p) for p in range(EVENT_PARTITIONS)]
    consumer: Any = AIOKafkaConsumer(bootstrap_servers=kafka, group_id=None)
    await consumer.start()
    ends = await consumer.end_offsets(tps)
    await consumer.stop()
    client = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await client.start()
    await client.delete_records({tp: RecordsToDelete(before_offset=end) for tp, end in ends.items()})
    await client.close()
    return {tp.partition: end for tp, end in ends.items()}
