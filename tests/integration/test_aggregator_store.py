"""What the aggregator keeps in Postgres, and its copies of definitions, without a worker around them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from services.aggregator.definitions import Definitions
from services.aggregator.domain.batch import judge, read_batch
from services.aggregator.domain.fold import fold
from services.aggregator.domain.metrics import Definition
from services.aggregator.domain.plan import WindowSeries
from services.aggregator.domain.seen import SeenIds
from services.aggregator.maintenance import KEEP_DAYS, Maintenance
from services.aggregator.queries import Queries
from services.aggregator.store.series import SeriesIds
from services.aggregator.store.shards import ShardRow, create_shard, load_shard
from services.aggregator.store.transaction import CursorMovedError, apply_batch, apply_deadlines
from services.aggregator.store.unpublished import load_unpublished
from services.aggregator.store.windows import roll_up
from shared import topics
from shared.clock import DAY, HOUR, MINUTE, SECOND, from_datetime, system_clock
from shared.definition_error import DefinitionError
from shared.definitions import Outcome
from shared.kafka import Publisher, Replica, ReplicaStoppedError
from shared.messages import Metric
from shared.postgres import Pool, create_pool
from shared.statistics import sketch
from tests.unit.aggregator.builders import ORGANISATION, definition, event, plan_of, record
from tests.waiting import eventually

NOON = from_datetime(datetime(2026, 3, 2, 12, 0, tzinfo=UTC))


@pytest_asyncio.fixture
async def pool(postgres: str) -> AsyncIterator[Pool]:
    """As a worker has it."""
    pool = await create_pool(postgres, name="test", schema="aggregator", synchronous_commit=False)
    yield pool
    await pool.close()


class Writer:
    """A worker's part for one shard: each call folds and stores one batch of clicks at the given times."""

    def __init__(self, pool: Pool, row: ShardRow) -> None:
        self._pool = pool
        self._ids = SeriesIds()
        self.row = row

    @classmethod
    async def start(cls, pool: Pool, shard: int) -> Writer:
        async with pool.acquire() as connection:
            await create_shard(connection, shard, 0, "test")
            row = await load_shard(connection, shard)
        assert row is not None
        return cls(pool, row)

    async def store(self, metric: Definition, *times: int) -> None:
        await self._store(metric, [event(time=time) for time in times])

    async def tell(self, metric: Definition, units: dict[str, int], event_type: str) -> None:
        """One event of each user, at its time."""
        await self._store(metric, [event(event_type=event_type, user_id=u, time=time) for u, time in units.items()])

    async def _store(self, metric: Definition, events: list[dict[str, Any]]) -> None:
        first, newest = self.row.next_offset, max(e["time"] for e in events)
        batch = read_batch(
            [
                record(first + i, {**one, "event_id": f"{self.row.shard}-{first + i}"}, newest)
                for i, one in enumerate(events)
            ]
        )
        verdicts = judge(batch, self.row.watermark, SeenIds())
        plan = plan_of(metric)
        async with self._pool.acquire() as connection:
            await self._ids.register_windows(connection, plan.window_series())
        new = [self._ids.window(s) for s in plan.window_series()]
        applied = await apply_batch(
            self._pool,
            self.row,
            batch,
            verdicts,
            fold(batch, verdicts, plan),
            self._ids,
            new,
            now=newest,
        )
        self.row = applied.shard


async def starts(pool: Pool, metric: Definition, width: str, begin: int, end: int) -> dict[str, int]:
    """HH:MM of each window (its group is empty) → how many events are in it."""
    windows = await Queries(pool).windows(metric, width, _moment(begin), _moment(end))
    return {f"{w.start:%H:%M}" if w.start else "all": w.cells["value", ""].n for w in windows}


async def total(pool: Pool, metric: Definition) -> int:
    return (await starts(pool, metric, "total", 0, NOON + 100 * DAY)).get("all", 0)


async def test_what_an_idle_partition_counted_last_outlives_its_minutes(pool: Pool) -> None:
    metric = definition("idle")
    writer = await Writer.start(pool, 1)
    await Maintenance(pool, lambda: NOON).run_once()
    await writer.store(metric, NOON, NOON + MINUTE)
    assert await total(pool, metric) == 2
    for days in (KEEP_DAYS - 1, KEEP_DAYS, KEEP_DAYS + 1, KEEP_DAYS + 2):
        for offset in (0, MINUTE // 2, 11 * HOUR + 59 * MINUTE, 12 * HOUR, 12 * HOUR + MINUTE):
            now = NOON + days * DAY + offset
            await Maintenance(pool, lambda now=now: now).run_once()  # type: ignore[misc]  # a default binds it
            assert await total(pool, metric) == 2, f"after {days} days"
    left = await pool.fetchval("SELECT count(*) FROM window_minutes WHERE shard = 1")
    assert left == 0, "the minutes themselves are gone"
    # The writer does not know that its minutes were rolled meanwhile.
    await writer.store(metric, NOON + MINUTE, NOON + 2 * MINUTE)
    await writer.store(metric, NOON + 20 * DAY, NOON + 20 * DAY - 30 * MINUTE)
    assert await total(pool, metric) == 6
    assert (await starts(pool, metric, "5m", NOON, NOON + HOUR)) == {"12:00": 4}


async def test_each_minutes_values_are_rolled_once_also_after_a_minute_without_any(pool: Pool) -> None:
    ids, series = SeriesIds(), WindowSeries(ORGANISATION, "durations", 1, "value", 6)
    buckets: dict[int, dict[int, int]] = {0: {}, 1: {7: 1}, 2: {7: 1, 9: 2}, 6: {7: 1}, 16: {9: 1}}
    async with pool.acquire() as connection, connection.transaction():
        await ids.register_windows(connection, [series])
        for minute, counts in buckets.items():
            raw = sketch.encode(counts) if counts else b""  # as when a value that moved stayed in its bucket
            await connection.execute(
                "INSERT INTO window_minutes "
                "(series_id, shard, minute, group_key, n, sum, sum_squares, sketch, revision) "
                "VALUES ($1, 20, $2, '[]', $3, 0, 0, $4, 1)",
                ids.window(series),
                _moment(NOON + minute * MINUTE),
                sum(counts.values()),
                raw,
            )
        await roll_up(connection, 20, 0, NOON + DAY)
        rows = await connection.fetch(
            "SELECT width, start, n, sketch FROM window_rolls WHERE series_id = $1 ORDER BY 1, 2", ids.window(series)
        )
    found = [(row[0], (row[1] - _moment(NOON)).total_seconds() // 60, row[2], sketch.decode(row[3])) for row in rows]
    midnight = -12 * 60
    assert found == [
        (300, 0, 4, {7: 2, 9: 2}),
        (300, 5, 1, {7: 1}),
        (300, 15, 1, {9: 1}),
        (900, 0, 5, {7: 3, 9: 2}),
        (900, 15, 1, {9: 1}),
        (3_600, 0, 6, {7: 3, 9: 3}),
        (86_400, midnight, 6, {7: 3, 9: 3}),
    ]


async def test_minutes_that_no_longer_window_holds_yet_are_not_deleted(pool: Pool) -> None:
    metric = definition("backfilled")
    await Maintenance(pool, lambda: NOON + 365 * DAY).run_once()
    writer = await Writer.start(pool, 2)
    await writer.store(metric, NOON)
    connection = await pool.acquire()
    try:
        # As if the first event of a new partition came between the two steps of maintenance.
        await connection.execute("UPDATE shards SET rolled_through = 0 WHERE shard = 2")
        await connection.execute("DELETE FROM window_rolls WHERE shard = 2")
    finally:
        await pool.release(connection)
    await Maintenance(pool, lambda: NOON + 365 * DAY).run_once()
    assert await total(pool, metric) == 1


async def test_a_definition_that_is_no_longer_in_force_is_rolled_up_by_a_worker_that_never_knew_it(
    pool: Pool,
) -> None:
    old, new = definition("changed", version=1), definition("changed", version=2)
    before = await Writer.start(pool, 3)
    await before.store(old, NOON, NOON + MINUTE)
    after = Writer(pool, before.row)
    await after.store(new, NOON + HOUR)
    rolled = await pool.fetch(
        "SELECT r.width, sum(r.n)::int AS n FROM window_rolls r JOIN window_series s ON s.id = r.series_id "
        "WHERE s.metric = 'changed' AND s.version = 1 GROUP BY 1 ORDER BY 1"
    )
    assert [tuple(row) for row in rolled] == [(300, 2), (900, 2), (3_600, 2), (86_400, 2)]


async def test_a_window_is_given_whole_or_not_at_all_wherever_a_range_begins_and_ends(pool: Pool) -> None:
    metric = definition("ranges")
    writer = await Writer.start(pool, 4)
    await writer.store(metric, *(NOON + m * MINUTE for m in range(10)))
    for rolled in (False, True):
        if rolled:
            await writer.store(metric, NOON + HOUR)
        assert await starts(pool, metric, "5m", NOON, NOON + 10 * MINUTE) == {"12:00": 5, "12:05": 5}
        assert await starts(pool, metric, "5m", NOON + MINUTE, NOON + 10 * MINUTE) == {"12:05": 5}
        assert await starts(pool, metric, "5m", NOON, NOON + 7 * MINUTE) == {"12:00": 5, "12:05": 5}
        assert await starts(pool, metric, "5m", NOON, NOON + 5 * MINUTE) == {"12:00": 5}
        assert await starts(pool, metric, "1h", NOON + MINUTE, NOON + HOUR) == {}


async def test_the_id_of_a_series_is_on_disk_before_rows_are_added_under_it(pool: Pool) -> None:
    ids = SeriesIds()
    async with pool.acquire() as connection:
        assert await connection.fetchval("SHOW synchronous_commit") == "off"
        for version in range(20):
            written = await connection.fetchval("SELECT pg_current_wal_insert_lsn()")
            await ids.register_windows(connection, [WindowSeries(ORGANISATION, "durable", version, "value", 6)])
            assert await connection.fetchval("SELECT pg_current_wal_flush_lsn() > $1::pg_lsn", written)
        assert await connection.fetchval("SHOW synchronous_commit") == "off", "batches stay fast"


JOURNEY = definition(
    "journey", type="journey", unit="user", start={"event": "begun"}, complete={"event": "ended"}, timeout="1s"
)


async def test_a_deadline_that_moves_no_offset_has_a_revision_of_its_own_and_waits_for_nobody(pool: Pool) -> None:
    writer = await Writer.start(pool, 5)
    await writer.tell(JOURNEY, {"a": NOON, "b": NOON}, "begun")
    began = writer.row
    ids = SeriesIds()
    assert await apply_deadlines(pool, began, NOON + SECOND - 1, ids, now=NOON) is None, "none is due yet"
    holder = await pool.acquire()
    try:
        holding = holder.transaction()
        await holding.start()
        await holder.execute("SELECT FROM unit_facts WHERE unit = 'b' FOR UPDATE")
        first = await apply_deadlines(pool, began, NOON + SECOND, ids, now=NOON)
        await holding.rollback()
    finally:
        await pool.release(holder)
    assert first is not None
    assert {(w.group, w.n) for w in first.windows} == {('["in_progress"]', 1), ('["abandoned_timeout"]', 1)}
    second = await apply_deadlines(pool, first.shard, NOON + SECOND, ids, now=NOON)
    assert second is not None
    assert {(w.group, w.n) for w in second.windows} == {('["in_progress"]', 0), ('["abandoned_timeout"]', 2)}
    assert began.next_offset == first.shard.next_offset == second.shard.next_offset
    assert began.revision < first.shard.revision < second.shard.revision
    async with pool.acquire() as connection:
        before, after = (replace(second.shard, published_revision=r.revision) for r in (began, second.shard))
        unpublished = await load_unpublished(connection, before, NOON)
        published = await load_unpublished(connection, after, NOON)
        older = await load_unpublished(connection, before, NOON + MINUTE)
    assert {(w.group, w.n) for w in unpublished.windows} == {('["in_progress"]', 0), ('["abandoned_timeout"]', 2)}
    assert published.windows == older.windows == []
    writer.row = second.shard
    await writer.tell(JOURNEY, {"a": NOON + SECOND // 2}, "ended")
    await writer.tell(JOURNEY, {"c": NOON}, "begun")
    with pytest.raises(CursorMovedError):
        await apply_deadlines(pool, second.shard, NOON + DAY, ids, now=NOON)


async def test_what_moved_a_journey_is_on_disk_before_anybody_is_told(pool: Pool) -> None:
    """Shards share journeys: folded again after a crash, another shard may move them, and both would be heard."""
    writer = await Writer.start(pool, 10)
    async with pool.acquire() as connection:
        for number in range(20):
            for event_type in ("begun", "ended"):
                written = await connection.fetchval("SELECT pg_current_wal_insert_lsn()")
                await writer.tell(JOURNEY, {f"durable{number}": NOON}, event_type)
                assert await connection.fetchval("SELECT pg_current_wal_flush_lsn() > $1::pg_lsn", written)
        await writer.tell(JOURNEY, {"durable": NOON}, "begun")
        written = await connection.fetchval("SELECT pg_current_wal_insert_lsn()")
        assert await apply_deadlines(pool, writer.row, NOON + SECOND, SeriesIds(), now=NOON) is not None
        assert await connection.fetchval("SELECT pg_current_wal_flush_lsn() > $1::pg_lsn", written)


async def test_two_shards_that_learn_of_the_same_units_at_once_move_each_of_them_once(pool: Pool) -> None:
    metric = definition("shared", type="journey", unit="user", start={"event": "begun"}, complete={"event": "ended"})
    one, other = await Writer.start(pool, 6), await Writer.start(pool, 7)
    units = {f"u{i}": NOON + i for i in range(300)}
    backwards = dict(reversed(units.items()))
    for _ in range(5):
        await asyncio.gather(one.tell(metric, units, "begun"), other.tell(metric, backwards, "ended"))
        await asyncio.gather(one.tell(metric, units, "ended"), other.tell(metric, backwards, "begun"))
    rows = await pool.fetch(
        "SELECT m.group_key, sum(m.n)::int AS n FROM window_minutes m JOIN window_series s ON s.id = m.series_id "
        "WHERE s.metric = 'shared' GROUP BY 1 HAVING sum(m.n) <> 0"
    )
    assert [tuple(row) for row in rows] == [('["completed"]', 300)]


async def test_a_shard_whose_rows_somebody_changed_without_moving_its_cursor_is_taken_anew(pool: Pool) -> None:
    """As a worker that lost its partition, or lost the answer to its own COMMIT, would leave it."""
    writer = await Writer.start(pool, 9)
    await writer.tell(JOURNEY, {"moved": NOON}, "begun")
    remembered = writer.row
    ids = SeriesIds()
    applied = await apply_deadlines(pool, remembered, NOON + SECOND, ids, now=NOON)
    assert applied is not None
    with pytest.raises(CursorMovedError) as moved:
        await writer.tell(JOURNEY, {"moved": NOON}, "ended")
    assert moved.value.row is not None
    assert moved.value.row.revision == applied.shard.revision
    await Writer(pool, applied.shard).tell(JOURNEY, {"moved": NOON}, "ended")


async def test_what_is_known_of_a_unit_without_a_start_is_forgotten_when_no_start_can_come(pool: Pool) -> None:
    writer = await Writer.start(pool, 8)
    await pool.execute("DELETE FROM shards WHERE shard <> 8")
    await writer.tell(JOURNEY, {"stray": NOON, "whole": NOON}, "ended")
    await writer.tell(JOURNEY, {"whole": NOON}, "begun")
    await Maintenance(pool, lambda: NOON).run_once()
    assert await pool.fetchval("SELECT count(*) FROM unit_facts WHERE unit = 'stray'") == 1
    await writer.tell(JOURNEY, {"later": NOON + 3 * DAY}, "begun")
    await Maintenance(pool, lambda: NOON).run_once()
    left = await pool.fetch("SELECT unit FROM unit_facts WHERE unit IN ('stray', 'whole')")
    assert [row["unit"] for row in left] == ["whole"]


class SlowPublisher(Publisher):
    """Remembers what was published, in order; the first message waits until it is let go."""

    def __init__(self) -> None:
        super().__init__("")
        self.versions: list[int] = []
        self.go = asyncio.Event()
        self._calls = 0

    async def publish(self, topic: Any, message: Any, *, deadline: float = 10) -> tuple[int, int]:
        self._calls += 1
        if self._calls == 1:
            await self.go.wait()
        self.versions.append(message.version)
        return 0, len(self.versions)


async def test_the_version_in_force_is_published_last_even_if_an_older_one_is_slow(pool: Pool) -> None:
    publisher = SlowPublisher()
    definitions = Definitions(pool, publisher)
    first = asyncio.create_task(definitions.put(ORGANISATION, "raced", {"type": "count", "event": "a"}))

    async def stored() -> bool:
        return await definitions.get(ORGANISATION, "raced") is not None

    await eventually(stored, "the first version is stored")
    assert await definitions.put(ORGANISATION, "raced", {"type": "count", "event": "b"}) == (Outcome.CHANGED, 2)
    publisher.go.set()
    assert await first == (Outcome.CREATED, 1)
    assert publisher.versions[-1] == 2, "a copy that starts now keeps the last record of each key"
    assert await pool.fetchval("SELECT published_version FROM metrics WHERE key = 'raced'") == 2


async def test_a_definition_too_large_for_kafka_is_refused_and_holds_up_no_other(pool: Pool) -> None:
    publisher = SlowPublisher()
    publisher.go.set()
    definitions = Definitions(pool, publisher)
    conditions = [{"path": "properties.a", "value": "x" * 1_000} for _ in range(100)]
    with pytest.raises(DefinitionError, match="at most 65536 bytes"):
        await definitions.put(ORGANISATION, "huge", {"type": "count", "filter": {"any": conditions}})
    assert await definitions.get(ORGANISATION, "huge") is None


@pytest.mark.parametrize("fault", [OSError("disk"), ValueError("ours")], ids=["looks transient", "ours"])
async def test_a_copy_whose_reader_has_ended_says_so_instead_of_something_worth_another_try(
    kafka: str, fault: Exception
) -> None:
    def broken(_: Metric) -> None:
        raise fault

    publisher = Publisher(kafka)
    await publisher.start()
    replica = Replica(kafka, topics.METRICS, broken, clock=system_clock)
    try:
        await publisher.publish(topics.METRICS, Metric(organisation="o", key="k", version=1, spec={}))
        with pytest.raises(ReplicaStoppedError):
            await replica.start()
        with pytest.raises(ReplicaStoppedError):
            await replica.catch_up()
        assert replica.failure is fault
        assert "metrics.v1 is no longer kept" in (replica.waiting_for() or "")
    finally:
        await replica.stop()
        await publisher.stop()


async def test_shards_of_this_module_roll_exactly_the_minutes_before_their_mark(postgres: str) -> None:
    connection = await asyncpg.connect(postgres)
    try:
        twice = await connection.fetch(
            "SELECT m.series_id, m.shard FROM aggregator.window_minutes m "
            "JOIN aggregator.shards h ON h.shard = m.shard "
            "JOIN aggregator.window_rolls r ON r.series_id = m.series_id AND r.shard = m.shard AND r.width = 300 "
            "AND m.minute >= r.start AND m.minute < r.start + interval '5 minutes' "
            "WHERE m.minute >= to_timestamp(h.rolled_through / 1000000)"
        )
        assert twice == []
    finally:
        await connection.close()


def _moment(micros: int) -> datetime:
    return datetime.fromtimestamp(micros // 1_000_000, UTC)
