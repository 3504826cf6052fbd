"""The assignment service from outside, on real Kafka and Postgres: S2's endpoints and what they promise."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import httpx
import pytest
import pytest_asyncio

from services.assignment.domain.bucketing import bucket_of
from services.assignment.domain.results import summarise
from services.assignment.results_view import ResultsView
from shared.http import Problem
from shared.kafka import Tail
from shared.messages import Event
from shared.postgres import create_pool
from shared.topics import EVENTS, EXPERIMENTS
from shared.topics import KEYS as KEY_TOPIC
from tests.integration.assignment_service import KEYS, Service, assignment_service
from tests.waiting import eventually

AB = "/api/v1/ab-testing"
S0_STRATA = [
    {"name": "<2 min", "below": 120_000},
    {"name": "2-5 min", "up_to": 300_000},
    {"name": ">5 min", "traffic_split": {"background": 55, "realtime": 45}},
]


@pytest_asyncio.fixture(scope="module")
async def service(kafka: str, postgres: str) -> AsyncIterator[Service]:
    async with assignment_service(kafka, postgres) as running:
        yield running


@pytest_asyncio.fixture(scope="module")
async def twin(kafka: str, postgres: str, service: Service) -> AsyncIterator[Service]:
    """A second process of the same service."""
    async with assignment_service(kafka, postgres) as running:
        yield running


@pytest_asyncio.fixture(scope="module")
async def database(postgres: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(postgres)
    yield connection
    await connection.close()


async def send(client: httpx.AsyncClient, method: str, path: str, body: Any = None, *, status: int = 200) -> Any:
    answer = await client.request(method, path, json=body) if body is not None else await client.request(method, path)
    assert answer.status_code == status, answer.text
    return answer.json()


async def started(service: Service, **fields: Any) -> dict[str, Any]:
    """A running experiment, control `realtime` and treatment `background`, half each."""
    key = f"exp-{uuid.uuid4().hex[:10]}"
    spec = {
        "status": "running",
        "variants": [
            {"variant_name": "background", "variant_type": "treatment", "traffic_percentage": 50},
            {"variant_name": "realtime", "variant_type": "control", "traffic_percentage": 50},
        ],
        **fields,
    }
    applied: dict[str, Any] = await send(service.admin, "PUT", f"/api/v1/admin/experiments/{key}", spec)
    return applied


async def assign(service: Service, experiment: Any, user: object, **more: Any) -> dict[str, Any]:
    body = {"experiment_key": experiment["key"], "user_id": user, **more}
    answer: dict[str, Any] = await send(service.read, "POST", f"{AB}/assign", body)
    return answer


async def variant_of(service: Service, experiment: Any, user: object, **more: Any) -> str | None:
    variant: dict[str, Any] | None = (await assign(service, experiment, user, **more))["variant"]
    return None if variant is None else variant["variant_name"]


async def events_of(kafka: str, experiment: Any) -> list[Event]:
    tail = Tail(kafka, EVENTS.name)
    await tail.start()
    try:
        events = [EVENTS.decode(record.value) for record in await tail.read(100_000)]
        return [e for e in events if e.properties["experiment"] == experiment["key"]]
    finally:
        await tail.stop()


async def known_to(service: Service, experiment: Any, version: int) -> None:
    """Waits until a process decides by that version."""

    async def knows() -> bool:
        body = {"experiment_key": experiment["key"], "user_id": "probe"}
        answer = await service.read.post(f"{AB}/assign", json=body)
        return answer.status_code == 200 and answer.json()["version"] >= version

    await eventually(knows, f"version {version} has arrived")


async def test_the_guides_experiment_runs_from_creation_to_archive(service: Service) -> None:
    created = await send(
        service.admin,
        "POST",
        f"{AB}/experiments",
        {
            "experiment_name": "Model Version Comparison",
            "description": "Testing new ML model against baseline",
            "traffic_split": {"control": 50, "treatment": 50},
        },
        status=201,
    )
    assert (created["status"], created["key"], created["variants"]) == ("draft", "model-version-comparison", [])
    path = f"{AB}/experiments/{created['id']}"

    too_early = await send(service.admin, "POST", f"{path}/start", status=409)
    assert too_early["reason"] == "too_few_variants"

    control = {"variant_name": "Control", "variant_type": "control", "model_id": 123, "model_version": "v1.0"}
    made = await send(service.admin, "POST", f"{path}/variants", {**control, "traffic_percentage": 50.0}, status=201)
    assert made["model_id"] == 123
    treatment = {"variant_name": "Treatment", "variant_type": "TREATMENT", "model_id": 124}
    await send(service.admin, "POST", f"{path}/variants", treatment, status=201)
    names = [v["variant_name"] for v in await send(service.read, "GET", f"{path}/variants")]
    assert names == ["Control", "Treatment"]

    running = await send(service.admin, "POST", f"{path}/start")
    assert running["status"] == "running"
    assignment = await send(service.read, "POST", f"{AB}/assign", {"experiment_id": created["id"], "user_id": 7})
    assert assignment["assigned"] is True
    assert assignment["experiment_id"] == created["id"]
    expected = "Control" if bucket_of("model-version-comparison", "7") < 500_000 else "Treatment"
    assert assignment["variant"]["variant_name"] == expected

    result = {
        "experiment_id": created["id"],
        "variant_id": assignment["variant"]["id"],
        "metric_name": "conversion_rate",
        "metric_value": 0.125,
        "metadata": {"session_duration": 240, "page_views": 5},
    }
    accepted = await send(service.ingest, "POST", f"{AB}/results", result, status=202)
    assert accepted["status"] == "accepted"

    for action, status in (
        ("pause", "paused"),
        ("start", "running"),
        ("complete", "completed"),
        ("archive", "archived"),
    ):
        assert (await send(service.admin, "POST", f"{path}/{action}"))["status"] == status
        if status in ("completed", "archived"):
            refused = await send(service.ingest, "POST", f"{AB}/results", result, status=409)
            assert refused["reason"] == f"experiment_{status}"
    again = await send(service.admin, "POST", f"{path}/start", status=409)
    assert again["reason"] == "not_draft_or_paused"

    results = await send(service.read, "GET", f"{path}/results")
    assert (results["experiment_name"], results["status"]) == ("Model Version Comparison", "archived")
    assert set(results["variants"]) == {"Control", "Treatment"}


async def test_experiments_are_listed_and_found_by_id_and_key(service: Service) -> None:
    experiment = await started(service)
    by_key = await send(service.read, "GET", f"{AB}/experiments/{experiment['key']}")
    by_id = await send(service.read, "GET", f"{AB}/experiments/{experiment['id']}")
    assert by_key == by_id
    assert by_id in await send(service.read, "GET", f"{AB}/experiments?status=RUNNING")
    assert by_id not in await send(service.read, "GET", f"{AB}/experiments?status=draft")


async def test_equal_names_get_numbered_keys_but_a_chosen_key_is_given_once(service: Service) -> None:
    bodies = [
        await send(service.admin, "POST", f"{AB}/experiments", {"experiment_name": "Twice"}, status=201) for _ in "12"
    ]
    assert [b["key"] for b in bodies] == ["twice", "twice-2"]
    assert [b["salt"] for b in bodies] == ["twice", "twice-2"]
    chosen = {"experiment_name": "Other", "key": "twice"}
    assert (await send(service.admin, "POST", f"{AB}/experiments", chosen, status=409))["reason"] == "key_taken"


async def test_a_unit_is_exposed_once_and_its_first_answer_is_written_down(
    service: Service, kafka: str, database: asyncpg.Connection
) -> None:
    experiment = await started(service)
    context = {"networkType": "wifi", "deep": {"er": [1, 2.5, "é"]}}
    first = await assign(service, experiment, 42, session_id="s1", context=context)
    again = await assign(service, experiment, "42")
    assert first == again
    (event,) = await events_of(kafka, experiment)
    assert (event.event_type, event.user_id, event.session_id) == ("experiment_exposure", "42", "s1")
    assert event.context == context
    assert event.properties == {
        "experiment": experiment["key"],
        "experiment_id": experiment["id"],
        "version": experiment["version"],
        "variant": first["variant"]["variant_name"],
        "unit_kind": "user",
        "unit": "42",
    }
    row = await database.fetchrow("SELECT * FROM assignment.assignments WHERE experiment_id = $1", experiment["id"])
    assert (row["unit"], row["variant_id"]) == ("42", first["variant"]["id"])
    assert row["consistency_key"] == f"{experiment['key']}:42"
    assert '"networkType"' in row["context"]


async def test_two_processes_agree_and_expose_a_unit_under_one_id(
    service: Service, twin: Service, kafka: str
) -> None:
    experiment = await started(service)
    await known_to(twin, experiment, experiment["version"])
    users = [f"u{n}" for n in range(100)]
    here = [await variant_of(service, experiment, u) for u in users]
    there = [await variant_of(twin, experiment, u) for u in users]
    assert here == there
    ids = {e.event_id for e in await events_of(kafka, experiment) if e.user_id in users}
    assert len(ids) == 100


async def test_a_new_split_moves_new_units_only(service: Service, twin: Service) -> None:
    experiment = await started(service)
    users = [f"old-{n}" for n in range(300)]
    before = [await variant_of(service, experiment, u) for u in users]
    path = f"{AB}/experiments/{experiment['id']}"
    changed = await send(service.admin, "PATCH", path, {"traffic_split": {"background": 10, "realtime": 90}})
    assert changed["version"] == experiment["version"] + 1
    await known_to(twin, experiment, changed["version"])
    assert [await variant_of(twin, experiment, u) for u in users] == before
    assert [await variant_of(service, experiment, u) for u in users] == before
    reasons = {(await assign(twin, experiment, u))["reason"] for u in users}
    assert reasons == {"split", "sticky"}
    fresh = [await variant_of(twin, experiment, f"new-{n}") for n in range(300)]
    assert 10 <= fresh.count("background") <= 60


async def test_a_unit_keeps_its_variant_when_it_changes_strata(service: Service, twin: Service) -> None:
    experiment = await started(service, stratify_by="estimatedDuration", strata=S0_STRATA)
    await known_to(twin, experiment, experiment["version"])
    users = [u for u in (f"u{n}" for n in range(2_000)) if 500_000 <= bucket_of(experiment["key"], u) < 550_000]
    assert len(users) > 50
    short, long = {"estimatedDuration": 60_000}, {"estimatedDuration": 300_001}
    for user in users[:20]:
        assert await variant_of(service, experiment, user, context=long) == "background"
        assert await variant_of(twin, experiment, user, context=short) == "background"
    for user in users[20:40]:
        assert await variant_of(service, experiment, user, context=short) == "realtime"
        assert await variant_of(twin, experiment, user, context=long) == "realtime"
    for user in users[40:]:
        raced = await asyncio.gather(
            *(variant_of(s, experiment, user, context=c) for s in (service, twin) for c in (short, long))
        )
        assert len(set(raced)) == 1, "processes that race for a unit agree on the winner"


async def test_a_paused_experiment_keeps_its_units_and_takes_no_new_ones(service: Service, twin: Service) -> None:
    experiment = await started(service)
    before = await assign(service, experiment, "old")
    path = f"{AB}/experiments/{experiment['key']}"
    paused = await send(service.admin, "POST", f"{path}/pause")
    await known_to(twin, experiment, paused["version"])
    for process in (service, twin):
        kept = await assign(process, experiment, "old")
        assert (kept["variant"], kept["assigned"]) == (before["variant"], True)
        new = await assign(process, experiment, "new")
        assert (new["variant"]["variant_type"], new["assigned"], new["reason"]) == (
            "control",
            False,
            "experiment_paused",
        )
    await send(service.admin, "POST", f"{path}/start")
    assert (await assign(service, experiment, "new"))["assigned"] is True


async def test_an_ended_or_unstarted_experiment_gives_everybody_the_control(service: Service, kafka: str) -> None:
    experiment = await started(service)
    await send(service.admin, "POST", f"{AB}/experiments/{experiment['id']}/complete")
    answer = await assign(service, experiment, "u")
    assert (answer["variant"]["variant_name"], answer["assigned"]) == ("realtime", False)
    assert answer["reason"] == "experiment_completed"
    assert await events_of(kafka, experiment) == []
    draft = await send(service.admin, "POST", f"{AB}/experiments", {"experiment_name": "Empty"}, status=201)
    answer = await assign(service, draft, "u")
    assert (answer["variant"], answer["assigned"], answer["reason"]) == (None, False, "experiment_draft")


async def test_an_experiment_by_session_needs_a_session(service: Service) -> None:
    experiment = await started(service, unit="session")
    body = {"experiment_id": experiment["id"], "user_id": 1}
    assert (await send(service.read, "POST", f"{AB}/assign", body, status=422))["reason"] == "unit_missing"
    assert (await assign(service, experiment, 1, session_id="s"))["assigned"] is True


async def test_applying_a_spec_twice_changes_nothing(service: Service) -> None:
    spec = {
        "name": "Import processing mode",
        "status": "running",
        "metrics": ["imports_completed"],
        "stratify_by": "estimatedDuration",
        "strata": S0_STRATA,
        "variants": [
            {"name": "background", "traffic_percentage": 50, "config": {"queue": True}},
            {"name": "realtime", "type": "control", "traffic_percentage": 50},
        ],
    }
    path = "/api/v1/admin/experiments/import_processing_mode"
    first, second = await send(service.admin, "PUT", path, spec), await send(service.admin, "PUT", path, spec)
    assert (first["status"], second["status"]) == ("created", "unchanged")
    assert first["version"] == second["version"]
    third = await send(service.admin, "PUT", path, {**spec, "description": "S0"})
    assert (third["status"], third["version"]) == ("changed", first["version"] + 1)
    await send(service.admin, "POST", f"{AB}/experiments/import_processing_mode/complete")
    unchanged = await send(service.admin, "PUT", path, {**spec, "description": "S0"})
    assert (unchanged["status"], unchanged["experiment_status"]) == ("unchanged", "completed")
    refused = await send(service.admin, "PUT", path, {**spec, "metrics": []}, status=409)
    assert refused["reason"] == "experiment_ended"


async def test_a_spec_that_cannot_run_leaves_nothing_behind(service: Service) -> None:
    spec = {"status": "running", "variants": [{"name": "lonely", "type": "control", "traffic_percentage": 100}]}
    path = "/api/v1/admin/experiments/lonely"
    assert (await send(service.admin, "PUT", path, spec, status=409))["reason"] == "too_few_variants"
    await send(service.read, "GET", f"{AB}/experiments/lonely", status=404)


async def test_a_recorded_result_becomes_an_event(service: Service, kafka: str) -> None:
    experiment = await started(service)
    result = {
        "experiment_id": experiment["key"],
        "variant_name": "background",
        "metric_name": "duration",
        "metric_value": -2,
        "event_id": "r-1",
        "user_id": 9,
        "job_id": "j",
    }
    assert (await send(service.ingest, "POST", f"{AB}/results", result, status=202))["event_id"] == "r-1"
    (event,) = await events_of(kafka, experiment)
    assert (event.event_type, event.event_id, event.user_id, event.job_id) == ("experiment_result", "r-1", "9", "j")
    assert event.properties["metric_value"] == -2
    assert (event.properties["metric_name"], event.properties["variant"]) == ("duration", "background")


async def test_results_need_a_known_variant_and_an_experiment_that_has_run(service: Service) -> None:
    experiment = await started(service)
    result = {"experiment_id": experiment["id"], "metric_name": "m", "metric_value": 1}
    unknown = {**result, "variant_id": 999_999}
    assert (await send(service.ingest, "POST", f"{AB}/results", unknown, status=404))["reason"] == "variant_not_found"
    assert (await send(service.ingest, "POST", f"{AB}/results", result, status=422))["reason"] == "variant_missing"
    draft = await send(service.admin, "POST", f"{AB}/experiments", {"experiment_name": "Draft"}, status=201)
    early = {**result, "experiment_id": draft["id"], "variant_id": 1}
    assert (await send(service.ingest, "POST", f"{AB}/results", early, status=409))["reason"] == "experiment_draft"


async def test_totals_are_read_through_the_view_and_added(postgres: str, database: asyncpg.Connection) -> None:
    await database.execute("""
        CREATE SCHEMA stand_in;
        CREATE TABLE stand_in.totals (
            organisation text, experiment text, variant text, metric text, component text, scale smallint,
            observations bigint, sum numeric, min numeric, max numeric, units bigint, unit_sum numeric,
            unit_sum_squares numeric, conflicted bigint, revision bigint, shard int, updated_at timestamptz);
        INSERT INTO stand_in.totals VALUES
            ('o', 'e', 'A', '', 'value', 6, 0, 0, NULL, NULL, 10, 0, 0, 1, 5, 0, '2026-01-01T00:00:00Z'),
            ('o', 'e', 'A', 'm', 'value', 6, 2, 3000000, 1000000, 2000000, 2, 3000000, 5000000000000, 0, 5, 0,
             '2026-01-01T00:00:00Z'),
            ('o', 'e', 'A', 'm', 'value', 6, 1, 1e30, 3000000, 1e30, 1, 1e30, 1e60, 0, 5, 3, '2026-01-02T00:00:00Z'),
            ('o', 'other', 'A', 'm', 'value', 6, 7, 7, 7, 7, 7, 7, 7, 0, 5, 0, '2026-01-02T00:00:00Z'),
            ('other', 'e', 'A', 'm', 'value', 6, 7, 7, 7, 7, 7, 7, 7, 0, 5, 0, '2026-01-02T00:00:00Z');
    """)
    async with await create_pool(postgres, name="test") as pool:
        a = summarise(["A"], await ResultsView(pool, view="stand_in.totals").shards("o", "e"))["A"]
        assert (a["sample_size"], a["conflicted_units"]) == (10, 1)
        m = a["metrics"]["m"]
        assert (m["count"], m["sum"], m["min"], m["max"], m["units"], m["rate"]) == (3, 1e24, 1.0, 1e24, 3, 0.3)
        assert m["as_of"] == "2026-01-02T00:00:00Z"
        with pytest.raises(Problem) as raised:
            await ResultsView(pool, view="nowhere.totals").shards("o", "e")
        assert (raised.value.status, raised.value.headers["Retry-After"] in {"1", "2", "3"}) == (503, True)


async def test_a_version_that_was_not_published_is_published_later(
    service: Service, kafka: str, database: asyncpg.Connection
) -> None:
    experiment = await started(service)
    await database.execute(
        "UPDATE assignment.experiments SET version = version + 1, description = 'by hand' WHERE id = $1",
        experiment["id"],
    )
    await known_to(service, experiment, experiment["version"] + 1)
    tail = Tail(kafka, EXPERIMENTS.name)
    await tail.start()
    records = [EXPERIMENTS.decode(r.value) for r in await tail.read(10_000)]
    await tail.stop()
    versions = [r.version for r in records if r.id == experiment["id"]]
    assert versions == [experiment["version"], experiment["version"] + 1]


async def test_keys_are_shown_once_work_at_once_and_can_be_revoked(service: Service, twin: Service) -> None:
    made = await send(service.admin, "POST", "/api/v1/admin/keys", {"scope": "READ", "label": "app"}, status=201)
    listed = await send(service.admin, "GET", "/api/v1/admin/keys")
    assert made["key"] not in str(listed)
    assert made["prefix"] in {k["prefix"] for k in listed}
    client, elsewhere = service.client(made["key"]), twin.client(made["key"])
    await send(client, "GET", f"{AB}/experiments")

    async def status_elsewhere(status: int) -> bool:
        return (await elsewhere.get(f"{AB}/experiments")).status_code == status

    await eventually(lambda: status_elsewhere(200), "the other process knows the key")
    await send(service.admin, "DELETE", f"/api/v1/admin/keys/{made['prefix']}")
    await send(client, "GET", f"{AB}/experiments", status=401)
    await eventually(lambda: status_elsewhere(401), "the other process knows that the key is revoked")
    await send(service.admin, "DELETE", "/api/v1/admin/keys/nobody", status=404)


async def test_a_keys_rate_limit_is_set_changed_shown_and_published(service: Service, kafka: str) -> None:
    wanted = {"scope": "ingest", "rate_limit": {"events_per_second": 100}}
    made = await send(service.admin, "POST", "/api/v1/admin/keys", wanted, status=201)
    path = f"/api/v1/admin/keys/{made['prefix']}/rate-limit"
    assert made["rate_limit"] == {"events_per_second": 100, "burst": 100}
    changed = await send(service.admin, "PUT", path, {"events_per_second": 0.5, "burst": 20})
    assert changed["rate_limit"] == {"events_per_second": 0.5, "burst": 20}
    listed = await send(service.admin, "GET", "/api/v1/admin/keys")
    assert changed in listed
    assert (await send(service.admin, "DELETE", path))["rate_limit"] is None
    for body in ({}, {"events_per_second": 0}, {"events_per_second": 1e12}, {"events_per_second": 1, "burst": 0}):
        assert (await send(service.admin, "PUT", path, body, status=422))["reason"] == "schema_violation"
    unknown = "/api/v1/admin/keys/nobody/rate-limit"
    assert (await send(service.admin, "PUT", unknown, {"events_per_second": 1}, status=404))["reason"]

    tail = Tail(kafka, KEY_TOPIC.name)
    await tail.start()
    records = [KEY_TOPIC.decode(r.value) for r in await tail.read(10_000)]
    await tail.stop()
    published = [(r.version, r.events_per_second, r.burst) for r in records if r.prefix == made["prefix"]]
    assert published == [(1, 100, None), (2, 0.5, 20), (3, None, None)]


async def test_an_organisation_sees_and_makes_only_its_own(service: Service) -> None:
    experiment = await started(service)
    body = {"scope": "admin", "organisation": "acme"}
    made = await send(service.admin, "POST", "/api/v1/admin/keys", body, status=201)
    acme = service.client(made["key"])
    assert await send(acme, "GET", f"{AB}/experiments") == []
    await send(acme, "GET", f"{AB}/experiments/{experiment['id']}", status=404)
    await send(acme, "POST", f"{AB}/experiments/{experiment['id']}/pause", status=404)
    await send(acme, "POST", f"{AB}/assign", {"experiment_id": experiment["id"], "user_id": 1}, status=404)
    assert {k["organisation"] for k in await send(acme, "GET", "/api/v1/admin/keys")} == {"acme"}
    foreign = {"scope": "admin", "organisation": "default"}
    refused = await send(acme, "POST", "/api/v1/admin/keys", foreign, status=403)
    assert refused["reason"] == "organisation_foreign"
    same_name = await send(acme, "POST", f"{AB}/experiments", {"experiment_name": experiment["key"]}, status=201)
    assert same_name["key"] == experiment["key"]


async def test_each_request_needs_its_scope(service: Service) -> None:
    experiment = await started(service)
    path = f"{AB}/experiments/{experiment['id']}"
    for client, method, target in (
        (service.ingest, "POST", f"{AB}/assign"),
        (service.ingest, "GET", f"{AB}/experiments"),
        (service.read, "POST", f"{AB}/results"),
        (service.read, "POST", f"{AB}/experiments"),
        (service.read, "POST", f"{path}/pause"),
        (service.read, "GET", "/api/v1/admin/keys"),
    ):
        assert (await send(client, method, target, {}, status=403))["reason"] == "scope_insufficient"
        assert (await send(service.nobody, method, target, {}, status=401))["reason"] == "key_missing"
        wrong = service.client(KEYS["read"][:-1] + "x")
        assert (await send(wrong, method, target, {}, status=401))["reason"] == "key_unknown"


async def test_the_documentation_works_without_key_and_without_the_internet(service: Service) -> None:
    page = (await service.nobody.get("/api/docs")).text
    assert "//" not in page.replace("</", "")
    for line in page.splitlines():
        for quoted in line.split('"')[1::2]:
            if quoted.startswith("/api/docs/"):
                assert (await service.nobody.get(quoted)).status_code == 200
    schema = await send(service.nobody, "GET", "/api/v1/openapi/assignment.json")
    assert schema["openapi"].startswith("3.0")
    for path, method in (
        (f"{AB}/experiments", "post"),
        (f"{AB}/experiments", "get"),
        (f"{AB}/experiments/{{id}}", "get"),
        (f"{AB}/experiments/{{id}}", "patch"),
        (f"{AB}/experiments/{{id}}/start", "post"),
        (f"{AB}/experiments/{{id}}/pause", "post"),
        (f"{AB}/experiments/{{id}}/complete", "post"),
        (f"{AB}/experiments/{{id}}/archive", "post"),
        (f"{AB}/experiments/{{id}}/variants", "post"),
        (f"{AB}/experiments/{{id}}/variants", "get"),
        (f"{AB}/assign", "post"),
        (f"{AB}/results", "post"),
        (f"{AB}/experiments/{{id}}/results", "get"),
    ):
        assert method in schema["paths"][path]
