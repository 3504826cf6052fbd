"""Kill -9 under load, through the gateway: nothing acknowledged is lost, nothing counts twice."""

from __future__ import annotations

import asyncio
import os
import signal
from functools import partial
from typing import Any

import httpx
import pytest

from deploy.local.stack import LocalStack
from shared.clock import system_clock, to_iso
from tests.e2e.traffic import Ledger, send_batches
from tests.waiting import eventually

EVENTS = 200_000
BATCH = 400
KILLS = 5


async def test_nothing_is_lost_or_doubled_when_the_aggregator_is_killed_five_times(stack: LocalStack) -> None:
    ledger = await _run_with_kills(stack, "aggregator-worker", "aggregator_kills", EVENTS)
    assert ledger.resent > EVENTS // 20


async def test_nothing_is_lost_or_doubled_when_postgres_is_killed_five_times(stack: LocalStack) -> None:
    await _run_with_kills(stack, "postgres", "postgres_kills", EVENTS // 2)


@pytest.mark.parametrize("name", ["kafka", "ingest"])
async def test_nothing_is_lost_or_doubled_when_the_way_in_is_killed(stack: LocalStack, name: str) -> None:
    await _run_with_kills(stack, name, f"{name}_kills", EVENTS // 4, kills=2)


async def _run_with_kills(stack: LocalStack, victim: str, run: str, count: int, kills: int = KILLS) -> Ledger:
    """Sends `count` events in as many parts as there are kills; each kill hits while its part is being counted."""
    await _define(stack, run)
    batches = _batches(run, count)
    ledger = Ledger()
    for kill in range(kills):
        counted = (await _totals(stack, run))["counted"]
        part = batches[kill::kills]
        sending = asyncio.create_task(
            send_batches(stack.gateway, stack.keys["ingest"], part, ledger, clients=6, resend=0.1)
        )
        await eventually(partial(_counted_more_than, stack, run, counted), "the aggregator counts", seconds=60)
        before = _pid(stack, victim)
        os.kill(before, signal.SIGKILL)
        await eventually(partial(_is_another, stack, victim, before), f"{victim} is started again", seconds=60)
        await sending
    assert len(ledger.acknowledged) == count
    await eventually(lambda: _counted(stack, run, count), f"all {count} events are counted", seconds=90)
    totals = await _totals(stack, run)
    assert totals["late"] == 0
    assert totals["invalid"] == 0
    assert await _sum(stack, run) == sum(i % 1000 for i in range(count))
    await eventually(lambda: _all_ready(stack), "the stack is whole again", seconds=60)
    return ledger


def _batches(run: str, count: int) -> list[list[dict[str, Any]]]:
    now = to_iso(system_clock())
    events = [
        {
            "event_id": f"{run}-{i}",
            "event_type": "purchase",
            "event_data": {"amount": i % 1000, "run": run},
            "event_timestamp": now,
            "user_id": f"user-{i % 5000}",
        }
        for i in range(count)
    ]
    return [events[at : at + BATCH] for at in range(0, count, BATCH)]


async def _define(stack: LocalStack, run: str) -> None:
    spec = {
        "type": "value",
        "event": "purchase",
        "value": "properties.amount",
        "filter": {"path": "properties.run", "op": "eq", "value": run},
        "aggregations": ["sum", "count", "p95"],
    }
    async with _admin(stack) as http:
        answer = await http.put(f"/api/v1/admin/metrics/{run}", json=spec)
        answer.raise_for_status()


async def _counted_more_than(stack: LocalStack, run: str, before: int) -> bool:
    return (await _totals(stack, run))["counted"] > before


async def _totals(stack: LocalStack, run: str) -> dict[str, int]:
    """The metric's counters; while Postgres is away, as if nothing had happened."""
    async with _admin(stack) as http:
        try:
            answer = await http.get(f"/api/v1/streaming-analytics/metrics/{run}")
        except httpx.TransportError:
            return {"counted": 0, "late": 0, "duplicates": 0, "invalid": 0}
        if answer.status_code in (502, 503):
            return {"counted": 0, "late": 0, "duplicates": 0, "invalid": 0}
        answer.raise_for_status()
        totals: dict[str, int] = answer.json()["totals"]
        return totals


async def _counted(stack: LocalStack, run: str, count: int) -> bool:
    counted = (await _totals(stack, run))["counted"]
    assert counted <= count, "an event was counted twice"
    return counted == count


async def _sum(stack: LocalStack, run: str) -> float:
    async with _admin(stack) as http:
        answer = await http.get(
            "/api/v1/streaming-analytics/metrics",
            params={"metric_name": run, "time_window": "total", "aggregation_type": "sum"},
        )
        answer.raise_for_status()
        value: float = answer.json()[0]["metric_value"]
        return value


async def _is_another(stack: LocalStack, name: str, before: int) -> bool:
    record = next(p for p in stack.state.read().processes if p.name == name)
    return record.pid not in (None, before)


async def _all_ready(stack: LocalStack) -> bool:
    return all(p.state == "ready" for p in stack.state.read().processes)


def _pid(stack: LocalStack, name: str) -> int:
    pid = next(p.pid for p in stack.state.read().processes if p.name == name)
    assert pid is not None
    return pid


def _admin(stack: LocalStack) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=stack.gateway, headers={"X-API-Key": stack.keys["admin"]}, timeout=20)
