"""What a team asked of a table of events by SQL, metrics answer alike: Postgres runs the SQL over the same events."""

from __future__ import annotations

import json
import random
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from services.aggregator.domain.metrics import Definition
from shared.clock import DAY, MINUTE, SECOND, from_datetime, to_datetime, to_iso
from shared.postgres import Pool, create_pool
from tests.integration import seed_queries
from tests.integration.ledger import Ledger, items_of
from tests.integration.seed_queries import DEFINITIONS
from tests.unit.aggregator.builders import definition, event

NOW = from_datetime(datetime(2026, 6, 10, 9, 0, tzinfo=UTC))
METRICS: dict[str, Definition] = {key: definition(key, **spec) for key, spec in DEFINITIONS.items()}
CATEGORIES = ["format", "encoding", "size", "duplicate", "missing_field"]


def events() -> list[dict[str, Any]]:
    """Six days of imports, surveys, sessions and tickets; in order of time, none of it ahead of NOW."""
    rng = random.Random(11)
    made = []
    for i in range(900):
        time = NOW - rng.randrange(1, 6 * DAY) if i % 9 else NOW - rng.randrange(1, 90 * MINUTE)
        processed = rng.choice([0, 50, 1_000])
        failed = [rng.choice(CATEGORIES) for _ in range(rng.randrange(3))]
        imported: dict[str, Any] = {
            "finalStatus": rng.choice(["success", "success", "partial_success", "failed"]),
            "uploadDuration": rng.randrange(1_000, 60_000),
            "reviewDuration": rng.randrange(5_000, 90_000),
            "totalDuration": rng.randrange(20_000, 900_000),
            "totalSessionDuration": rng.randrange(60_000, 700_000),
            "recordsProcessed": str(processed),
            "recordsSuccessful": rng.randrange(processed + 1),
            "errorCategories": rng.choice([failed, json.dumps(failed)]),
        }
        if rng.random() < 0.2:
            del imported["uploadDuration"], imported["errorCategories"]
        survey = {name: rng.randrange(1, 6) for name in ("overall_rating", "ease_of_use", "speed_rating")}
        created = time - rng.randrange(60, 40 * 3_600) * SECOND
        ticket = {
            "category": rng.choice(["import_issue", "file_upload", "billing"]),
            "created_at": to_iso(created),
            "resolved_at": to_iso(time),
        }
        name, properties = rng.choice(
            [
                ("data_import_completed", imported),
                ("satisfaction_survey_completed", {**survey, "likelihood_to_recommend": rng.randrange(11)}),
                ("migration_session_started", {}),
                ("ai_analysis_completed", {"totalDuration": rng.randrange(5_000, 400_000)}),
                ("support_ticket_resolved", ticket),
                ("pageview", {"finalStatus": "success"}),
            ]
        )
        made.append(event(event_type=name, time=time, session_id=f"s{rng.randrange(90)}", properties=properties))
    return sorted(made, key=lambda e: e["time"])


class Both:
    """The same events in the metrics and in the team's table."""

    def __init__(self, pool: Pool, oracle: asyncpg.Connection) -> None:
        self._pool = pool
        self._oracle = oracle

    async def asked(self, query: str) -> list[asyncpg.Record]:
        return list(await self._oracle.fetch(query, to_datetime(NOW)))

    async def read(self, key: str, width: str = "total", now: int = NOW) -> list[dict[str, Any]]:
        return await items_of(self._pool, METRICS[key], width, now=now)

    async def values(self, key: str, width: str = "total") -> dict[str, Any]:
        """Aggregation → value, of a metric with one window and group."""
        return {i["aggregation_type"]: i["metric_value"] for i in await self.read(key, width)}

    async def daily(self, key: str) -> dict[date, dict[Any, Any]]:
        """Day → aggregation, part and group → value."""
        found: dict[date, dict[Any, Any]] = {}
        for i in await items_of(self._pool, METRICS[key], "1d", now=NOW, begin=to_datetime(NOW - 29 * DAY)):
            name = (i["aggregation_type"], *filter(None, [i.get("part")]), *i["group"].values())
            found.setdefault(i["window_start"].date(), {})[name if len(name) > 1 else name[0]] = i["metric_value"]
        return found


@pytest_asyncio.fixture
async def both(postgres: str) -> AsyncIterator[Both]:
    pool = await create_pool(postgres, name="test", schema="aggregator", synchronous_commit=False)
    oracle = await asyncpg.connect(postgres)
    told = events()
    if not await pool.fetchval("SELECT EXISTS (SELECT FROM shards WHERE shard = 300)"):
        ledger = await Ledger.open(pool, METRICS.values(), first=300, shards=3)
        await ledger.tell(told, batch=41)
    await oracle.execute("CREATE TEMP TABLE raw_events (type text, metadata jsonb, timestamp timestamptz)")
    await oracle.execute("CREATE TEMP VIEW analytics_events AS SELECT type, metadata, timestamp FROM raw_events")
    await oracle.executemany(
        "INSERT INTO raw_events VALUES ($1, $2, $3)",
        [
            (
                "pageview" if e["event_type"] == "pageview" else "custom",
                json.dumps({**e["properties"], "eventName": e["event_type"], "sessionId": e["session_id"]}),
                to_datetime(e["time"]),
            )
            for e in told
        ],
    )
    yield Both(pool, oracle)
    await oracle.close()
    await pool.close()


def close_to(value: Any) -> Any:
    return pytest.approx(float(value), rel=1e-9)


def percentile_of(value: Any) -> Any:
    return pytest.approx(float(value), rel=0.01)


async def test_time_based_performance(both: Both) -> None:
    (asked,) = await both.asked(seed_queries.TIMING)
    total = await both.values("s1_total_time")
    assert total["count"] == asked["successful_sessions"] > 20
    assert total["p50"] == percentile_of(asked["median_total_time"])
    assert total["p90"] == percentile_of(asked["p90_total_time"])
    assert total["p95"] == percentile_of(asked["p95_total_time"])
    assert total["share<=300"] == close_to(asked["under_5_minutes"] / asked["successful_sessions"])
    assert round(total["share<=300"] * 100, 1) == float(asked["pct_under_5_minutes"])
    for key, name in (("upload", "upload"), ("analysis", "analysis"), ("mapping", "mapping")):
        (median,) = (await both.values(f"s1_{key}_time")).values()
        assert median == percentile_of(asked[f"median_{name}_time"])


async def test_satisfaction_by_day(both: Both) -> None:
    asked = {row["date"]: row for row in await both.asked(seed_queries.SATISFACTION)}
    found = await both.daily("s1_satisfaction")
    assert found.keys() == asked.keys()
    for day, row in asked.items():
        assert found[day]["avg", "overall_rating"] == close_to(row["avg_rating"])
        assert found[day]["avg", "ease_of_use"] == close_to(row["avg_ease_score"])
        assert found[day]["avg", "speed_rating"] == close_to(row["avg_speed_score"])
        assert found[day]["count", "overall_rating"] == row["response_count"]
        assert found[day]["nps", "likelihood_to_recommend"] == pytest.approx(float(row["nps"]), abs=1e-9)


async def test_import_quality_by_day(both: Both) -> None:
    asked = {row["import_date"]: row for row in await both.asked(seed_queries.QUALITY)}
    counts, successes, completions = [
        await both.daily(key) for key in ("s1_imports", "s1_success_rate", "s1_completion_rate")
    ]
    records, durations = [await both.daily(key) for key in ("s1_record_success", "s1_duration")]
    assert counts.keys() == asked.keys()
    for day, row in asked.items():
        by_status = {status: n for (_, status), n in counts[day].items()}
        assert sum(by_status.values()) == row["total_imports"]
        assert by_status.get("success", 0) == row["full_success"]
        assert by_status.get("partial_success", 0) == row["partial_success"]
        assert by_status.get("failed", 0) == row["failed_imports"]
        assert successes[day]["avg"] == close_to(row["success_rate"])
        assert completions[day]["avg"] == close_to(row["completion_rate"])
        assert records[day]["avg"] == pytest.approx(row["avg_record_success_rate"], abs=1e-6)
        assert records[day]["p50"] == percentile_of(row["median_record_success_rate"])
        assert durations[day]["avg"] == pytest.approx(float(row["avg_duration_minutes"]), abs=1e-6)
        assert durations[day]["p95"] == percentile_of(row["p95_duration_minutes"])


async def test_error_patterns(both: Both) -> None:
    asked = await both.asked(seed_queries.ERRORS)
    items = await both.read("s1_errors")
    counts = [(i["part"], i["metric_value"]) for i in items if i["aggregation_type"] == "count"]
    assert counts == [(row["error_category"], row["total_occurrences"]) for row in asked]
    shares = {i["part"]: i["metric_value"] for i in items if i["aggregation_type"] == "share"}
    days = await both.daily("s1_errors")
    for row in asked:
        assert shares[row["error_category"]] == close_to(row["error_share"])
        daily = {day: n for day, found in days.items() if (n := found.get(("count", row["error_category"])))}
        assert sum(daily.values()) / len(daily) == close_to(row["avg_daily_occurrences"])
        assert ", ".join(sorted(map(str, daily), reverse=True)) == row["recent_dates"]


async def test_sessions_and_ticket_resolution(both: Both) -> None:
    (asked,) = await both.asked(seed_queries.SESSIONS)
    assert await both.values("s1_sessions") == {"unique": asked["total_import_sessions"]}
    (row,) = await both.asked(seed_queries.RESOLUTION)
    found = await both.values("s1_resolution")
    assert found["avg"] == pytest.approx(float(row["avg_resolution_hours"]), abs=1e-6)
    assert found["p50"] == percentile_of(row["median_resolution_hours"])
    assert found["share<=2"] * found["count"] == close_to(row["resolved_within_2h"])
    assert found["share<=24"] * found["count"] == close_to(row["resolved_within_24h"])


async def test_health_checks_over_trailing_windows(both: Both) -> None:
    (analysis,) = await both.asked(seed_queries.ANALYSIS)
    found = await both.values("s1_analysis_ms", "trailing:1h")
    assert found["count"] == analysis["analysis_count"] > 0
    assert found["avg"] == pytest.approx(float(analysis["avg_analysis_time_ms"]), rel=1e-9)
    assert found["max"] == analysis["max_analysis_time_ms"]
    (failures,) = await both.asked(seed_queries.FAILURES)
    (rate,) = await both.read("s1_failure_rate", "trailing:2h")
    assert (rate["metric_value"], rate["count"]) == (close_to(failures["failure_rate"]), failures["total_imports"])
    (drop,) = await both.asked(seed_queries.DROP)
    items = await both.read("s1_satisfaction", "trailing:24h")
    (rating,) = [i for i in items if i["part"] == "overall_rating" and i["aggregation_type"] == "avg"]
    assert (rating["metric_value"], rating["count"]) == (close_to(drop["avg_satisfaction"]), drop["response_count"])
