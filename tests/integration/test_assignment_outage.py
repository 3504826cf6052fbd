"""Assignment goes on while Postgres is away, and nothing that it answered is forgotten."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest_asyncio

from services.assignment.domain.bucketing import bucket_of
from tests.integration.assignment_service import Cable, Service, assignment_service, cable
from tests.waiting import eventually

AB = "/api/v1/ab-testing"


@pytest_asyncio.fixture(scope="module")
async def line(postgres: str) -> AsyncIterator[Cable]:
    async with cable(postgres) as plugged:
        yield plugged


@pytest_asyncio.fixture(scope="module")
async def service(kafka: str, line: Cable) -> AsyncIterator[Service]:
    async with assignment_service(kafka, line.url) as running:
        yield running


@pytest_asyncio.fixture(scope="module")
async def database(postgres: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(postgres)
    yield connection
    await connection.close()


async def started(service: Service) -> dict[str, Any]:
    spec = {
        "status": "running",
        "variants": [
            {"name": "control", "type": "control", "traffic_percentage": 50},
            {"name": "treatment", "traffic_percentage": 50},
        ],
    }
    answer = await service.admin.put(f"/api/v1/admin/experiments/e-{uuid.uuid4().hex[:8]}", json=spec)
    assert answer.status_code == 200, answer.text
    applied: dict[str, Any] = answer.json()
    return applied


async def assign(service: Service, experiment: dict[str, Any], user: str) -> dict[str, Any]:
    answer = await service.read.post(f"{AB}/assign", json={"experiment_id": experiment["id"], "user_id": user})
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


async def reachable(service: Service) -> bool:
    return "tidegate_assignment_store_reachable 1.0" in (await service.nobody.get("/metrics")).text


async def test_units_are_assigned_without_postgres_and_written_down_when_it_is_back(
    service: Service, line: Cable, database: asyncpg.Connection
) -> None:
    experiment = await started(service)
    await line.pull()
    answers = {f"u{n}": await assign(service, experiment, f"u{n}") for n in range(50)}
    assert all(a["assigned"] and a["reason"] == "split" for a in answers.values())
    assert await service.is_ready()
    for method, path in (("GET", f"{AB}/experiments"), ("POST", f"{AB}/experiments/{experiment['id']}/pause")):
        refused = await service.admin.request(method, path)
        assert (refused.status_code, refused.headers["Retry-After"] in {"1", "2", "3"}) == (503, True)
    results = await service.read.get(f"{AB}/experiments/{experiment['id']}/results")
    assert (results.status_code, results.json()["reason"]) == (503, "results_unavailable")

    await line.plug()

    async def written() -> bool:
        rows = await database.fetch(
            "SELECT unit, variant_id FROM assignment.assignments WHERE experiment_id = $1", experiment["id"]
        )
        return {r["unit"]: r["variant_id"] for r in rows} == {u: a["variant"]["id"] for u, a in answers.items()}

    await eventually(written, "every answer is written down")


async def test_a_moved_unit_gets_what_it_had_before_the_move_while_nobody_can_look(
    service: Service, line: Cable, kafka: str
) -> None:
    experiment = await started(service)
    moved = [u for u in (f"m{n}" for n in range(200)) if 500_000 <= bucket_of(experiment["key"], u) < 900_000]
    old, new = moved[:20], moved[20:40]
    for user in old:
        assert (await assign(service, experiment, user))["variant"]["variant_name"] == "treatment"
    split = {"traffic_split": {"control": 90, "treatment": 10}}
    assert (await service.admin.patch(f"{AB}/experiments/{experiment['id']}", json=split)).status_code == 200

    async with assignment_service(kafka, line.url) as fresh:
        await line.pull()
        for user in old:
            answer = await assign(fresh, experiment, user)
            assert (answer["variant"]["variant_name"], answer["reason"]) == ("treatment", "store_unreadable")
        await line.plug()
        await eventually(lambda: reachable(fresh), "the store is read again")
        for user in old:
            assert (await assign(fresh, experiment, user))["variant"]["variant_name"] == "treatment"
        for user in new:
            assert (await assign(fresh, experiment, user))["variant"]["variant_name"] == "control"


async def test_a_paused_experiment_without_postgres_counts_nobody(service: Service, line: Cable) -> None:
    experiment = await started(service)
    known = await assign(service, experiment, "known")
    assert (await service.admin.post(f"{AB}/experiments/{experiment['id']}/pause")).status_code == 200
    await line.pull()
    try:
        assert (await assign(service, experiment, "known"))["variant"] == known["variant"]
        unknown = await assign(service, experiment, "unknown")
        assert (unknown["assigned"], unknown["reason"]) == (False, "store_unreadable")
    finally:
        await line.plug()


async def test_a_fresh_process_answers_from_kafka_before_postgres_is_there(
    service: Service, line: Cable, kafka: str
) -> None:
    experiment = await started(service)
    here = await assign(service, experiment, "somebody")
    await line.pull()
    try:
        async with assignment_service(kafka, line.url) as fresh:
            assert (await assign(fresh, experiment, "somebody"))["variant"] == here["variant"]
    finally:
        await line.plug()
