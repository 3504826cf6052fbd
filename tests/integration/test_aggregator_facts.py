"""Units whose events come through several shards at once: whatever is told where and when, counts are exact."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from typing import Any

import asyncpg
import numpy as np
import pytest
import pytest_asyncio

from services.aggregator.domain.batch import judge, read_batch
from services.aggregator.domain.fold import fold
from services.aggregator.domain.known import KnownUnits
from services.aggregator.domain.metrics import Definition
from services.aggregator.domain.seen import SeenIds
from services.aggregator.domain.states import Histogram
from services.aggregator.maintenance import Maintenance
from services.aggregator.store.facts import OUT_OF_REACH
from services.aggregator.store.series import SeriesIds
from services.aggregator.store.shards import ShardRow, create_shard, load_shard
from services.aggregator.store.transaction import apply_batch
from shared.clock import DAY, HOUR, MINUTE, SECOND
from shared.postgres import Pool, create_pool
from shared.statistics import sketch
from tests.unit.aggregator.builders import NOW, definition, event, judged, plan_of, record
from tests.unit.aggregator.unit_table import UnitTable

Sums = Counter[tuple[str, int, str, str]]
"""Component, minute, group and column → what is in it."""

IMPORTS: dict[str, Any] = {
    "type": "journey",
    "unit": "job",
    "start": {"event": "import_started"},
    "complete": {"event": "import_ended", "filter": {"path": "properties.status", "value": "success"}},
    "dead": {"event": "import_ended", "filter": {"path": "properties.status", "value": "failed"}},
    "steps": [{"name": "seen", "event": "pageview"}, {"name": "mapped", "event": "mapped"}],
    "timeout": "2h",
    "outcomes": [
        {"name": "quick", "when": {"reached": "complete", "within": "10m"}},
        {"name": "completed", "when": {"reached": "complete"}},
        {"name": "failed", "when": {"reached": "dead"}},
        {"name": "abandoned", "when": {"timeout": True}},
    ],
    "durations": [{"name": "mapping", "from": "mapped", "to": "complete", "percentiles": ["p50"]}],
    "within": [{"name": "active", "step": "seen", "of": "complete", "within": "1h", "at_least": 2}],
    "correlate": [
        {"name": "ticket", "event": "ticket", "by": "user", "within": "24h", "distinct": "properties.id"},
        {"name": "engaged", "event": "pageview", "by": "user", "within": "2h", "at_least": 5},
    ],
    "first_attempt": {"by": "user"},
    "group_by": ["properties.plan"],
}
FUNNEL: dict[str, Any] = {
    "type": "funnel",
    "unit": "user",
    "stages": [{"name": n, "event": n} for n in ("pageview", "import_started", "mapped", "import_ended")],
    "window": "3h",
    "drop_off": {"event": "ticket", "reason": "properties.id"},
}
STAGED: dict[str, Any] = {
    **{field: value for field, value in FUNNEL.items() if field != "drop_off"},
    "group_by": ["properties.plan"],
}
"""Its units are told many at once."""
SHARED = {"journey": IMPORTS, "funnel": FUNNEL, "staged": STAGED}


@pytest_asyncio.fixture
async def pool(postgres: str) -> AsyncIterator[Pool]:
    """As a worker has it."""
    pool = await create_pool(postgres, name="test", schema="aggregator", synchronous_commit=False, size=6)
    yield pool
    await pool.close()


class Writer:
    """A worker's part for one shard; it remembers what is known of units, as a worker does."""

    def __init__(self, pool: Pool, row: ShardRow, capacity: int = 20) -> None:
        self._pool = pool
        self._ids = SeriesIds()
        self._known = KnownUnits(capacity)
        self.row = row
        self.deadlocks = 0

    @classmethod
    async def start(cls, pool: Pool, shard: int, capacity: int = 20) -> Writer:
        async with pool.acquire() as connection:
            await create_shard(connection, shard, 0, "test")
            row = await load_shard(connection, shard)
        assert row is not None
        return cls(pool, row, capacity)

    async def tell(self, metric: Definition, events: Sequence[dict[str, Any]]) -> None:
        first, newest = self.row.next_offset, max(e["time"] for e in events)
        batch = read_batch([record(first + i, one, newest) for i, one in enumerate(events)])
        verdicts = judge(batch, self.row.watermark, SeenIds())
        assert verdicts.counted.all()
        plan = plan_of(metric)
        async with self._pool.acquire() as connection:
            await self._ids.register_windows(connection, plan.window_series())
        deltas = fold(batch, verdicts, plan, units=self._known)
        while True:
            try:
                applied = await apply_batch(self._pool, self.row, batch, verdicts, deltas, self._ids, [], now=newest)
                break
            except asyncpg.DeadlockDetectedError:
                self.deadlocks += 1
        self._known.learn(applied.learned)
        self.row = applied.shard


def drawn(rng: random.Random, count: int) -> list[dict[str, Any]]:
    """Events of forty users with up to three jobs each, within ten hours."""
    events = []
    for i in range(count):
        user = rng.randrange(40)
        kind = rng.choice(["import_started", "import_ended", "mapped", "pageview", "pageview", "pageview", "ticket"])
        properties = {
            "status": rng.choice(["success", "failed", "partial"]),
            "plan": rng.choice(["free", "paid"]),
            "id": f"t{rng.randrange(60)}",
        }
        events.append(
            event(
                event_id=f"e{i}",
                event_type=kind,
                user_id=f"u{user}",
                job_id=f"j{user}-{rng.randrange(3)}",
                time=NOW + rng.randrange(600) * MINUTE,
                properties=properties,
            )
        )
    return events


async def stored(pool: Pool, metric: str) -> Sums:
    rows = await pool.fetch(
        "SELECT s.component, (extract(epoch FROM m.minute) * 1000000)::bigint AS minute, m.group_key, "
        "sum(m.n)::bigint AS n, sum(m.sum)::numeric AS sum, sum(m.sum_squares)::numeric AS squares "
        "FROM window_minutes m JOIN window_series s ON s.id = m.series_id WHERE s.metric = $1 GROUP BY 1, 2, 3",
        metric,
    )
    found: Sums = Counter()
    for component, minute, group, *values in rows:
        for name, value in zip(("n", "sum", "squares"), values, strict=True):
            found[component, minute, group, name] += int(value)
    return Counter({place: value for place, value in found.items() if value})


def expected(metric: Definition, events: Sequence[dict[str, Any]], watermark: int) -> Sums:
    """As one table would count all of them in one batch."""
    added, _ = UnitTable().tell(
        fold(*judged([record(i, e, watermark) for i, e in enumerate(events)]), plan_of(metric)), watermark
    )
    found: Sums = Counter()
    for d in added:
        for name, value in (("n", d.n), ("sum", d.sum), ("squares", d.sum_squares)):
            found[d.series.component, d.minute, d.group, name] += value
    return Counter({place: value for place, value in found.items() if value})


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("capacity", [20, 1_000])
@pytest.mark.parametrize("name", SHARED)
async def test_shards_that_share_units_leave_what_one_would(pool: Pool, name: str, capacity: int, seed: int) -> None:
    """Whether they remember few units or all."""
    rng = random.Random(seed)
    metric = definition(f"{name}{seed}of{capacity}", **SHARED[name])
    await pool.execute("DELETE FROM shards; DELETE FROM id_digests")
    events = drawn(rng, 900)
    writers = [await Writer.start(pool, i, capacity) for i in range(3)]
    logs: list[list[dict[str, Any]]] = [[], [], []]
    for one in events:
        logs[rng.randrange(3)].append(one)
    end = NOW + 601 * MINUTE
    for i, log in enumerate(logs):
        log.append(event(event_id=f"end{i}", event_type="nothing", time=end))

    async def run(writer: Writer, log: list[dict[str, Any]]) -> None:
        place = 0
        while place < len(log):
            size = rng.choice([1, 5, 40, 200])
            await writer.tell(metric, log[place : place + size])
            place += size

    await asyncio.gather(*(run(writer, log) for writer, log in zip(writers, logs, strict=True)))
    everything = [one for log in logs for one in log]
    assert await stored(pool, metric.key) == expected(metric, everything, end)
    components = {place[0] for place in expected(metric, everything, end)}
    assert components == set(metric.kind.components), "the events bring about everything that there is"


async def test_what_nothing_can_change_any_more_is_dropped_and_counts_as_before(pool: Pool) -> None:
    metric = definition("settled", **FUNNEL)
    await pool.execute("DELETE FROM shards")
    writer = await Writer.start(pool, 200)
    stages = ("pageview", "import_started", "mapped")
    await writer.tell(
        metric,
        [event(event_id=f"{n}", event_type=n, user_id="u", time=NOW + i * SECOND) for i, n in enumerate(stages)],
    )
    before = await stored(pool, "settled")
    later = NOW + 3 * HOUR + OUT_OF_REACH + DAY
    await writer.tell(metric, [event(event_id="later", event_type="pageview", user_id="other", time=later)])
    await Maintenance(pool, lambda: later).run_once()
    rows = await pool.fetch(
        "SELECT f.unit, f.facts IS NULL, f.state, f.duration, f.user_id FROM unit_facts f "
        "JOIN window_series s ON s.id = f.series_id WHERE s.metric = 'settled' ORDER BY 1"
    )
    assert [tuple(r) for r in rows] == [
        ("other", False, "pageview", 0, "other"),
        ("u", True, "mapped", 2 * SECOND * 1_000, "u"),
    ]
    again = [event(event_id=f"{n}2", event_type=n, user_id="u", time=later + 1) for n in (*stages, "import_ended")]
    await Writer(pool, writer.row).tell(metric, again)
    after = await stored(pool, "settled")
    assert {place: n for place, n in after.items() if place[1] < later - DAY} == before


async def test_early_entries_are_forgotten_once_no_start_can_come_before_them(pool: Pool) -> None:
    metric = definition("early", **FUNNEL)
    await pool.execute("DELETE FROM shards")
    writer = await Writer.start(pool, 201)
    mapped = [event(event_id=f"m{i}", event_type="mapped", user_id="u", time=NOW + i * HOUR) for i in range(20)]
    await writer.tell(metric, mapped)
    size = (
        "SELECT length(facts) FROM unit_facts f JOIN window_series s ON s.id = f.series_id WHERE s.metric = 'early'"
    )
    full = await pool.fetchval(size)
    later = NOW + 4 * DAY
    await writer.tell(metric, [event(event_id="clock", event_type="nothing", time=later)])
    await writer.tell(metric, [event(event_id="late", event_type="mapped", user_id="u", time=later)])
    assert await pool.fetchval(size) < full / 3


async def test_a_duration_that_moves_within_its_bucket_keeps_all_percentiles(pool: Pool) -> None:
    """Of its minute and of the longer windows: what others gave to them stays, too."""
    metric = definition("buckets", **IMPORTS)
    writer = await Writer.start(pool, 210)

    def told(kind: str, job: str, time: int) -> dict[str, Any]:
        properties = {"status": "success", "plan": "free"}
        one = f"{kind}{job}{time}"
        return event(event_id=one, event_type=kind, user_id=job, job_id=job, time=time, properties=properties)

    events = [told("import_started", job, NOW) for job in ("a", "b", "c")]
    events += [told("mapped", job, NOW + 1) for job in ("a", "b", "c")]
    events += [told("import_ended", job, NOW + 1_000 * SECOND) for job in ("a", "b", "c")]
    await writer.tell(metric, events)
    await writer.tell(metric, [told("import_ended", "a", NOW + 999 * SECOND), told("pageview", "z", NOW + HOUR)])
    await writer.tell(metric, [told("import_ended", "b", NOW + 999 * SECOND)])
    await writer.tell(metric, [told("import_ended", "c", NOW + 500 * SECOND)])
    expected = Histogram({bucket_of(999 * SECOND - 1): 2, bucket_of(500 * SECOND - 1): 1}).encode()
    for table in ("window_minutes", "window_rolls"):
        rows = await pool.fetch(
            f"SELECT m.sketch, m.n FROM {table} m JOIN window_series s ON s.id = m.series_id "
            "WHERE s.metric = 'buckets' AND s.component = 'duration'"
        )
        assert {tuple(row) for row in rows} == {(expected, 3)}, table
        assert rows


def bucket_of(took: int) -> int:
    """Of a time in µs."""
    return int(sketch.buckets_of(np.array([took * 1_000]))[0])
