"""Plain flags and their evaluation over OFREP, on real Kafka and Postgres."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import httpx
import pytest
import pytest_asyncio

from services.assignment.domain.bucketing import bucket_of
from shared.kafka import Tail
from shared.messages import Event
from shared.topics import EVENTS
from tests.integration.assignment_service import Service, assignment_service
from tests.waiting import eventually

ADMIN = "/api/v1/admin"
OFREP = "/ofrep/v1/evaluate/flags"


@pytest_asyncio.fixture(scope="module")
async def service(kafka: str, postgres: str) -> AsyncIterator[Service]:
    async with assignment_service(kafka, postgres) as running:
        yield running


def new_key() -> str:
    return f"k-{uuid.uuid4().hex[:10]}"


async def flag(service: Service, key: str | None = None, **spec: Any) -> str:
    key = key or new_key()
    answer = await service.admin.put(f"{ADMIN}/flags/{key}", json={"type": "boolean", **spec})
    assert answer.is_success, answer.text
    return key


async def experiment(service: Service, **fields: Any) -> str:
    key = new_key()
    variants = [
        {"name": "control", "type": "control", "traffic_percentage": 50},
        {"name": "treatment", "traffic_percentage": 50, "config": {"value": {"colour": "green"}}},
    ]
    spec = {"status": "running", "variants": variants, **fields}
    answer = await service.admin.put(f"{ADMIN}/experiments/{key}", json=spec)
    assert answer.is_success, answer.text
    return key


async def evaluate(service: Service, key: str, context: Any = None, *, status: int = 200) -> dict[str, Any]:
    answer = await service.read.post(f"{OFREP}/{key}", json={} if context is None else {"context": context})
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    body: dict[str, Any] = answer.json()
    return body


async def exposures(kafka: str, key: str) -> list[Event]:
    tail = Tail(kafka, EVENTS.name)
    await tail.start()
    try:
        events = [EVENTS.decode(r.value) for r in await tail.read(10_000)]
    finally:
        await tail.stop()
    return [e for e in events if e.properties.get("experiment") == key]


@pytest.mark.parametrize(
    ("spec", "value"),
    [
        ({"type": "boolean"}, True),
        ({"type": "boolean", "value": False}, False),
        ({"type": "string", "value": "blue"}, "blue"),
        ({"type": "string", "value": ""}, ""),
        ({"type": "number", "value": 3}, 3),
        ({"type": "number", "value": 3.0}, 3.0),
        ({"type": "number", "value": -1e300}, -1e300),
        ({"type": "number", "value": 2**64 - 1}, 2**64 - 1),
        ({"type": "json", "value": {"z": 1, "a": [1.5, None, "ü"]}}, {"z": 1, "a": [1.5, None, "ü"]}),
        ({"type": "json", "value": []}, []),
    ],
)
async def test_a_flag_is_answered_as_it_was_written(service: Service, spec: dict[str, Any], value: object) -> None:
    key = await flag(service, **spec)
    answer = await evaluate(service, key)
    assert answer == {
        "key": key,
        "value": value,
        "reason": "STATIC",
        "variant": "on",
        "metadata": {"version": 1},
    }
    assert type(answer["value"]) is type(value)
    if isinstance(value, dict):
        assert json.dumps(answer["value"]) == json.dumps(value)


@pytest.mark.parametrize(
    ("spec", "off"),
    [
        ({"type": "boolean"}, {"value": False}),
        ({"type": "boolean", "off_value": True}, {"value": True}),
        ({"type": "string", "value": "a"}, {}),
        ({"type": "string", "value": "a", "off_value": "b"}, {"value": "b"}),
        ({"type": "number", "value": 1, "off_value": 0}, {"value": 0}),
        ({"type": "json", "value": {}, "off_value": [1]}, {"value": [1]}),
    ],
)
async def test_a_flag_that_its_definition_disables_answers_its_off_value(
    service: Service, spec: dict[str, Any], off: dict[str, Any]
) -> None:
    key = await flag(service, **spec, enabled=False)
    metadata = {"version": 1, "cause": "definition"}
    assert await evaluate(service, key) == {
        "key": key,
        "reason": "DISABLED",
        "variant": "off",
        "metadata": metadata,
        **off,
    }


async def test_a_flag_has_versions_and_is_shown_as_it_was_given(service: Service) -> None:
    key, path = new_key(), f"{ADMIN}/flags/"
    spec: dict[str, Any] = {"type": "number", "value": 1}
    for changed, expected in (
        ({}, (201, 1, "created")),
        ({}, (200, 1, "unchanged")),
        ({"enabled": True}, (200, 1, "unchanged")),
        ({"value": 1.0}, (200, 2, "changed")),
        ({"off_value": 0}, (200, 3, "changed")),
    ):
        spec |= changed
        answer = await service.admin.put(path + key, json=spec)
        body = answer.json()
        assert (answer.status_code, body["version"], body["status"]) == expected
        assert (await evaluate(service, key))["metadata"]["version"] == body["version"]
    shown = (await service.admin.get(path + key)).json()
    assert shown == {"key": key, "version": 3, "spec": spec}
    listed = (await service.admin.get(path.rstrip("/"))).json()
    assert shown in listed
    assert [f["key"] for f in listed] == sorted(f["key"] for f in listed)
    missing = await service.admin.get(f"{path}no-such-flag")
    assert (missing.status_code, missing.json()["reason"]) == (404, "flag_not_found")


async def test_flags_and_experiments_share_one_namespace(service: Service) -> None:
    key, taken = await flag(service), await experiment(service)
    refused = await service.admin.put(f"{ADMIN}/flags/{taken}", json={"type": "boolean"})
    assert (refused.status_code, refused.json()["reason"]) == (409, "key_taken")
    spec = {"variants": [{"name": "a", "traffic_percentage": 1}]}
    refused = await service.admin.put(f"{ADMIN}/experiments/{key}", json=spec)
    assert (refused.status_code, refused.json()["reason"]) == (409, "key_taken")
    renamed = await service.admin.post("/api/v1/ab-testing/experiments", json={"experiment_name": key})
    assert (renamed.status_code, renamed.json()["key"]) == (201, f"{key}-2")


async def test_a_flag_survives_a_new_process_and_reaches_the_others(
    service: Service, kafka: str, postgres: str
) -> None:
    key = await flag(service, type="string", value="one")
    async with assignment_service(kafka, postgres) as other:
        assert (await evaluate(other, key))["value"] == "one"
        await flag(service, key, type="string", value="two")

        async def follows() -> bool:
            return bool((await evaluate(other, key))["value"] == "two")

        await eventually(follows, "the other process knows the new value")


@pytest.mark.parametrize(
    ("key", "body", "status", "code"),
    [
        ("{flag}", b"{", 400, "PARSE_ERROR"),
        ("{flag}", b"", 400, "PARSE_ERROR"),
        ("{flag}", b'{"context": NaN}', 400, "PARSE_ERROR"),
        ("{flag}", b"[]", 400, "INVALID_CONTEXT"),
        ("{flag}", b'{"context": []}', 400, "INVALID_CONTEXT"),
        ("{flag}", b'{"context": {"targetingKey": {}}}', 400, "INVALID_CONTEXT"),
        ("{flag}", b'{"context": {"targetingKey": true}}', 400, "INVALID_CONTEXT"),
        ("{flag}", b'{"context": {"targetingKey": 1.5}}', 400, "INVALID_CONTEXT"),
        ("{experiment}", b'{"context": {"targetingKey": "u", "user_id": []}}', 400, "INVALID_CONTEXT"),
        ("{experiment}", b'{"context": {"targetingKey": "' + b"x" * 201 + b'"}}', 400, "INVALID_CONTEXT"),
        ("{experiment}", b"{}", 400, "TARGETING_KEY_MISSING"),
        ("{experiment}", b'{"context": {"targetingKey": ""}}', 400, "TARGETING_KEY_MISSING"),
        ("{experiment}", b'{"context": {"session_id": "s"}}', 400, "TARGETING_KEY_MISSING"),
        ("no-such-flag", b"{}", 404, "FLAG_NOT_FOUND"),
        ("1", b"{}", 404, "FLAG_NOT_FOUND"),
        ("a/b c", b"{}", 404, "FLAG_NOT_FOUND"),
    ],
)
async def test_an_ofrep_error_has_the_form_that_clients_read(
    service: Service, key: str, body: bytes, status: int, code: str
) -> None:
    name = key.format(flag=await flag(service), experiment=await experiment(service))
    answer = await service.read.post(f"{OFREP}/{name}", content=body)
    assert answer.status_code == status, answer.text
    assert (answer.json()["key"], answer.json()["errorCode"]) == (name, code)
    assert answer.json()["errorDetails"]


async def test_a_flag_asks_for_no_unit(service: Service) -> None:
    key = await flag(service)
    for body in (b"{}", b'{"context": null}', b'{"context": {"plan": "pro"}}', b'{"context": {"targetingKey": 7}}'):
        assert (await service.read.post(f"{OFREP}/{key}", content=body)).json()["value"] is True


async def test_an_experiments_unit_gets_over_ofrep_what_assign_gives_it(service: Service, kafka: str) -> None:
    key = await experiment(service)
    for unit in (f"u{n}" for n in range(20)):
        treated = bucket_of(key, unit) >= 500_000
        answer = await evaluate(service, key, {"targetingKey": unit, "plan": "pro"})
        assert answer["value"] == ({"colour": "green"} if treated else "control")
        assert (answer["variant"], answer["reason"]) == ("treatment" if treated else "control", "SPLIT")
        assert answer["metadata"]["assignment_reason"] == "split"
        body = {"experiment_key": key, "user_id": unit}
        assigned = (await service.read.post("/api/v1/ab-testing/assign", json=body)).json()
        assert assigned["variant"]["variant_name"] == answer["variant"]

    async def exposed() -> bool:
        found = await exposures(kafka, key)
        assert len(found) <= 20
        return {e.user_id for e in found} == {f"u{n}" for n in range(20)} and found[0].context["plan"] == "pro"

    await eventually(exposed, "each unit is exposed once")


@pytest.mark.parametrize("kind", ["user", "session", "job"])
async def test_the_targeting_key_is_a_unit_of_the_experiments_kind(service: Service, kafka: str, kind: str) -> None:
    key = await experiment(service, unit=kind)
    await evaluate(service, key, {"targetingKey": "target", "anonymousId": "a"})
    await evaluate(service, key, {"targetingKey": "target", f"{kind}Id": 7})
    await evaluate(service, key, {f"{kind}_id": "named", f"{kind}Id": "other"})

    async def exposed() -> bool:
        found = await exposures(kafka, key)
        units = {(getattr(e, f"{kind}_id"), e.anonymous_id) for e in found}
        return units == {("target", "a"), ("7", None), ("named", None)}

    await eventually(exposed, "the exposures carry the ids")


async def test_an_experiment_that_does_not_run_gives_the_control_and_counts_nobody(service: Service) -> None:
    key = await experiment(service)
    assert (await service.admin.post(f"/api/v1/ab-testing/experiments/{key}/complete")).is_success
    answer = await evaluate(service, key, {"targetingKey": "u"})
    assert (answer["value"], answer["variant"], answer["reason"]) == ("control", "control", "DISABLED")
    assert (answer["metadata"]["assigned"], answer["metadata"]["assignment_reason"]) == (
        False,
        "experiment_completed",
    )


async def test_a_draft_without_control_leaves_the_callers_default(service: Service) -> None:
    key = new_key()
    spec = {"variants": [{"name": "a", "traffic_percentage": 1}]}
    assert (await service.admin.put(f"{ADMIN}/experiments/{key}", json=spec)).is_success
    answer = await evaluate(service, key, {"targetingKey": "u"})
    assert ("value" in answer, answer["variant"], answer["reason"]) == (False, "off", "DISABLED")


async def test_evaluation_needs_a_key_and_defining_an_admins(service: Service) -> None:
    key = await flag(service)
    assert (await service.nobody.post(f"{OFREP}/{key}", json={})).status_code == 401
    assert (await service.ingest.post(f"{OFREP}/{key}", json={})).status_code == 403
    for method, path in (
        ("PUT", f"flags/{key}"),
        ("GET", "flags"),
        ("GET", "switches"),
        ("POST", f"switches/{key}/kill"),
        ("POST", f"switches/{key}/restore"),
    ):
        assert (await service.read.request(method, f"{ADMIN}/{path}", json={})).status_code == 403


async def test_the_schema_describes_flags_switches_and_evaluation(service: Service) -> None:
    schema = (await service.nobody.get("/api/v1/openapi/assignment.json")).json()
    paths = {
        f"{ADMIN}/flags": {"get"},
        f"{ADMIN}/flags/{{key}}": {"get", "put"},
        f"{ADMIN}/switches": {"get"},
        f"{ADMIN}/switches/{{key}}": {"get"},
        f"{ADMIN}/switches/{{key}}/kill": {"post"},
        f"{ADMIN}/switches/{{key}}/restore": {"post"},
        f"{OFREP}/{{key}}": {"post"},
    }
    assert {path: set(schema["paths"][path]) for path in paths} == paths
    spec = schema["paths"][f"{ADMIN}/flags/{{key}}"]["put"]["requestBody"]["content"]["application/json"]["schema"]
    assert set(spec["properties"]) == {"type", "value", "off_value", "enabled", "salt", "description"}
    request = schema["paths"][f"{OFREP}/{{key}}"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert "targetingKey" in request["properties"]["context"]["properties"]


async def test_evaluations_are_counted_by_reason(service: Service) -> None:
    key = await flag(service)

    async def count(reason: str) -> float:
        text = (await service.nobody.get("/metrics")).text
        name = f'tidegate_assignment_evaluations_total{{reason="{reason}"}} '
        return float(next(line for line in text.splitlines() if line.startswith(name)).rpartition(" ")[2])

    static, unknown = await count("STATIC"), await count("FLAG_NOT_FOUND")
    await evaluate(service, key)
    await evaluate(service, "no-such-flag", status=404)
    assert (await count("STATIC"), await count("FLAG_NOT_FOUND")) == (static + 1, unknown + 1)


async def test_only_post_evaluates(service: Service) -> None:
    answer: httpx.Response = await service.read.get(f"{OFREP}/x")
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


async def put_at_once(service: Service, key: str, *specs: dict[str, Any]) -> list[tuple[int, int, str]]:
    """(status code, version, status) of each answer, sorted."""
    answers = await asyncio.gather(*(service.admin.put(f"{ADMIN}/flags/{key}", json=spec) for spec in specs))
    return sorted((a.status_code, a.json()["version"], a.json()["status"]) for a in answers)


async def test_a_flag_that_is_put_several_times_at_once_is_created_once(service: Service) -> None:
    for _ in range(10):
        answers = await put_at_once(service, new_key(), *[{"type": "boolean"}] * 4)
        assert answers == [(200, 1, "unchanged")] * 3 + [(201, 1, "created")]


async def test_different_flags_put_at_once_under_one_key_are_versions_of_one(service: Service) -> None:
    for _ in range(10):
        key = new_key()
        answers = await put_at_once(service, key, *({"type": "number", "value": n} for n in range(4)))
        assert answers == [(200, 2, "changed"), (200, 3, "changed"), (200, 4, "changed"), (201, 1, "created")]
        stored = (await service.admin.get(f"{ADMIN}/flags/{key}")).json()
        assert stored["version"] == 4
        assert (await evaluate(service, key))["value"] == stored["spec"]["value"]


async def test_of_a_flag_and_an_experiment_put_at_once_under_one_key_one_is_there(service: Service) -> None:
    variants = [{"name": "control", "type": "control", "traffic_percentage": 100}]
    for _ in range(10):
        key = new_key()
        answers = await asyncio.gather(
            service.admin.put(f"{ADMIN}/experiments/{key}", json={"variants": variants}),
            service.admin.put(f"{ADMIN}/flags/{key}", json={"type": "boolean"}),
        )
        refused = [a.json().get("reason") for a in answers if not a.is_success]
        assert refused == ["key_taken"]


@pytest.mark.parametrize("present", ["UPDATE assignment.flags SET version = 1", "DELETE FROM assignment.flags"])
async def test_a_flag_put_after_postgres_went_back_in_time_takes_effect(
    service: Service, postgres: str, present: str
) -> None:
    key = await flag(service)
    for value in (False, True, False):
        await flag(service, key, value=value)
    connection = await asyncpg.connect(postgres)
    try:
        await connection.execute(f"{present} WHERE key = $1", key)
    finally:
        await connection.close()
    await flag(service, key, value=True)
    answer = await evaluate(service, key)
    assert (answer["value"], answer["metadata"]["version"]) == (True, 5)
    repeated = await service.admin.put(f"{ADMIN}/flags/{key}", json={"type": "boolean", "value": True})
    assert repeated.json() == {"key": key, "version": 5, "status": "unchanged"}
