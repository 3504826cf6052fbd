"""Streaks, journeys, updates and heartbeats of the aggregator's worker, on real Kafka and Postgres."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import asyncpg
from aiokafka import AIOKafkaConsumer, ConsumerRecord

from services.aggregator.domain.kinds.streak import Streak
from services.aggregator.domain.metrics import parse_definition
from services.aggregator.queries import Queries
from shared import topics
from shared.clock import HOUR, SECOND, system_clock, to_datetime
from shared.kafka import Publisher, assigned_consumer, partition_of
from shared.messages import Breaker, Event, Heartbeat, MetricUpdate, Rule
from shared.postgres import create_pool
from tests.integration.aggregation import EVENT_PARTITIONS, define_metrics, event, publish_events
from tests.programs import aggregator
from tests.waiting import eventually

JOURNEY: dict[str, Any] = {
    "type": "journey",
    "unit": "job",
    "start": {"event": "import_started"},
    "navigate": {"event": "left", "filter": {"path": "properties.how", "op": "eq", "value": "away"}},
    "complete": {"event": "import_completed"},
    "dead": {"event": "import_cancelled"},
    "steps": [{"name": "mapped", "event": "mapping_done"}],
    "timeout": "2s",
    "group_by": ["properties.variant"],
}
STREAK: dict[str, Any] = {
    "type": "streak",
    "event": "import_completed",
    "failure": {"path": "properties.finalStatus", "op": "eq", "value": "failed"},
    "length": 10,
}
Readings = dict[str, dict[str, float | int | None]]


async def journeys(postgres: str, organisation: str, spec: dict[str, Any] | None = None) -> Readings:
    """Group's first value → aggregation → value, over all time."""
    definition = parse_definition(organisation, "journey", 1, spec or JOURNEY)
    kind = definition.kind
    assert not isinstance(kind, Streak)
    pool = await create_pool(postgres, name="test", schema="aggregator")
    try:
        end = to_datetime(system_clock() + 48 * HOUR)
        windows = await Queries(pool).windows(definition, "total", to_datetime(0), end)
        return {
            str(w.group[0]): {r.aggregation: r.value for r in kind.read(w.cells, kind.aggregations)} for w in windows
        }
    finally:
        await pool.close()


async def streak(postgres: str, organisation: str) -> tuple[int, int]:
    """Present length and n."""
    definition = parse_definition(organisation, "streak", 1, STREAK)
    kind = definition.kind
    assert isinstance(kind, Streak)
    pool = await create_pool(postgres, name="test", schema="aggregator")
    try:
        found = await Queries(pool).streaks(definition, kind)
        if not found:
            return 0, 0
        ((_, run),) = found
        length, n = kind.read(run, ("streak", "count"))
        return int(length.value or 0), int(n.value or 0)
    finally:
        await pool.close()


def at(
    organisation: str, event_type: str, job: str, time: int, *, user: str | None = None, **properties: Any
) -> Event:
    """Placed by the user if there is one, else by the job: a unit's events may come through any partition."""
    return event(
        organisation,
        f"{event_type}:{job}:{time}",
        event_type,
        job_id=job,
        user_id=user,
        time=time,
        properties=properties,
    )


def counts(readings: dict[str, float | int | None]) -> tuple[Any, ...]:
    names = ("started", "completed", "abandoned_after_navigation", "abandoned_timeout", "in_progress")
    return tuple(readings[name] for name in names)


@asynccontextmanager
async def listening(kafka: str, topic: str) -> AsyncIterator[list[ConsumerRecord]]:
    """Everything that is in the topic or comes into it while the block runs."""
    consumer: AIOKafkaConsumer = await assigned_consumer(kafka, topic, fetch_max_wait_ms=20)
    await consumer.seek_to_beginning()
    found: list[ConsumerRecord] = []

    async def collect() -> None:
        while True:
            for records in (await consumer.getmany(timeout_ms=100)).values():
                found.extend(records)

    task = asyncio.create_task(collect())
    try:
        yield found
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await consumer.stop()


def updates_of(records: list[ConsumerRecord], organisation: str, metric: str) -> list[MetricUpdate]:
    found = [topics.METRIC_UPDATES.decode(r.value) for r in records]
    return [u for u in found if (u.organisation, u.subject) == (organisation, metric)]


async def test_journeys_end_as_their_events_say_and_deadlines_pass_in_idle_partitions(
    kafka: str, postgres: str, tmp_path: Path
) -> None:
    organisation = "outcomes"
    await define_metrics(kafka, organisation, {"journey": JOURNEY})
    now = system_clock()
    events = [
        at(organisation, "import_started", "done", now, variant="a", user="u1"),
        at(organisation, "import_completed", "done", now + 500_000, user="u2"),
        at(organisation, "import_started", "left", now, variant="a"),
        at(organisation, "left", "left", now + 1, how="away"),
        at(organisation, "import_started", "died", now, variant="a"),
        at(organisation, "left", "died", now + 1, how="away"),
        at(organisation, "import_cancelled", "died", now + 2),
        at(organisation, "import_started", "stays", now, variant="a"),
        at(organisation, "left", "stays", now + 1, how="scrolled"),
        at(organisation, "mapping_done", "stays", now + 2),
        at(organisation, "import_started", "late", now, variant="b"),
        at(organisation, "import_completed", "never started", now),
    ]
    async with aggregator(kafka, postgres, tmp_path / "worker.log"):
        await publish_events(kafka, events)

        async def counted() -> bool:
            found = await journeys(postgres, organisation)
            return {"a", "b"} <= found.keys() and counts(found["a"])[:3] == (4, 1, 1)

        await eventually(counted, "what is clear at once is counted")

        async def expired() -> bool:
            found = await journeys(postgres, organisation)
            return counts(found["a"]) == (4, 1, 2, 1, 0) and counts(found["b"]) == (1, 0, 0, 1, 0)

        await eventually(expired, "deadlines pass without any further event")
        found = await journeys(postgres, organisation)
        assert found["a"]["abandonment_rate"] == 0.75
        assert found["a"]["completion_rate"] == 0.25
        assert found["a"]["avg_duration"] == 500.0
        assert found["a"]["reached:mapped"] == 1
        await publish_events(kafka, [at(organisation, "import_completed", "late", now + 60 * SECOND)])

        async def completed() -> bool:
            return counts((await journeys(postgres, organisation))["b"]) == (1, 1, 0, 0, 0)

        await eventually(completed, "a completion counts whenever it comes")


async def test_the_streak_is_what_failed_since_the_latest_success_of_any_partition(
    kafka: str, postgres: str, tmp_path: Path
) -> None:
    organisation = "streaks"
    await define_metrics(kafka, organisation, {"streak": STREAK})
    now = system_clock() - 60 * SECOND
    users = {partition_of(f"u{i}", EVENT_PARTITIONS): f"u{i}" for i in range(40)}
    assert len(users) == EVENT_PARTITIONS

    def ended(number: int, status: str, partition: int) -> Event:
        return at(
            organisation,
            "import_completed",
            f"j{number}",
            now + number * SECOND,
            user=users[partition],
            finalStatus=status,
        )

    failures = [ended(i, "failed", i % 3) for i in range(10, 16)]
    random.Random(4).shuffle(failures)
    async with aggregator(kafka, postgres, tmp_path / "worker.log"):
        await publish_events(kafka, [*failures, failures[0]])
        await eventually(lambda: _is(streak(postgres, organisation), (6, 6)), "all failures stand")
        await publish_events(kafka, [ended(12, "success", 3)])
        await eventually(lambda: _is(streak(postgres, organisation), (3, 7)), "those after the success stand")
        await publish_events(kafka, [ended(i, "failed", 3) for i in range(20, 30)])
        await eventually(lambda: _is(streak(postgres, organisation), (10, 17)), "no more than the length stands")


async def test_a_series_is_sent_at_once_then_at_most_five_times_a_second_and_its_last_state_always(
    kafka: str, postgres: str, tmp_path: Path
) -> None:
    organisation = "rated"
    await define_metrics(kafka, organisation, {"streak": STREAK, "journey": JOURNEY})
    async with (
        aggregator(kafka, postgres, tmp_path / "worker.log"),
        listening(kafka, topics.METRIC_UPDATES.name) as records,
    ):
        sent = 0
        until = system_clock() + 3 * SECOND
        while system_clock() < until:
            await publish_events(
                kafka,
                [at(organisation, "import_completed", f"j{sent}", system_clock(), user="u", finalStatus="failed")],
            )
            sent += 1

        async def arrived() -> bool:
            return [u.n for u in updates_of(records, organisation, "streak")][-1:] == [sent]

        await eventually(arrived, "the last state is published")
        updates = updates_of(records, organisation, "streak")
        assert len(updates) >= 5
        gaps = [b.published_at - a.published_at for a, b in pairwise(updates)]
        assert min(gaps) >= 190_000, "five a second"
        assert all(a.revision < b.revision for a, b in pairwise(updates))
        last = updates[-1]
        assert (last.series, last.window_start, len(last.failures)) == ('["streak","[]"]', 0, 10)
        assert list(last.failures) == sorted(last.failures)
        outcomes = updates_of(records, organisation, "journey")
        assert outcomes == [], "completions alone are no journeys"


async def test_once_there_is_a_rule_only_what_rules_and_breakers_name_is_sent_and_what_stood_before_too(
    kafka: str, postgres: str, tmp_path: Path
) -> None:
    organisation = "heard"
    await define_metrics(kafka, organisation, {"streak": STREAK, "journey": JOURNEY, "n": {"type": "count"}})
    publisher = Publisher(kafka)
    await publisher.start()
    rule = Rule(organisation=organisation, key="r", version=1, spec={"metric": "journey"})
    breaker = Breaker(organisation=organisation, key="b", version=1, spec={"metric": "streak"})
    now = system_clock()
    try:
        async with (
            aggregator(kafka, postgres, tmp_path / "worker.log"),
            listening(kafka, topics.METRIC_UPDATES.name) as records,
        ):
            await publish_events(kafka, [at(organisation, "import_started", "1", now, variant="a")])

            async def everything() -> bool:
                return all(updates_of(records, organisation, m) for m in ("n", "journey"))

            await eventually(everything, "without any rule everything is sent")
            await publisher.publish(topics.RULES, rule)
            before = len(updates_of(records, organisation, "journey"))

            async def told() -> bool:
                return len(updates_of(records, organisation, "journey")) > before

            await eventually(told, "what stands is sent to the new rule")
            ended = [at(organisation, "import_completed", str(i), now + i, finalStatus="failed") for i in range(5)]
            unheard = len(updates_of(records, organisation, "n"))
            await publish_events(kafka, ended)
            await eventually(lambda: _is(streak(postgres, organisation), (5, 5)), "the failures are counted")
            await publish_events(kafka, [at(organisation, "import_completed", "1", now + 9, finalStatus="failed")])
            await eventually(
                lambda: _is(streak(postgres, organisation), (6, 6)), "and one more, a second round of updates"
            )
            assert updates_of(records, organisation, "streak") == []
            assert len(updates_of(records, organisation, "n")) == unheard
            await publisher.publish(topics.BREAKERS, breaker)

            async def streak_told() -> bool:
                latest = {u.shard: u for u in updates_of(records, organisation, "streak")}
                return sum(len(u.failures) for u in latest.values()) == 6

            await eventually(streak_told, "the breaker is told what stands")
    finally:
        await publisher.stop()


async def test_what_a_worker_committed_and_never_published_is_published_by_the_next(
    kafka: str, postgres: str, tmp_path: Path
) -> None:
    organisation = "unpublished"
    await define_metrics(kafka, organisation, {"streak": STREAK, "journey": JOURNEY})
    now = system_clock()
    async with aggregator(kafka, postgres, tmp_path / "worker.log") as worker:
        await publish_events(
            kafka,
            [
                at(organisation, "import_started", "1", now, variant="a"),
                at(organisation, "import_completed", "1", now + 1, finalStatus="failed"),
            ],
        )
        await eventually(lambda: _is(streak(postgres, organisation), (1, 1)), "the failure is counted")
        await worker.kill()
        connection = await asyncpg.connect(postgres)
        try:  # as if it had died between COMMIT and the acknowledgement
            await connection.execute("UPDATE aggregator.shards SET published_revision = 0")
        finally:
            await connection.close()
        async with listening(kafka, topics.METRIC_UPDATES.name) as records:
            await eventually(lambda: _has(records), "earlier updates are read")
            seen = {m: len(updates_of(records, organisation, m)) for m in ("streak", "journey")}
            await worker.start()

            async def again() -> bool:
                return all(len(updates_of(records, organisation, m)) > n for m, n in seen.items())

            await eventually(again, "streaks and journeys are published again")


async def test_heartbeats_carry_lag_and_a_time_before_which_everything_is_counted(
    kafka: str, postgres: str, tmp_path: Path
) -> None:
    organisation = "beating"
    await define_metrics(kafka, organisation, {"n": {"type": "count"}})
    async with listening(kafka, topics.HEARTBEATS.name) as records:
        await publish_events(kafka, [event(organisation, f"e{i}", user_id=f"u{i}") for i in range(20_000)])
        began = system_clock()
        async with aggregator(kafka, postgres, tmp_path / "worker.log"):

            def beats() -> dict[int, Heartbeat]:
                found = [topics.HEARTBEATS.decode(r.value) for r in records]
                return {h.shard: h for h in found if h.time >= began and h.lag == 0}

            async def all_clear() -> bool:
                return set(beats()) == set(range(EVENT_PARTITIONS))

            await eventually(all_clear, "each partition says that nothing is left to fold")
            asked = system_clock()

            async def going_on() -> bool:
                return all(h.time > asked for h in beats().values())

            await eventually(going_on, "an idle shard's clock goes on")
            connection = await asyncpg.connect(postgres)
            try:
                rows = await connection.fetch("SELECT shard, next_offset FROM aggregator.shards")
            finally:
                await connection.close()
            assert {h.shard: h.next_offset for h in beats().values()} == {r["shard"]: r["next_offset"] for r in rows}
            assert {h.shards for h in beats().values()} == {EVENT_PARTITIONS}
        by_shard: dict[int, list[Heartbeat]] = defaultdict(list)
        for record in records:
            if record.timestamp * 1_000 >= began:  # of this worker, not of an earlier test's
                beat = topics.HEARTBEATS.decode(record.value)
                by_shard[beat.shard].append(beat)
        for sequence in by_shard.values():
            assert all(a.next_offset <= b.next_offset and a.time <= b.time for a, b in pairwise(sequence))
            assert all(h.lag == 0 or h.time < began for h in sequence)


async def _is(found: Any, expected: Any) -> bool:
    return bool(await found == expected)


async def _has(records: list[ConsumerRecord]) -> bool:
    return bool(records)
