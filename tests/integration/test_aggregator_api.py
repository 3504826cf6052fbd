"""The aggregator's REST process beside its worker, on real Kafka and Postgres."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
import pytest_asyncio

from services.aggregator.domain.metrics import KINDS
from services.aggregator.domain.schema import metric_schema
from shared import topics
from shared.clock import MINUTE, SECOND, from_datetime, system_clock, to_datetime, to_iso
from shared.kafka import Publisher
from shared.keys import describe_key, new_key
from shared.messages import Scope
from tests.integration.aggregation import event, publish_events, publish_raw, wait_until_folded
from tests.programs import Program, aggregator
from tests.waiting import eventually

ORGANISATION = "api"
METRICS = "/api/v1/streaming-analytics/metrics"
EVENTS = "/api/v1/streaming-analytics/events"
DASHBOARD = "/api/v1/streaming-analytics/dashboard"

SPECS: dict[str, dict[str, Any]] = {
    "clicks": {"type": "count", "event": "click", "group_by": ["properties.page"]},
    "revenue": {
        "type": "value",
        "event": "purchase",
        "value": "properties.amount",
        "aggregations": ["sum", "avg", "min", "max", "p50"],
    },
    "conversion": {"type": "ratio", "numerator": {"event": "purchase"}, "denominator": {"event": "visit"}},
    "failures": {
        "type": "streak",
        "event": "ended",
        "failure": {"path": "properties.status", "op": "eq", "value": "failed"},
        "length": 3,
    },
    "imports": {
        "type": "journey",
        "unit": "job",
        "start": {"event": "begun"},
        "complete": {"event": "ended"},
        "navigate": {"event": "left"},
        "steps": [{"name": "mapped", "event": "mapped"}],
        "timeout": "30m",
        "group_by": ["properties.variant"],
    },
    "buyers": {"type": "unique", "event": ["purchase", "click"], "of": "user_id"},
    "pages": {"type": "breakdown", "event": "click", "of": "properties.page", "aggregations": ["count", "trend"]},
    "cheap": {
        "type": "value",
        "event": "purchase",
        "value": "properties.amount / 10",
        "aggregations": ["share<=5", "stddev"],
    },
    "amounts": {"type": "survey", "event": "purchase", "questions": {"amount": {"nps": True}}},
    "tickets": {
        "type": "latest",
        "unit": "properties.ticketId",
        "event": "support_ticket",
        "begin": "properties.created_at",
        "order": "properties.updated_at",
        "value": "seconds_between(properties.created_at, properties.resolved_at) / 3600",
        "aggregations": ["count", "avg", "p50", "share<=2"],
        "group_by": ["properties.category"],
    },
    "sessions": {
        "type": "journey",
        "unit": "session",
        "start": {"event": "session_started"},
        "outcomes": [{"name": "seen", "when": {"reached": "start"}}],
        "correlate": [
            {
                "name": "ticket",
                "event": "support_ticket",
                "filter": {"path": "properties.category", "value": "import"},
                "by": "user",
                "within": "1h",
                "distinct": "properties.ticketId",
                "latest": {"begin": "properties.created_at", "order": "properties.updated_at"},
            }
        ],
    },
    "few": {"type": "count", "event": "click", "group_by": ["properties.page"], "max_groups": 1},
}

BEGIN = (system_clock() - 2 * 60 * MINUTE) // (15 * MINUTE) * 15 * MINUTE
"""The start of a quarter of an hour: what lies there is closed, because an event of now follows."""
TICKET_AT = BEGIN - 10 * 60 * MINUTE


def _ticket(
    event_id: str, ticket: str, category: str, updated: int, *, hours: int | None = None, user: str = "u"
) -> Any:
    """A help desk's export at BEGIN; `updated` and `hours` of resolution since TICKET_AT."""
    said = {
        "ticketId": ticket,
        "category": category,
        "created_at": to_iso(TICKET_AT),
        "updated_at": to_iso(TICKET_AT + updated * MINUTE),
        "resolved_at": None if hours is None else to_iso(TICKET_AT + hours * 60 * MINUTE),
    }
    return event(ORGANISATION, event_id, "support_ticket", user_id=user, time=BEGIN, properties=said)


_EXPORT = [
    _ticket("t1-a", "t1", "other", 0),
    _ticket("t1-b", "t1", "import", 60, hours=1, user="agent"),
    _ticket("t2-a", "t2", "import", 0),
    _ticket("t2-b", "t2", "import", 240, hours=4),
    _ticket("t3-a", "t3", "other", 0, hours=9),
    _ticket("t4-a", "t4", "other", 0),
]

RECORDS = [
    *_EXPORT,
    # Every day anew, under other ids and through another partition.
    *(event(ORGANISATION, f"{day}-{e.event_id}", "support_ticket", user_id=f"export-{day}", time=BEGIN + day,
            properties=e.properties) for day in range(3) for e in reversed(_EXPORT)),
    event(ORGANISATION, "s1", "session_started", user_id="u", session_id="s1", time=TICKET_AT - 10 * MINUTE),
    *(event(ORGANISATION, f"c{i}", "click", user_id="u", time=BEGIN + i * MINUTE, properties={"page": "/a"})
      for i in range(7)),
    event(ORGANISATION, "c7", "click", user_id="u", time=BEGIN, properties={"page": "/b"}),
    event(ORGANISATION, "c0", "click", user_id="u", time=BEGIN, properties={"page": "/a"}),
    *(event(ORGANISATION, f"p{i}", "purchase", user_id="u", time=BEGIN, properties={"amount": i})
      for i in range(101)),
    event(ORGANISATION, "p-odd", "purchase", user_id="u", time=BEGIN, properties={"amount": "much"}),
    *(event(ORGANISATION, f"v{i}", "visit", user_id="u", time=BEGIN) for i in range(408)),
    *(event(ORGANISATION, f"b{i}", "begun", user_id="u", job_id=f"j{i}", time=BEGIN + i,
            properties={"variant": "ab"[i % 2]}) for i in range(8)),
    *(event(ORGANISATION, f"n{i}", "ended", user_id="u", job_id=f"j{i}", time=BEGIN + (2 + i) * SECOND,
            properties={"status": "failed" if i else "success"}) for i in range(5)),
    event(ORGANISATION, "l5", "left", user_id="u", job_id="j5", time=BEGIN + SECOND),
    event(ORGANISATION, "m5", "mapped", user_id="u", job_id="j5", time=BEGIN + SECOND),
    event("another", "x", "click", user_id="u", time=BEGIN),
    event(ORGANISATION, "now", "visit", user_id="u", time=system_clock()),
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Api:
    """The process, and what tests ask it with."""

    admin: httpx.AsyncClient
    reader: httpx.AsyncClient
    kafka: str

    async def get(self, path: str, **parameters: Any) -> Any:
        """The body of an answer that must be 200."""
        response = await self.reader.get(path, params=parameters)
        assert response.status_code == 200, response.text
        return response.json()


@pytest_asyncio.fixture(scope="module")
async def api(kafka: str, postgres: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Api]:
    """With SPECS defined over REST and RECORDS folded."""
    logs = tmp_path_factory.mktemp("logs")
    async with AsyncExitStack() as stack:
        publisher = Publisher(kafka)
        await publisher.start()
        keys: dict[Scope, str] = {"admin": new_key(), "read": new_key()}
        for scope, key in keys.items():
            await publisher.publish(topics.KEYS, describe_key(key, organisation=ORGANISATION, scope=scope))
        await publisher.stop()
        env = {"TIDEGATE_KAFKA": kafka, "TIDEGATE_POSTGRES": postgres}
        program = await stack.enter_async_context(
            Program("services.aggregator", "api", log=logs / "api.log", env=env)
        )
        clients = [
            await stack.enter_async_context(
                httpx.AsyncClient(base_url=program.url, headers={"X-API-Key": keys[scope]}, timeout=20)
            )
            for scope in ("admin", "read")
        ]
        for key, spec in SPECS.items():
            response = await clients[0].put(f"/api/v1/admin/metrics/{key}", json=spec)
            assert (response.status_code, response.json()["version"]) == (201, 1)
        await stack.enter_async_context(aggregator(kafka, postgres, logs / "worker.log"))
        await publish_events(kafka, RECORDS)
        await wait_until_folded(postgres, len(RECORDS))
        yield Api(clients[0], clients[1], kafka)


@pytest.mark.parametrize(
    ("width", "expected"),
    [
        ("1m", [1, 1, 1, 1, 1, 1, 1]),
        ("5m", [2, 5]),
        ("15m", [7]),
        ("1h", [7]),
        ("1d", [7]),
        ("total", [7]),
    ],
)
async def test_windows_of_every_width_hold_the_same_events(api: Api, width: str, expected: list[int]) -> None:
    found = await api.get(METRICS, metric_name="clicks", time_window=width, limit=1000)
    pages = {"/a": expected, "/b": [1]}
    for page, counts in pages.items():
        ours = [w for w in found if w["group"] == {"properties.page": page}]
        assert [w["metric_value"] for w in ours] == counts, "newest first"
        assert all((w["aggregation_type"], w["time_window"]) == ("count", width) for w in ours)
        if width == "total":
            assert ours[0]["window_start"] is None
            assert ours[0]["window_end"] is None
        else:
            seconds = {"1m": 60, "5m": 300, "15m": 900, "1h": 3_600, "1d": 86_400}[width]
            oldest = datetime.fromisoformat(ours[-1]["window_start"])
            assert from_datetime(oldest) == BEGIN - BEGIN % (seconds * SECOND)
            assert datetime.fromisoformat(ours[-1]["window_end"]) - oldest == timedelta(seconds=seconds)


async def test_a_value_metric_gives_its_sum_mean_extremes_and_any_percentile(api: Api) -> None:
    found = await api.get(METRICS, metric_name="revenue", time_window="5m", **_quarter())
    values = {w["aggregation_type"]: w["metric_value"] for w in found}
    assert values.pop("p50") == pytest.approx(50, rel=0.01)
    assert values == {"sum": 5050, "avg": 50, "min": 0, "max": 100}
    assert {w["count"] for w in found} == {101}
    (p90,) = await api.get(METRICS, metric_name="revenue", time_window="1h", aggregation_type="p90", limit=1000)
    assert p90["metric_value"] == pytest.approx(90, rel=0.01)


async def test_a_ratio_divides_over_the_whole_window(api: Api) -> None:
    (found,) = await api.get(METRICS, metric_name="conversion", time_window="15m", **_quarter())
    assert (found["aggregation_type"], found["metric_value"], found["count"]) == ("avg", 0.25, 408)


async def test_a_trailing_window_names_parts_errors_and_trends(api: Api) -> None:
    def read(items: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
        return [
            (i.get("part"), i["aggregation_type"], i["metric_value"], i.get("error"), i.get("trend")) for i in items
        ]

    window = {"time_window": "trailing:3h"}
    buyers = await api.get(METRICS, metric_name="buyers", **window)
    assert read(buyers) == [(None, "unique", 1, 0.0, None)]
    assert (buyers[0]["time_window"], buyers[0]["closed"]) == ("trailing:3h", False)
    begin, end = (datetime.fromisoformat(buyers[0][f"window_{edge}"]) for edge in ("start", "end"))
    assert timedelta(hours=3) < end - begin <= timedelta(hours=3, minutes=1)
    assert read(await api.get(METRICS, metric_name="pages", **window)) == [
        ("/a", "count", 7, None, None),
        ("/a", "trend", None, None, "increasing"),
        ("/b", "count", 1, None, None),
        ("/b", "trend", None, None, "increasing"),
    ]
    cheap = await api.get(METRICS, metric_name="cheap", aggregation_type="share<=5", **window)
    assert read(cheap) == [(None, "share<=5", 51 / 101, None, None)]
    asked = await api.get(METRICS, metric_name="amounts", aggregation_type="nps", **window)
    assert read(asked) == [("amount", "nps", pytest.approx(-500 / 11), None, None)]
    assert (await api.get(f"{METRICS}/few"))["totals"].items() >= {"counted": 8, "overflow": 1}.items()


async def test_anyone_may_read_the_schema_of_definitions(api: Api) -> None:
    async with httpx.AsyncClient(base_url=api.reader.base_url) as stranger:
        answer = await stranger.get("/api/v1/openapi/metric.schema.json")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/schema+json"
    assert answer.json() == metric_schema()


async def test_all_metrics_together_give_the_aggregation_that_was_asked_for_where_there_is_one(api: Api) -> None:
    found = await api.get(METRICS, time_window="total", aggregation_type="sum")
    assert {w["metric_name"] for w in found} == {"revenue", "cheap", "tickets"}
    everything = await api.get(METRICS, time_window="total")
    assert {w["metric_name"] for w in everything} == set(SPECS)


async def test_a_help_desks_tickets_count_once_by_their_latest_state_however_often_they_are_sent(api: Api) -> None:
    found = await api.get(METRICS, metric_name="tickets", time_window="total")
    read = {(w["group"]["properties.category"], w["aggregation_type"]): w["metric_value"] for w in found}
    assert read == {
        ("import", "count"): 2,
        ("import", "avg"): 2.5,
        ("import", "p50"): pytest.approx(1, rel=0.01),
        ("import", "share<=2"): 0.5,
        ("other", "count"): 1,
        ("other", "avg"): 9,
        ("other", "p50"): pytest.approx(9, rel=0.01),
        ("other", "share<=2"): 0,
    }
    assert {w["window_start"] for w in await api.get(METRICS, metric_name="tickets")} == set()
    (hour,) = {w["window_start"] for w in await api.get(METRICS, metric_name="tickets", time_window="1h", limit=24)}
    assert from_datetime(datetime.fromisoformat(hour)) == TICKET_AT // (60 * MINUTE) * 60 * MINUTE
    sessions = await api.get(METRICS, metric_name="sessions", time_window="total")
    assert {w["aggregation_type"]: w["metric_value"] for w in sessions}.items() >= {"matched:ticket": 1}.items()


async def test_the_end_of_a_range_is_not_in_it_and_the_limit_counts_back_from_there(api: Api) -> None:
    end = to_iso(BEGIN + 5 * MINUTE)
    for width, expected in (("1m", [BEGIN + 4 * MINUTE, BEGIN + 3 * MINUTE]), ("5m", [BEGIN])):
        found = await api.get(METRICS, metric_name="clicks", time_window=width, to=end, limit=len(expected))
        starts = [from_datetime(datetime.fromisoformat(w["window_start"])) for w in found]
        assert list(dict.fromkeys(starts)) == expected


async def test_a_metrics_definition_comes_with_what_became_of_its_events(api: Api) -> None:
    clicks = await api.get(f"{METRICS}/clicks")
    assert (clicks["version"], clicks["spec"]) == (1, SPECS["clicks"])
    assert clicks["totals"].items() >= {"counted": 8, "late": 0, "duplicates": 1, "invalid": 0}.items()
    revenue = await api.get(f"{METRICS}/revenue")
    assert revenue["totals"].items() >= {"counted": 101, "late": 0, "duplicates": 0, "invalid": 1}.items()
    conversion = await api.get(f"{METRICS}/conversion")
    assert conversion["components"]["numerator"]["counted"] == 102
    assert conversion["components"]["denominator"]["counted"] == 409


async def test_events_come_newest_first_with_what_was_sent_and_whether_it_is_counted(api: Api) -> None:
    newest, *older = await api.get(EVENTS, limit=1000)
    assert len([newest, *older]) == len(RECORDS) - 1, "all but another organisation's"
    assert (newest["event_id"], newest["event_type"], newest["processed"]) == ("now", "visit", True)
    purchases = await api.get(EVENTS, event_type="purchase", limit=1000, processed=True)
    assert [e["event_data"] for e in purchases] == [
        e.properties for e in reversed(RECORDS) if e.event_type == "purchase"
    ]
    assert await api.get(EVENTS, processed=False) == []
    assert await api.get(EVENTS, data_source_id=2) == []


async def test_the_dashboard_adds_up_and_shows_no_hour_that_is_still_to_come(api: Api) -> None:
    async def settled() -> bool:
        return all(p["lag"] == 0 for p in (await api.get(DASHBOARD))["pipeline"])

    await eventually(settled, "nothing waits")
    found = await api.get(DASHBOARD)
    events = found["events"]
    assert events["duplicates"] == 1
    assert events["events"] == events["counted"] + events["late"] + events["duplicates"]
    assert [p["partition"] for p in found["pipeline"]] == [0, 1, 2, 3]
    hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    assert {w["metric_name"] for w in found["metrics"] if w["window_start"] is None} == {"failures"}
    starts = [w["window_start"] for w in found["metrics"] if w["window_start"] is not None]
    assert all(datetime.fromisoformat(start) <= hour for start in starts)


async def test_a_journey_reads_as_what_became_of_those_that_started_in_a_window(api: Api) -> None:
    async def read() -> dict[str, dict[str, Any]]:
        found = await api.get(METRICS, metric_name="imports", time_window="15m", **_quarter())
        assert {w["window_start"] for w in found} <= {to_iso(BEGIN)}
        return {v: {w["aggregation_type"]: w for w in found if w["group"] == {"properties.variant": v}} for v in "ab"}

    async def resolved() -> bool:
        return all(readings["in_progress"]["metric_value"] == 0 for readings in (await read()).values())

    await eventually(resolved, "deadlines have passed")
    found = await read()
    assert {a: w["metric_value"] for a, w in found["b"].items()} == {
        "started": 4,
        "completed": 2,
        "abandoned_after_navigation": 1,
        "abandoned_timeout": 1,
        "in_progress": 0,
        "abandoned": 2,
        "abandonment_rate": 0.5,
        "completion_rate": 0.5,
        "avg_duration": 4000.0 - 0.002,
        "count": 4,
        "reached:mapped": 1,
    }
    assert found["a"]["completed"]["metric_value"] == 3
    assert found["a"]["completed"]["count"] == 4
    rate = await api.get(METRICS, metric_name="imports", aggregation_type="abandonment_rate", time_window="total")
    assert [w["metric_value"] for w in rate] == [0.25, 0.5]
    totals = (await api.get(f"{METRICS}/imports"))["totals"]
    assert totals.items() >= {"counted": 15, "late": 0, "duplicates": 0, "invalid": 0}.items()


async def test_a_streak_reads_as_what_stands_now(api: Api) -> None:
    found = await api.get(METRICS, metric_name="failures")
    assert {w["aggregation_type"]: w["metric_value"] for w in found} == {"streak": 3, "count": 5}
    assert {(w["time_window"], w["window_start"], w["count"]) for w in found} == {("total", None, 5)}
    (one,) = await api.get(METRICS, metric_name="failures", time_window="total", aggregation_type="streak")
    assert (one["metric_value"], one["group"]) == (3, {})
    windowed = await api.reader.get(METRICS, params={"metric_name": "failures", "time_window": "5m"})
    assert (windowed.status_code, windowed.json()["reason"]) == (422, "window_unknown")
    unknown = await api.reader.get(METRICS, params={"metric_name": "failures", "aggregation_type": "avg"})
    assert (unknown.status_code, unknown.json()["reason"]) == (422, "aggregation_unknown")
    everything = await api.get(METRICS, time_window="5m", limit=1000)
    assert "failures" not in {w["metric_name"] for w in everything}
    assert (await api.get(f"{METRICS}/failures"))["totals"]["counted"] == 5
    assert "failures" in {w["metric_name"] for w in await api.get(METRICS, limit=1000)}


async def test_definitions_are_listed_and_shown_as_they_were_written(api: Api) -> None:
    listed = (await api.admin.get("/api/v1/admin/metrics")).json()
    assert {d["key"]: d["spec"] for d in listed if d["key"] in SPECS} == SPECS
    shown = (await api.admin.get("/api/v1/admin/metrics/imports")).json()
    assert shown == {"key": "imports", "version": 1, "spec": SPECS["imports"]}
    missing = await api.admin.get("/api/v1/admin/metrics/nothing")
    assert (missing.status_code, missing.json()["reason"]) == (404, "metric_unknown")
    again = await api.admin.put("/api/v1/admin/metrics/imports", json=SPECS["imports"])
    assert (again.status_code, again.json()["status"]) == (200, "unchanged")
    refused = await api.admin.put("/api/v1/admin/metrics/imports", json={**SPECS["imports"], "timeout": "91d"})
    problem = refused.json()
    assert (refused.status_code, problem["reason"], problem["place"]) == (422, "definition_invalid", "spec.timeout")


async def test_the_documentation_shows_a_definition_of_every_type(api: Api) -> None:
    schema = (await api.reader.get("/api/v1/openapi/aggregator.json")).json()
    body = schema["paths"]["/api/v1/admin/metrics/{key}"]["put"]["requestBody"]["content"]["application/json"]
    assert set(body["examples"]) == set(KINDS)
    shown = schema["paths"][METRICS]["get"]
    assert shown["responses"]["200"]["content"]["application/json"]["examples"]
    assert all("examples" in p["schema"] or "description" in p for p in shown["parameters"])
    for name, example in body["examples"].items():
        answer = await api.admin.put(f"/api/v1/admin/metrics/example.{name}", json=example["value"])
        assert answer.is_success, answer.text


async def test_a_changed_definition_is_a_new_version_that_starts_at_zero(api: Api, postgres: str, kafka: str) -> None:
    async def put(spec: dict[str, Any]) -> tuple[int, str]:
        response = await api.admin.put("/api/v1/admin/metrics/versions", json=spec)
        assert response.status_code in (200, 201), response.text
        return response.json()["version"], response.json()["status"]

    async def counted() -> int:
        totals: dict[str, int] = (await api.get(f"{METRICS}/versions"))["totals"]
        return totals["counted"]

    spec = {"type": "count", "event": "step", "filter": {"path": "properties.n", "op": "ge", "value": 1}}
    assert await put(spec) == (1, "created")
    assert await put({**spec, "description": "the same"}) == (1, "unchanged")
    await publish_events(kafka, [_step(i, 1) for i in range(5)])
    await eventually(lambda: _equal(counted, 5), "the first version counts")
    assert await put({**spec, "filter": {"path": "properties.n", "op": "eq", "value": 1}}) == (2, "changed")
    assert await put({**spec, "filter": {"path": "properties.n", "op": "eq", "value": True}}) == (3, "changed")
    assert await counted() == 0
    await publish_events(kafka, [_step(5, True), _step(6, 1), _step(7, True)])
    await eventually(lambda: _equal(counted, 2), "only the third version's events")


async def test_an_hour_in_the_future_hides_the_present_one_from_nobody(api: Api, kafka: str) -> None:
    ahead = event(ORGANISATION, "ahead", "visit", user_id="u", time=system_clock() + 23 * 60 * MINUTE)
    await publish_events(kafka, [event(ORGANISATION, "present", "visit", user_id="u"), ahead])

    async def folded() -> bool:
        newest = (await api.get(EVENTS, limit=1))[0]
        return bool(newest["event_id"] == "ahead" and newest["processed"])

    await eventually(folded, "the early event is counted")
    shown = {w["metric_name"]: w for w in (await api.get(DASHBOARD))["metrics"]}
    assert datetime.fromisoformat(shown["conversion"]["window_start"]) <= datetime.now(UTC)
    newest, *_ = await api.get(METRICS, metric_name="conversion", time_window="1h")
    assert datetime.fromisoformat(newest["window_start"]) > datetime.now(UTC), "but it is there"


ODD_QUERIES = [
    {"time_window": "trailing:0m"},
    {"time_window": "trailing:9999d"},
    {"time_window": "trailing:1h", "from": "2026-01-01T00:00:00Z"},
    {"time_window": "trailing:1h", "to": "0001-01-01T00:00:00Z"},
    {"time_window": "trailing:3d", "to": "9999-12-31T23:59:59Z"},
    {"time_window": ""},
    {"aggregation_type": "share<=", "metric_name": "cheap"},
    {"to": "0001-01-01T00:00:00Z", "time_window": "1d"},
    {"to": "0001-02-01T00:00:00", "time_window": "1d", "limit": 1000},
    {"from": "0001-01-01T00:00:00+01:00"},
    {"to": "9999-12-31T23:59:59-10:00"},
    {"from": "0001-01-01T00:00:00Z", "to": "9999-12-31T23:59:59.999999Z", "time_window": "total"},
    {"to": "-62135596800", "time_window": "1d"},
    {"from": "1e400"},
    {"limit": "9" * 5_000},
    {"from": "0001-01-01T00:00:00Z", "time_window": "1d", "metric_name": "pages"},
    {"to": "0001-01-01T00:00:00Z", "time_window": "trailing:1h", "metric_name": "pages"},
    {"experiment": "x"},
    {"experiment": "another's", "metric_name": "imports"},
    {"experiment": "x\x00", "metric_name": "imports"},
    {"experiment": "x", "metric_name": "revenue", "segment": "properties.'; --"},
    {"metric_name": "a\x00"},
    {"metric_name": "\U0001f600"},
    {"metric_name": "'; DROP TABLE metrics; --"},
    {"aggregation_type": "p100"},
    {"aggregation_type": "p50", "metric_name": "clicks"},
    {"time_window": "7m"},
]


@pytest.mark.parametrize("query", ODD_QUERIES, ids=str)
async def test_no_query_is_answered_with_a_fault_of_ours(api: Api, query: dict[str, Any]) -> None:
    response = await api.reader.get(METRICS, params=query)
    assert response.status_code < 500, response.text
    if response.status_code >= 400:
        assert response.headers["content-type"] == "application/problem+json"
        assert response.json()["reason"]


@pytest.mark.parametrize(
    ("query", "status", "reason"),
    [
        ({"metric_name": "clicks", "segment": "context.net"}, 422, "experiment_missing"),
        ({"experiment": "x", "metric_name": "revenue", "segment": "net"}, 422, "segment_invalid"),
        ({"experiment": "x", "metric_name": "revenue", "from": "2026-01-01T00:00:00Z"}, 422, "window_unknown"),
        ({"experiment": "x", "metric_name": "imports", "time_window": "1h"}, 422, "window_unknown"),
        ({"experiment": "x", "metric_name": "imports", "aggregation_type": "p50"}, 422, "aggregation_unknown"),
        ({"experiment": "x", "metric_name": "imports"}, 404, "experiment_metric_not_found"),
        ({"experiment": "x", "metric_name": "revenue"}, 404, "experiment_metric_not_found"),
        ({"experiment": "x"}, 422, "metric_missing"),
        ({"metric_name": "nothing"}, 404, "metric_unknown"),
    ],
    ids=str,
)
async def test_what_would_be_passed_over_is_refused(
    api: Api, query: dict[str, str], status: int, reason: str
) -> None:
    response = await api.reader.get(METRICS, params=query)
    assert (response.status_code, response.json()["reason"]) == (status, reason)


@pytest.mark.parametrize(
    ("key", "body", "status"),
    [
        ("%F0%9F%98%80", b'{"type":"count"}', 422),
        ("a%00", b'{"type":"count"}', 400),
        ("a%0A", b'{"type":"count"}', 422),
        ("x" * 129, b'{"type":"count"}', 422),
        ("k", b"[]", 422),
        ("k", b"null", 422),
        ("k", b"", 422),
        ("k", b'{"type":"journey","unit":"job","start":{"event":"a"},"complete":{"event":"b"},"timeout":1e308}', 422),
        ("k", b'{"type":"journey","unit":{},"start":[],"complete":1}', 422),
        ("k", b'{"type":"streak","failure":{"path":"properties.x","value":1},"length":2e300}', 422),
        ("k", b'{"type":"streak","failure":{"path":"properties.x","value":1},"timeout":1}', 422),
        ("k", b'{"type":"count","event":"\\ud800"}', 422),
        ("k", b'{"type":"count","event":"\\u0000"}', 422),
        ("k", b'{"type":"count","scale":1e400}', 422),
        ("k", b'{"type":"count","filter":' + b'{"not":' * 60 + b"{}" + b"}" * 61, 422),
        ("k", b'{"type":"count","filter":' + b'{"not":' * 100 + b"{}" + b"}" * 101, 422),
        ("k", b'{"type":"value","value":"properties.a","aggregations":[{}]}', 422),
        ("k", b'{"type":"count","filter":{"path":"properties.x","op":{},"value":1}}', 422),
        ("k", b'{"type":"count","description":"' + b"x" * 100_000 + b'"}', 422),
    ],
    ids=lambda v: str(v)[:40],
)
async def test_a_definition_that_makes_no_sense_is_refused(api: Api, key: str, body: bytes, status: int) -> None:
    response = await api.admin.put(
        f"/api/v1/admin/metrics/{key}", content=body, headers={"Content-Type": "application/json"}
    )
    assert response.status_code == status, response.text
    assert response.json()["reason"]


async def test_a_reader_defines_nothing_and_a_stranger_reads_nothing(api: Api) -> None:
    refused = await api.reader.put("/api/v1/admin/metrics/mine", json={"type": "count"})
    assert (refused.status_code, refused.json()["reason"]) == (403, "scope_insufficient")
    unknown = await api.reader.get(METRICS, headers={"X-API-Key": new_key()})
    assert (unknown.status_code, unknown.json()["reason"]) == (401, "key_unknown")
    assert (await api.reader.get(f"{METRICS}/nothing")).status_code == 404


async def test_records_that_others_wrote_into_the_topic_do_not_break_the_list_of_events(api: Api) -> None:
    head = b'{"organisation":"api","event_id":"odd","event_type":"odd","time":1700000000000000,"properties":{"x":'
    odd = [b"[" * n + b"]" * n for n in (63, 300, 900)] + [b"9" * 400, b'"\\u0000"', b"1e308"]
    await publish_raw(api.kafka, [("u", head + value + b"}}") for value in odd])
    found = await api.get(EVENTS, event_type="odd")
    assert len(found) == 4


def _quarter() -> dict[str, str]:
    return {"from": to_iso(BEGIN), "to": to_datetime(BEGIN + 15 * MINUTE).isoformat()}


def _step(number: int, n: int | bool) -> Any:
    return event(ORGANISATION, f"step-{number}", "step", user_id="u", properties={"n": n})


async def _equal(read: Any, expected: int) -> bool:
    return bool(await read() == expected)
