"""Metrics by variant over HTTP, beside a worker on real Kafka and Postgres."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx

from shared import topics
from shared.clock import MINUTE, SECOND, system_clock
from shared.kafka import Publisher
from shared.keys import describe_key, new_key
from shared.messages import Event
from tests.integration.aggregation import (
    define_experiment,
    define_metrics,
    event,
    exposure,
    publish_events,
    wait_until_folded,
)
from tests.programs import Program, aggregator
from tests.waiting import eventually

ORGANISATION = "shop"
METRICS = "/api/v1/streaming-analytics/metrics"
FAILED = {"path": "properties.status", "value": "failed"}
SPECS: dict[str, dict[str, Any]] = {
    "failures": {"type": "streak", "event": "ended", "failure": FAILED, "group_by": ["properties.source"]},
    "imports": {
        "type": "journey",
        "unit": "job",
        "start": {"event": "begun"},
        "complete": {"event": "ended", "filter": {"not": FAILED}},
        "steps": [{"name": "mapped", "event": "mapped"}],
        "durations": [{"name": "mapping", "to": "mapped", "percentiles": ["p50"]}],
        "correlate": [{"name": "ticket", "event": "ticket", "by": "user", "within": "1h"}],
        "timeout": "30m",
    },
    "path": {
        "type": "funnel",
        "unit": "job",
        "stages": [{"name": name, "event": name} for name in ("begun", "mapped", "ended")],
    },
}


def told() -> list[Event]:
    """Of users 0 to 5 each has one job; 1, 3 and 5 are treated and fail. The last two begin later and do not map."""
    begin, events = system_clock() - 60 * MINUTE, []
    for i in range(6):
        user, job = f"u{i}", f"j{i}"
        events.append(exposure(ORGANISATION, "x", user, ("control", "treatment")[i % 2], begin))
        did: list[tuple[str, int, dict[str, Any]]] = [("begun", 1 if i < 4 else 7, {})]
        if i < 4:
            did.append(("mapped", 2 + i, {}))
        did.append(("ended", 9, {"status": ("success", "failed")[i % 2], "source": "csv"}))
        if i == 3:
            did.append(("ticket", 10, {}))
        for kind, second, properties in did:
            time = begin + second * SECOND
            one = event(ORGANISATION, f"{kind}{i}", kind, user_id=user, job_id=job, time=time, properties=properties)
            events.append(one)
    return events


async def test_every_kind_is_cut_by_variant(kafka: str, postgres: str, tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        publisher, key = Publisher(kafka), new_key()
        await publisher.start()
        await publisher.publish(topics.KEYS, describe_key(key, organisation=ORGANISATION, scope="read"))
        await publisher.stop()
        await define_metrics(kafka, ORGANISATION, SPECS)
        await define_experiment(kafka, ORGANISATION, "x", ("failures",), ("context.net",))
        env = {"TIDEGATE_KAFKA": kafka, "TIDEGATE_POSTGRES": postgres}
        program = Program("services.aggregator", "api", log=tmp_path / "api.log", env=env)
        api = await stack.enter_async_context(program)
        client = httpx.AsyncClient(base_url=api.url, headers={"X-API-Key": key}, timeout=20)
        reader = await stack.enter_async_context(client)
        await stack.enter_async_context(aggregator(kafka, postgres, tmp_path / "worker.log"))
        events = told()
        await publish_events(kafka, events)
        await wait_until_folded(postgres, len(events))

        async def read(metric: str, aggregation: str, **asked: str) -> dict[str, Any]:
            query = {"metric_name": metric, "experiment": "x", "aggregation_type": aggregation, **asked}
            response = await reader.get(METRICS, params=query)
            assert response.status_code == 200, response.text
            return {item["variant"]: item["metric_value"] for item in response.json()}

        async def resolved() -> bool:
            return await read("imports", "in_progress") == {"control": 0, "treatment": 0}

        await eventually(resolved, "deadlines have passed")
        assert await read("imports", "completion_rate") == {"control": 1, "treatment": 0}
        assert await read("imports", "reached:mapped") == {"control": 2, "treatment": 2}
        assert await read("imports", "avg:mapping") == {"control": 2_000, "treatment": 3_000}
        assert await read("imports", "with_rate:ticket") == {"control": 0, "treatment": 1 / 3}
        assert await read("path", "conversion:mapped") == {"control": 2 / 3, "treatment": 2 / 3}
        assert await read("path", "avg_time:mapped") == {"control": 2_000, "treatment": 3_000}
        assert await read("failures", "streak") == {"control": 0, "treatment": 3}
        assert await read("path", "count", segment="context.net") == {"control": 3, "treatment": 3}
        response = await reader.get(METRICS, params={"metric_name": "failures", "experiment": "x"})
        assert {item["group"]["properties.source"] for item in response.json()} == {"csv"}
        query = {"metric_name": "path", "experiment": "x", "segment": "context.os"}
        refused = await reader.get(METRICS, params=query)
        assert (refused.status_code, refused.json()["reason"]) == (422, "segment_unknown")
        assert "context.net" in refused.json()["detail"]

        await define_experiment(
            kafka, ORGANISATION, "x", ("failures",), ("context.net",), events[0].time + 6 * SECOND
        )

        async def ended() -> bool:
            return await read("path", "count") == {"control": 2, "treatment": 2}

        await eventually(ended, "who began after the end is passed over")
        assert await read("imports", "completion_rate") == {"control": 1, "treatment": 0}
        assert await read("failures", "streak") == {"control": 0, "treatment": 3}
