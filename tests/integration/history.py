"""The same definitions under several names, traffic to count by them, and all that readers see of them."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

from shared import topics
from shared.clock import DAY, HOUR, system_clock
from shared.kafka import Publisher
from shared.keys import describe_key, new_key
from shared.messages import Event
from tests.integration.aggregation import event
from tests.programs import Program

ORGANISATION = "late"
READ = "/api/v1/streaming-analytics/metrics"
ADMIN = "/api/v1/admin/metrics"
WIDTHS = ("1m", "5m", "1d", "total")

SPECS: dict[str, dict[str, Any]] = {
    "count": {"type": "count", "event": "purchase", "group_by": ["properties.variant"]},
    "value": {
        "type": "value",
        "event": "purchase",
        "value": "properties.amount",
        "aggregations": ["sum", "avg", "min", "max", "p50", "p95"],
    },
    "ratio": {"type": "ratio", "numerator": {"event": "purchase"}, "denominator": {"event": "visit"}},
    "unique": {"type": "unique", "event": "purchase", "of": "user_id"},
    "breakdown": {
        "type": "breakdown",
        "event": "ended",
        "of": "properties.status",
        "aggregations": ["count", "share"],
    },
    "streak": {
        "type": "streak",
        "event": "ended",
        "failure": {"path": "properties.status", "op": "eq", "value": "failed"},
        "group_by": ["properties.variant"],
    },
    "journey": {
        "type": "journey",
        "unit": "job",
        "start": {"event": "begun"},
        "complete": {"event": "ended"},
        "steps": [{"name": "visited", "event": "visit"}],
        "timeout": "30m",
    },
    "funnel": {
        "type": "funnel",
        "unit": "job",
        "stages": [
            {"name": "begun", "event": "begun"},
            {"name": "visited", "event": "visit"},
            {"name": "ended", "event": "ended"},
        ],
        "window": "2h",
        "group_by": ["properties.variant"],
    },
}
APART = [kind for kind in SPECS if kind not in ("journey", "funnel")]
"""Kinds whose history is hidden until all of it is there."""


class Traffic:
    """Events of a seed, of which some come twice, some late, some with a value that cannot be read."""

    def __init__(self, seed: int, *, ago: int = 0) -> None:
        """All of it happened longer `ago` (µs)."""
        self._ago = ago
        self._random = random.Random(seed)
        self._sent: list[Event] = []
        self.published = 0

    def take(self, n: int) -> list[Event]:
        now, choose = system_clock(), self._random
        events = []
        for _ in range(n):
            if self._sent and choose.random() < 0.1:
                events.append(choose.choice(self._sent[-20_000:]))
                continue
            time = now - self._ago - choose.randrange(HOUR)
            if choose.random() < 0.01:
                time = now - DAY - choose.randrange(2 * HOUR)
            one = event(
                ORGANISATION,
                f"e{len(self._sent)}",
                choose.choice(("purchase", "visit", "begun", "ended")),
                user_id=f"u{choose.randrange(500)}",
                job_id=f"j{choose.randrange(3_000)}",
                time=time,
                properties={
                    "amount": choose.choice((choose.randrange(10_000) / 100, "much")),
                    "variant": choose.choice("ab"),
                    "status": choose.choice(("failed", "success")),
                },
            )
            self._sent.append(one)
            events.append(one)
        self.published += n
        return events


@asynccontextmanager
async def admin_of(kafka: str, postgres: str, log: Path) -> AsyncIterator[httpx.AsyncClient]:
    """The aggregator's REST process, asked with an admin key of its own."""
    publisher = Publisher(kafka)
    await publisher.start()
    key = new_key()
    await publisher.publish(topics.KEYS, describe_key(key, organisation=ORGANISATION, scope="admin"))
    await publisher.stop()
    env = {"TIDEGATE_KAFKA": kafka, "TIDEGATE_POSTGRES": postgres}
    async with (
        Program("services.aggregator", "api", log=log, env=env) as program,
        httpx.AsyncClient(base_url=program.url, headers={"X-API-Key": key}, timeout=20) as client,
    ):
        yield client


async def define(admin: httpx.AsyncClient, prefix: str) -> None:
    for kind, spec in SPECS.items():
        answer = await admin.put(f"{ADMIN}/{prefix}-{kind}", json=spec)
        assert answer.status_code == 201, answer.text


async def backfill_of(admin: httpx.AsyncClient, metric: str) -> dict[str, Any]:
    answer = await admin.get(f"{ADMIN}/{metric}/backfill")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def shown(admin: httpx.AsyncClient, metric: str) -> dict[str, Any]:
    """All that the metric's readers see, but its name."""
    found: dict[str, Any] = {}
    kind = metric.rsplit("-", 1)[-1]
    for width in WIDTHS if kind != "streak" else ("total",):
        answer = await admin.get(READ, params={"metric_name": metric, "time_window": width, "limit": 1_000})
        assert answer.status_code == 200, answer.text
        found[width] = [{**item, "metric_name": ""} for item in answer.json()]
    answer = await admin.get(f"{READ}/{metric}")
    components = answer.json()["components"]
    found["components"] = {
        name: {k: v for k, v in totals.items() if k != "amended"} for name, totals in components.items()
    }
    return found
