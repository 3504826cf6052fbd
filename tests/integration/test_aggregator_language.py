"""The metric language down to Postgres and back: states, caps, parts, trends, trailing windows."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest
import pytest_asyncio

from services.aggregator.queries import Queries
from shared.clock import DAY, HOUR, MINUTE, from_datetime
from shared.http import Problem
from shared.postgres import Pool, create_pool
from shared.statistics.distinct import STANDARD_ERROR
from tests.integration.ledger import Ledger, items_of
from tests.unit.aggregator.builders import definition, event

NOON = from_datetime(datetime(2026, 5, 4, 12, 0, tzinfo=UTC))


@pytest_asyncio.fixture
async def pool(postgres: str) -> AsyncIterator[Pool]:
    """As a worker has it."""
    pool = await create_pool(postgres, name="test", schema="aggregator", synchronous_commit=False)
    yield pool
    await pool.close()


def click(time: int, **properties: Any) -> dict[str, Any]:
    return event(time=time, properties=properties)


async def test_uniques_roll_up_and_join_shards_without_counting_anyone_twice(pool: Pool) -> None:
    exact = definition("uq_exact", type="unique", of="user_id")
    small = definition("uq_small", type="unique", of="user_id", exact_up_to=100)
    ledger = await Ledger.open(pool, [exact, small], first=200)
    users = [f"u{i % 400}" for i in range(4_000)]
    await ledger.tell([event(time=NOON + i * MINUTE // 20, user_id=u) for i, u in enumerate(users)], batch=300)
    now = NOON + 4 * HOUR
    for width in ("1h", "1d", "total", "trailing:5h"):
        items = await items_of(pool, exact, width, now=now)
        assert {i["metric_value"] for i in items} == {400}, width
        assert {i["error"] for i in items} == {0.0}
        assert sum(i["count"] for i in items) == 4_000
    minutes = await items_of(pool, exact, "1m", now=now)
    assert {i["metric_value"] for i in minutes} == {20}
    for width in ("1h", "1d", "total"):
        for item in await items_of(pool, small, width, now=now):
            assert item["error"] == STANDARD_ERROR
            assert abs(item["metric_value"] - 400) <= 400 * 4 * STANDARD_ERROR
    late = NOON + 30 * MINUTE
    await ledger.tell([event(time=late, user_id="u0"), event(time=late, user_id="new")])
    hours = await items_of(pool, exact, "1h", now=now, begin=datetime(2026, 5, 4, 12, tzinfo=UTC))
    assert [i["metric_value"] for i in hours] == [400, 400, 400, 401]
    assert [i["metric_value"] for i in await items_of(pool, exact, "total", now=now, aggregation="count")] == [4_002]


async def test_shares_and_moments_are_exact_over_shards_and_widths(pool: Pool) -> None:
    metric = definition(
        "sh",
        type="value",
        value="properties.ms / 1000",
        aggregations=["share<=300", "share>300", "variance", "stddev", "p50"],
        group_by=["properties.g"],
    )
    ledger = await Ledger.open(pool, [metric], first=204)
    values = [(i * 7919) % 600_000 for i in range(600)]
    await ledger.tell([click(NOON + i * MINUTE, ms=v, g="a") for i, v in enumerate(values)], batch=70)
    (found,) = [await items_of(pool, metric, "total", now=NOON + DAY)]
    read = {i["aggregation_type"]: i for i in found}
    assert read["share<=300"]["metric_value"] == sum(v <= 300_000 for v in values) / 600
    assert read["share>300"]["metric_value"] == sum(v > 300_000 for v in values) / 600
    mean = sum(values) / 600
    variance = sum((v - mean) ** 2 for v in values) / 599 / 1e6
    assert read["variance"]["metric_value"] == pytest.approx(variance, rel=1e-12)
    assert read["stddev"]["metric_value"] == pytest.approx(variance**0.5, rel=1e-12)
    assert read["p50"]["error"] == 0.01
    assert "error" not in read["variance"]
    assert {i["group"]["properties.g"] for i in found} == {"a"}


async def test_a_million_groups_would_leave_only_so_many_rows_and_say_how_many_overflowed(pool: Pool) -> None:
    metric = definition("cap", type="count", group_by=["properties.g"], max_groups=50)
    ledger = await Ledger.open(pool, [metric], first=208, shards=1)
    events = [click(NOON + i * 1_000, g=f"g{i}") for i in range(3_000)]
    await ledger.tell(events[:30] + events[:10], batch=7)
    await ledger.restart()
    await ledger.tell(events, batch=500)
    found = {i["group"]["properties.g"]: i["count"] for i in await items_of(pool, metric, "total", now=NOON + HOUR)}
    assert found == {**{f"g{i}": 3 if i < 10 else 2 if i < 30 else 1 for i in range(50)}, "other": 2_950}
    totals = (await Queries(pool).series_totals(metric))["value"]
    assert (totals["counted"], totals["overflow"]) == (3_040, 2_950)
    assert ledger.rereads == 2, "once for the day, and once more after the restart"
    kept = await pool.fetchval("SELECT count(*) FROM series_groups WHERE shard = 208")
    assert kept == 50


async def test_each_day_has_room_for_groups_of_its_own(pool: Pool) -> None:
    metric = definition("cap_days", type="count", group_by=["properties.g"], max_groups=1)
    ledger = await Ledger.open(pool, [metric], first=210, shards=1)
    await ledger.tell([click(NOON, g="a"), click(NOON + DAY, g="b"), click(NOON + DAY, g="a"), click(NOON, g="a")])
    found = await items_of(pool, metric, "1d", now=NOON + DAY)
    counts = [(i["window_start"].day, i["group"]["properties.g"], i["count"]) for i in found]
    assert counts == [(5, "b", 1), (5, "other", 1), (4, "a", 2)]


async def test_a_breakdown_tells_shares_and_trends(pool: Pool) -> None:
    metric = definition(
        "bd", type="breakdown", of="properties.errors[].category", aggregations=["count", "share", "trend"]
    )
    ledger = await Ledger.open(pool, [metric], first=212)

    def failed(time: int, *categories: str) -> dict[str, Any]:
        return click(time, errors=[{"category": c} for c in categories])

    await ledger.tell(
        [
            *(failed(NOON, "format", "size") for _ in range(10)),
            *(failed(NOON, "gone") for _ in range(3)),
            *(failed(NOON + HOUR, "format", "format", "size") for _ in range(10)),
            failed(NOON + HOUR, "new"),
        ]
    )
    items = await items_of(pool, metric, "1h", now=NOON + HOUR, limit=2)
    latest = [i for i in items if i["window_start"].hour == 13]
    read = {(i["part"], i["aggregation_type"]): i for i in latest}
    assert [i["part"] for i in latest if i["aggregation_type"] == "count"] == ["format", "size", "new"]
    assert read["format", "share"]["metric_value"] == 20 / 31
    assert (read["format", "trend"]["metric_value"], read["format", "trend"]["trend"]) == (1.0, "increasing")
    assert (read["size", "trend"]["metric_value"], read["size", "trend"]["trend"]) == (0.0, "stable")
    assert (read["new", "trend"]["metric_value"], read["new", "trend"]["trend"]) == (None, "increasing")
    assert (read["gone", "trend"]["metric_value"], read["gone", "trend"]["trend"]) == (-1.0, "decreasing")
    first = [i for i in items if i["window_start"].hour == 12 and i["aggregation_type"] == "trend"]
    assert {i["trend"] for i in first} == {"increasing"}, "nothing came before"
    only = await items_of(pool, metric, "1h", now=NOON + HOUR, limit=1, aggregation="trend")
    assert {i["part"]: i["trend"] for i in only} == {
        "format": "increasing",
        "size": "stable",
        "new": "increasing",
        "gone": "decreasing",
    }
    whole = await items_of(pool, metric, "total", now=NOON + HOUR, aggregation="trend")
    assert {i["metric_value"] for i in whole} == {None}


async def test_a_survey_reads_question_by_question(pool: Pool) -> None:
    metric = definition(
        "sv",
        type="survey",
        event="satisfaction_survey_completed",
        questions={"overall_rating": {"min": 1, "max": 5}, "recommend": {"nps": True}},
    )
    ledger = await Ledger.open(pool, [metric], first=216)
    answers = [(5, 10), (4, 9), (3, 6), (0, 8), (6, None), (None, 11), ("5", 0)]
    await ledger.tell(
        [
            event(
                event_type="satisfaction_survey_completed",
                time=NOON,
                properties={"overall_rating": o, "recommend": r},
            )
            for o, r in answers
        ]
    )
    items = await items_of(pool, metric, "1d", now=NOON)
    assert [(i["part"], i["aggregation_type"], i["metric_value"], i["count"]) for i in items] == [
        ("overall_rating", "avg", 4.0, 3),
        ("overall_rating", "count", 3, 3),
        ("recommend", "avg", 6.6, 5),
        ("recommend", "count", 5, 5),
        ("recommend", "nps", 0.0, 5),
    ]
    totals = await Queries(pool).series_totals(metric)
    assert (totals["answer"]["counted"], totals["answer"]["invalid"]) == (8, 4)
    assert (totals["nps"]["counted"], totals["nps"]["invalid"]) == (5, 1)


@pytest.mark.parametrize("length", ["1m", "10m", "1h", "2h", "4h", "24h", "1d", "3d", "97m"])
async def test_a_trailing_window_holds_what_happened_in_it(pool: Pool, length: str) -> None:
    """Whatever of it is rolled up, and wherever it begins."""
    number = {"1m": 0, "10m": 1, "1h": 2, "2h": 3, "4h": 4, "24h": 5, "1d": 6, "3d": 7, "97m": 8}[length]
    metric = definition(f"tr{number}", type="unique", of="properties.i", exact_up_to=100_000)
    ledger = await Ledger.open(pool, [metric], first=220 + 2 * number)
    times = [NOON - 4 * DAY + i * 7 * MINUTE + i * 1_000 for i in range(4 * DAY // (7 * MINUTE))]
    await ledger.tell([click(t, i=i) for i, t in enumerate(times)], batch=97)
    micros = int(length[:-1]) * {"m": MINUTE, "h": HOUR, "d": DAY}[length[-1]]
    for now in (NOON - 1, NOON - 37 * MINUTE, NOON - HOUR):
        begin = (now - micros) - (now - micros) % MINUTE
        end = now - now % MINUTE + MINUTE
        expected = sum(begin <= t < end for t in times)
        found = await items_of(pool, metric, f"trailing:{length}", now=now)
        assert [i["metric_value"] for i in found] == ([expected] if expected else [])
        for item in found:
            assert from_datetime(item["window_start"]) == begin
            assert from_datetime(item["window_end"]) == end
            assert item["time_window"] == f"trailing:{length}"


@pytest.mark.parametrize("width", ["", "2m", "trailing:", "trailing:4d", "trailing:0m", "trailing:1x", "total "])
def test_a_width_that_there_is_not_is_refused(width: str) -> None:
    from services.aggregator.readings import span_of

    with pytest.raises(Problem) as refused:
        span_of(NOON, width, None, None, 1)
    assert refused.value.status == 422


async def test_which_groups_were_first_does_not_depend_on_batches(pool: Pool) -> None:
    events = [click(NOON + i, g=f"g{(i * i) % 37}", h="x" if i % 3 else None) for i in range(400)]
    found = []
    for number, batch in enumerate((400, 1, 33)):
        metric = definition(f"cut{number}", type="count", group_by=["properties.g", "properties.h"], max_groups=9)
        ledger = await Ledger.open(pool, [metric], first=250 + number, shards=1)
        await ledger.tell(events, batch=batch)
        items = await items_of(pool, metric, "total", now=NOON)
        found.append(Counter({tuple(i["group"].values()): i["count"] for i in items}))
    assert found[0] == found[1] == found[2]
    assert len(found[0]) == 10


async def test_any_cut_of_a_log_leaves_the_same_bytes(pool: Pool) -> None:
    """Also of sets that outgrew their bound, histograms and parts; in minutes and in what they are rolled up to."""
    specs: list[dict[str, Any]] = [
        {"type": "unique", "of": "properties.i", "exact_up_to": 60, "group_by": ["properties.g"]},
        {"type": "value", "value": "properties.i * 3", "aggregations": ["p50", "share<=300"]},
        {"type": "breakdown", "of": "properties.list", "max_groups": 4},
        {"type": "survey", "questions": {"i": {"max": 150}, "nps": {"value": "properties.i", "nps": True}}},
    ]
    events = [
        click(NOON + i * 2_700_000, i=(i * 37) % 211, g="ab"[i % 2], list=[f"c{i % 9}", f"c{i % 4}"])
        for i in range(500)
    ]
    left = []
    for number, batch in enumerate((500, 13, 100)):
        metrics = [definition(f"bytes{number}.{i}", **spec) for i, spec in enumerate(specs)]
        ledger = await Ledger.open(pool, metrics, first=260 + number, shards=1)
        await ledger.tell(events, batch=batch)
        columns = "split_part(s.metric, '.', 2), s.component, w.group_key, w.n, w.sum, w.sum_squares, w.min, w.max"
        rows = [
            await pool.fetch(
                f"SELECT {place}, {columns}, w.sketch FROM {table} w JOIN window_series s ON s.id = w.series_id "
                "WHERE w.shard = $1 ORDER BY 1, 2, 3, 4, 5",
                260 + number,
            )
            for table, place in (("window_minutes", "w.minute, 0"), ("window_rolls", "w.start, w.width"))
        ]
        left.append([[tuple(row) for row in part] for part in rows])
    assert left[0][0] == left[1][0] == left[2][0]
    assert left[0][1] == left[1][1] == left[2][1]
    assert {row[3] for row in left[0][0]} == {"unique", "value", "share", "category", "answer", "nps"}
    assert any(row[-1][:1] == b"\x03" for row in left[0][1]), "a set outgrew its bound"
