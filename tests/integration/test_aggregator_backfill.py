"""A metric defined late is given its history, and then is what it would be, had it been there from the start."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack
from pathlib import Path

import asyncpg
import httpx
import pytest
import pytest_asyncio

from shared.clock import system_clock, to_iso
from tests.integration.aggregation import publish_events, wait_until_folded
from tests.integration.history import ADMIN, APART, SPECS, Traffic, admin_of, backfill_of, define, shown
from tests.programs import aggregator
from tests.waiting import eventually

HISTORY = 15_000


@pytest.fixture(scope="module")
def traffic() -> Traffic:
    """All that this module publishes."""
    return Traffic(seed=5)


@pytest_asyncio.fixture(scope="module")
async def admin(
    kafka: str, postgres: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[httpx.AsyncClient]:
    """With metrics that count all there is."""
    async with admin_of(kafka, postgres, tmp_path_factory.mktemp("logs") / "api.log") as client:
        await define(client, "from-start")
        yield client


async def test_a_metric_with_its_history_is_what_it_would_be_had_it_been_there_from_the_start(
    kafka: str, postgres: str, tmp_path: Path, admin: httpx.AsyncClient, traffic: Traffic
) -> None:
    """The worker is killed in the middle, and events go on coming."""
    async with AsyncExitStack() as stack:
        worker = await stack.enter_async_context(aggregator(kafka, postgres, tmp_path / "worker.log"))
        await publish_events(kafka, traffic.take(HISTORY))
        await wait_until_folded(postgres, traffic.published)
        await define(admin, "with-history")
        await define(admin, "without")
        for kind in SPECS:
            answer = await admin.post(f"{ADMIN}/with-history-{kind}/backfill")
            assert answer.status_code == 202, answer.text
            assert answer.json()["state"] == "running"
        await publish_events(kafka, traffic.take(3_000))
        await eventually(lambda: _is_in_the_middle(admin), "a part of the history is counted", every=0.02)
        await worker.kill()
    states = [await backfill_of(admin, f"with-history-{kind}") for kind in SPECS]
    assert any(b["state"] == "running" for b in states), "killed too late to show anything"
    for kind, backfill in zip(SPECS, states, strict=True):
        if kind in APART and backfill["state"] == "running":
            assert await shown(admin, f"with-history-{kind}") == await shown(admin, f"without-{kind}"), kind
    await publish_events(kafka, traffic.take(2_000))
    async with aggregator(kafka, postgres, tmp_path / "worker.log"):
        await publish_events(kafka, traffic.take(2_000))
        await eventually(lambda: _all_done(admin, "with-history"), "all history is counted", seconds=240)
        await wait_until_folded(postgres, traffic.published)
        for kind in SPECS:

            async def alike(kind: str = kind) -> bool:
                return await shown(admin, f"with-history-{kind}") == await shown(admin, f"from-start-{kind}")

            await eventually(alike, f"{kind} is alike", seconds=20, every=0.5)
            assert await shown(admin, f"without-{kind}") != await shown(admin, f"from-start-{kind}"), kind


async def test_a_cancelled_backfill_leaves_nothing_behind_and_can_begin_again(
    kafka: str, postgres: str, tmp_path: Path, admin: httpx.AsyncClient, traffic: Traffic
) -> None:
    """But for journeys: theirs is stopped, and goes on where it stood."""
    kinds = ("count", "journey")
    for kind in kinds:
        await admin.put(f"{ADMIN}/cancelled-{kind}", json=SPECS[kind])
    await admin.put(f"{ADMIN}/beside", json=SPECS["count"])
    async with aggregator(kafka, postgres, tmp_path / "worker.log"):
        for kind in kinds:
            assert (await admin.post(f"{ADMIN}/cancelled-{kind}/backfill")).status_code == 202
        await eventually(lambda: _all_done(admin, "cancelled", kinds), "all history is counted", seconds=240)
        for kind in kinds:
            answer = await admin.delete(f"{ADMIN}/cancelled-{kind}/backfill")
            assert (answer.status_code, answer.json()["removed"]) == (200, kind in APART)
        assert await shown(admin, "cancelled-count") == await shown(admin, "beside")
        assert (await admin.get(f"{ADMIN}/cancelled-count/backfill")).json()["reason"] == "backfill_unknown"
        assert await _hidden_rows(postgres, "cancelled-") == 0
        for kind in kinds:
            assert (await admin.post(f"{ADMIN}/cancelled-{kind}/backfill")).status_code == 202
        await publish_events(kafka, traffic.take(500))
        await wait_until_folded(postgres, traffic.published)
        await eventually(lambda: _all_done(admin, "cancelled", kinds), "all history is counted again", seconds=240)
        for kind in kinds:

            async def alike(kind: str = kind) -> bool:
                return await shown(admin, f"cancelled-{kind}") == await shown(admin, f"from-start-{kind}")

            await eventually(alike, f"{kind} is alike", seconds=20, every=0.5)


async def test_history_since_a_time_is_what_came_to_kafka_since(
    kafka: str, postgres: str, tmp_path: Path, admin: httpx.AsyncClient, traffic: Traffic
) -> None:
    async with aggregator(kafka, postgres, tmp_path / "worker.log"):
        await wait_until_folded(postgres, traffic.published)
        before = (await shown(admin, "from-start-ratio"))["components"]
        since = to_iso(system_clock())
        await publish_events(kafka, traffic.take(2_000))
        await wait_until_folded(postgres, traffic.published)
        await admin.put(f"{ADMIN}/since", json=SPECS["ratio"])
        answer = await admin.post(f"{ADMIN}/since/backfill", params={"since": since})
        assert answer.status_code == 202, answer.text

        code, said = await _tidegate(admin, "backfill", "since", "--wait")
        assert (code, "since, version 1: done" in said) == (0, True), said
        after = (await shown(admin, "from-start-ratio"))["components"]
        since_then = (await shown(admin, "since"))["components"]
    assert since_then == {
        component: {name: n - before[component][name] for name, n in totals.items()}
        for component, totals in after.items()
    }
    assert since_then["numerator"]["counted"] > 0


async def test_asking_again_changes_nothing_and_what_is_not_there_is_said(admin: httpx.AsyncClient) -> None:
    await admin.put(f"{ADMIN}/twice", json=SPECS["count"])
    for method in ("GET", "DELETE"):
        answer = await admin.request(method, f"{ADMIN}/twice/backfill")
        assert (answer.status_code, answer.json()["reason"]) == (404, "backfill_unknown")
    first = (await admin.post(f"{ADMIN}/twice/backfill")).json()
    assert (first["metric"], first["version"], first["state"]) == ("twice", 1, "running")
    assert first["shards"]
    assert all(set(s) == {"shard", "from", "to", "next_offset"} for s in first["shards"])
    assert (await admin.post(f"{ADMIN}/twice/backfill")).json() == first
    other = await admin.post(f"{ADMIN}/twice/backfill", params={"since": "2026-01-01T00:00:00Z"})
    assert (other.status_code, other.json()["reason"]) == (409, "backfill_exists")
    for method in ("GET", "POST", "DELETE"):
        answer = await admin.request(method, f"{ADMIN}/nowhere/backfill")
        assert (answer.status_code, answer.json()["reason"]) == (404, "metric_unknown")


async def _is_in_the_middle(admin: httpx.AsyncClient) -> bool:
    found = await backfill_of(admin, "with-history-count")
    return any(s["next_offset"] is not None and s["from"] < s["next_offset"] < s["to"] for s in found["shards"])


async def _all_done(admin: httpx.AsyncClient, prefix: str, kinds: Iterable[str] = SPECS) -> bool:
    return all([(await backfill_of(admin, f"{prefix}-{kind}"))["state"] == "done" for kind in kinds])


async def _tidegate(admin: httpx.AsyncClient, *arguments: str) -> tuple[int, str]:
    """The command's exit code, and what it says."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tidegate", *arguments),
        *("--url", str(admin.base_url), "--key", admin.headers["X-API-Key"]),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, said.decode()


async def _hidden_rows(postgres: str, prefix: str) -> int:
    connection = await asyncpg.connect(postgres)
    try:
        return int(
            await connection.fetchval(
                "SELECT count(*) FROM aggregator.window_series "
                "WHERE metric LIKE $1 || '%' AND backfill_id IS NOT NULL",
                prefix,
            )
        )
    finally:
        await connection.close()
