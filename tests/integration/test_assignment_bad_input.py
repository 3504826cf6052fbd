"""Whatever is sent, the answer is a 4xx with a machine-readable reason."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.integration.assignment_service import Service, assignment_service

AB = "/api/v1/ab-testing"
ADMIN = "/api/v1/admin"

VALID = {
    ("POST", f"{AB}/assign"): b'{"experiment_id": 1, "user_id": %s}',
    ("POST", f"{AB}/results"): b'{"experiment_id": 1, "variant_id": 1, "metric_name": "m", "metric_value": %s}',
    ("POST", f"{AB}/experiments"): b'{"experiment_name": "x", "traffic_split": {"a": %s}}',
    ("PATCH", f"{AB}/experiments/1"): b'{"experiment_name": %s}',
    ("POST", f"{AB}/experiments/1/variants"): b'{"variant_name": "x", "traffic_percentage": %s}',
    ("PUT", f"{ADMIN}/experiments/bad-input"): b'{"variants": [{"name": "x", "traffic_percentage": %s}]}',
    ("POST", f"{ADMIN}/keys"): b'{"scope": "read", "label": %s}',
    ("PUT", f"{ADMIN}/flags/bad-input"): b'{"type": "number", "value": %s}',
    ("PUT", f"{ADMIN}/flags/bad-salt"): b'{"type": "boolean", "salt": %s}',
    ("PUT", f"{ADMIN}/flags/bad-object"): b'{"type": "json", "value": {"x": %s}}',
    ("POST", f"{ADMIN}/switches/target/kill"): b'{"variant": "b", "reason": %s}',
    ("POST", f"{ADMIN}/switches/target/restore"): b'{"cause": %s}',
}
VALUES = {
    "NaN": b"NaN",
    "infinity": b"1e400",
    "2^70": b"1180591620717411303424",
    "400 digits": b"9" * 400,
    "NUL": b'"a\\u0000b"',
    "half a pair": b'"\\ud800"',
    "invalid UTF-8": b'"\xff\xfe"',
    "1 MB": b'"' + b"x" * 1_000_000 + b'"',
    "100,000 deep": b"[" * 100_000 + b"]" * 100_000,
    "100,000 deep and open": b'{"a":' * 100_000,
    "list": b"[1]",
    "object": b'{"a": 1}',
    "boolean": b"true",
    "nothing": b"",
    "two documents": b'"x"} {"y": 1',
}
WHOLE = {
    "empty": b"",
    "text": b"hello",
    "number": b"1",
    "list": b"[]",
    "null": b"null",
    "string": b'"x"',
    "unknown field": b'{"nonsense": 1}',
    "bytes": bytes(range(256)),
}
RIGHT = {
    *(("PUT", f"{ADMIN}/flags/bad-object", name) for name in ("list", "object", "boolean")),
    *(
        ("POST", f"{ADMIN}/switches/target/{step}", name)
        for step in ("kill", "restore")
        for name in ("empty", "null")
    ),
}
"""(method, path, name of the body) of what is no mistake there."""
EVERYTHING = [
    (call, body, name)
    for call in VALID
    for name, body in [*((name, VALID[call] % value) for name, value in VALUES.items()), *WHOLE.items()]
    if (*call, name) not in RIGHT
]

OFREP = "/ofrep/v1/evaluate/flags"
CONTEXTS = {
    b'{"context": %s}': {"object", "two documents"},
    b'{"context": {"targetingKey": %s}}': set(),
    b'{"context": {"plan": %s}}': {"list", "object", "boolean"},
    b'{"context": {"targetingKey": "u", "userId": %s}}': {"list", "object", "boolean"},
    b'{"context": {"plan": "x"}, "more": %s}': {"list", "object", "boolean"},
}
"""Bodies of a request to evaluate, and which values are right there, at least for a plain flag."""
EVALUATIONS = [
    (key, template % value, name)
    for key in ("bad-input", "target", "no-such-key")
    for template, right in CONTEXTS.items()
    for name, value in VALUES.items()
    if name not in right
] + [(key, body, name) for key in ("bad-input", "target") for name, body in WHOLE.items() if name != "unknown field"]


@pytest_asyncio.fixture(scope="module")
async def service(kafka: str, postgres: str) -> AsyncIterator[Service]:
    async with assignment_service(kafka, postgres) as running:
        variants = [
            {"name": "a", "type": "control", "traffic_percentage": 50},
            {"name": "b", "traffic_percentage": 50},
        ]
        spec = {"status": "running", "variants": variants}
        assert (await running.admin.put(f"{ADMIN}/experiments/target", json=spec)).json()["id"] == 1
        assert (await running.admin.put(f"{ADMIN}/flags/bad-input", json={"type": "number", "value": 1})).is_success
        yield running


def assert_refused(status: int, body: dict[str, object]) -> None:
    assert 400 <= status < 500, body
    assert body["status"] == status
    assert isinstance(body["reason"], str)
    assert isinstance(body["detail"], str)


@pytest.mark.parametrize(
    ("call", "body"), [case[:2] for case in EVERYTHING], ids=[f"{c[1]} {n}" for c, _, n in EVERYTHING]
)
async def test_a_body_that_cannot_be_right_is_refused(service: Service, call: tuple[str, str], body: bytes) -> None:
    answer = await service.admin.request(*call, content=body)
    assert_refused(answer.status_code, answer.json())


@pytest.mark.parametrize(("key", "body"), [e[:2] for e in EVALUATIONS], ids=[f"{k} {n}" for k, _, n in EVALUATIONS])
async def test_an_evaluation_that_cannot_be_right_is_refused(service: Service, key: str, body: bytes) -> None:
    answer = await service.read.post(f"{OFREP}/{key}", content=body)
    assert answer.status_code in (400, 404), answer.text
    assert answer.json()["key"] == key
    assert answer.json()["errorCode"] in ("PARSE_ERROR", "INVALID_CONTEXT", "TARGETING_KEY_MISSING", "FLAG_NOT_FOUND")
    assert 0 < len(answer.json()["errorDetails"]) < 300


async def test_a_wrong_key_neither_evaluates_nor_switches(service: Service) -> None:
    stranger = service.client("tg_0123456789_" + "0" * 48)
    for method, path in (
        ("POST", f"{OFREP}/bad-input"),
        ("PUT", f"{ADMIN}/flags/bad-input"),
        ("GET", f"{ADMIN}/flags"),
        ("GET", f"{ADMIN}/switches"),
        ("POST", f"{ADMIN}/switches/target/kill"),
        ("POST", f"{ADMIN}/switches/target/restore"),
    ):
        answer = await stranger.request(method, path, content=b"{}")
        assert (answer.status_code, answer.json()["reason"]) == (401, "key_unknown")


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"experiment_id": 1}, "unit_missing"),
        ({"user_id": 1}, "experiment_missing"),
        ({"experiment_id": 1, "experiment_key": "target", "user_id": 1}, "experiment_missing"),
        ({"experiment_id": 1, "user_id": ""}, "bad_id"),
        ({"experiment_id": 1, "user_id": "x" * 201}, "bad_id"),
        ({"experiment_id": 2**63, "user_id": 1}, "experiment_not_found"),
        ({"experiment_id": "9" * 30, "user_id": 1}, "experiment_not_found"),
        ({"experiment_key": "", "user_id": 1}, "experiment_not_found"),
        ({"experiment_id": -1, "user_id": 1}, "experiment_not_found"),
        ({"experiment_id": 1, "user_id": 1, "userId": 1}, "schema_violation"),
        ({"experiment_id": 1, "user_id": 1.5}, "schema_violation"),
        ({"experiment_id": 1, "user_id": True}, "schema_violation"),
        ({"experiment_id": 1, "user_id": 1, "context": [1]}, "schema_violation"),
        ({"experiment_id": 1, "user_id": 1, "context": {"x": "y" * 70_000}}, "body_too_large"),
    ],
)
async def test_a_request_to_assign_says_what_is_wrong(service: Service, body: object, reason: str) -> None:
    answer = await service.read.post(f"{AB}/assign", json=body)
    assert answer.json()["reason"] == reason
    assert_refused(answer.status_code, answer.json())


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", f"{AB}/experiments/999999"),
        ("GET", f"{AB}/experiments/{2**63}"),
        ("GET", f"{AB}/experiments/{10**40}"),
        ("GET", f"{AB}/experiments/-1"),
        ("GET", f"{AB}/experiments/a%00b"),
        ("GET", f"{AB}/experiments/%00"),
        ("GET", f"{AB}/experiments/%ed%a0%80"),
        ("GET", f"{AB}/experiments/{'x' * 5000}"),
        ("GET", f"{AB}/experiments/%D9%A1"),
        ("GET", f"{AB}/experiments/999999/variants"),
        ("GET", f"{AB}/experiments/{2**63}/results"),
        ("GET", f"{AB}/experiments/%00/results"),
        ("POST", f"{AB}/experiments/{2**64}/start"),
        ("POST", f"{AB}/experiments/nobody/archive"),
        ("GET", f"{AB}/experiments?limit=0"),
        ("GET", f"{AB}/experiments?limit={10**30}"),
        ("GET", f"{AB}/experiments?offset=-1"),
        ("GET", f"{AB}/experiments?status=%00"),
        ("GET", f"{AB}/experiments?status=unheard"),
        ("GET", f"{AB}/assign"),
        ("DELETE", f"{AB}/assign"),
        ("DELETE", f"{AB}/experiments/1"),
        ("GET", f"{AB}/nothing"),
        ("GET", f"{ADMIN}/flags/%00"),
        ("GET", f"{ADMIN}/flags/%ed%a0%80"),
        ("GET", f"{ADMIN}/flags/{'x' * 5000}"),
        ("DELETE", f"{ADMIN}/flags/bad-input"),
        ("GET", f"{ADMIN}/switches/%00"),
        ("GET", f"{ADMIN}/switches/{'x' * 5000}"),
        ("GET", f"{ADMIN}/switches/nobody/kill"),
        ("POST", f"{ADMIN}/switches/%ed%a0%80/kill"),
        ("POST", f"{ADMIN}/switches/nobody/kill"),
        ("POST", f"{ADMIN}/switches/nobody/explode"),
        ("GET", f"{OFREP}/bad-input"),
        ("POST", OFREP),
        ("DELETE", f"{ADMIN}/keys/%00"),
        ("DELETE", f"{ADMIN}/keys/{'x' * 5000}"),
        ("GET", "/api/docs/files/../../../etc/passwd"),
        ("GET", "/api/docs/files/%2e%2e/%2e%2e/etc/passwd"),
        ("GET", "/api/docs/files/%00"),
    ],
)
async def test_a_url_that_names_nothing_is_refused(service: Service, method: str, path: str) -> None:
    answer = await service.admin.request(method, path)
    assert_refused(answer.status_code, answer.json())


@pytest.mark.parametrize("key", ["1", "", "a/b", "ü", "x" * 101, "a%00", "-a", ".."])
async def test_a_key_that_could_be_mistaken_is_refused(service: Service, key: str) -> None:
    spec = {"variants": [{"name": "x", "traffic_percentage": 1}]}
    for path, body in (("experiments", spec), ("flags", {"type": "boolean"})):
        if key or path == "experiments":
            answer = await service.admin.put(f"{ADMIN}/{path}/{key}", json=body)
            assert_refused(answer.status_code, answer.json())


@pytest.mark.parametrize("key", ["%00", "%ed%a0%80", "x" * 5000, "a%2Fb", "%D9%A1", "..", "%22"])
async def test_an_unheard_flag_is_not_found_however_it_is_spelt(service: Service, key: str) -> None:
    answer = await service.read.post(f"{OFREP}/{key}", json={})
    assert (answer.status_code, answer.json().get("errorCode", "FLAG_NOT_FOUND")) == (404, "FLAG_NOT_FOUND")


@pytest.mark.parametrize(
    ("spec", "place"),
    [
        ([], "spec"),
        (None, "spec"),
        ({}, "spec.type"),
        ({"type": "Boolean"}, "spec.type"),
        ({"type": ["boolean"]}, "spec.type"),
        ({"type": "string"}, "spec.value"),
        ({"type": "string", "value": 1}, "spec.value"),
        ({"type": "json", "value": "x"}, "spec.value"),
        ({"type": "boolean", "value": 1}, "spec.value"),
        ({"type": "boolean", "off_value": None}, "spec.off_value"),
        ({"type": "number", "value": 1, "off_value": True}, "spec.off_value"),
        ({"type": "boolean", "enabled": 1}, "spec.enabled"),
        ({"type": "boolean", "salt": ""}, "spec.salt"),
        ({"type": "boolean", "description": 1}, "spec.description"),
        ({"type": "boolean", "values": True}, "spec"),
        ({"type": "string", "value": "x" * 70_000}, "spec"),
    ],
)
async def test_a_flag_that_makes_no_sense_is_refused_by_the_name_of_its_fault(
    service: Service, spec: object, place: str
) -> None:
    answer = await service.admin.put(f"{ADMIN}/flags/senseless", content=json.dumps(spec))
    assert_refused(answer.status_code, answer.json())
    assert (answer.status_code, answer.json()["reason"]) == (422, "definition_invalid")
    assert answer.json()["place"] == place
    assert (await service.admin.get(f"{ADMIN}/flags/senseless")).status_code == 404


@pytest.mark.parametrize(
    "spec",
    [
        {"variants": [{"name": "x"}]},
        {"variants": [{"name": "x", "traffic_percentage": 50}, {"name": "X", "traffic_percentage": 50}]},
        {"variants": [{"name": "x", "traffic_percentage": 33.33333}]},
        {"variants": [{"name": "x", "traffic_percentage": -1}]},
        {"variants": [{"name": "x", "traffic_percentage": 101}]},
        {"variants": [{"name": "x", "traffic_percentage": "50"}]},
        {"variants": [{"name": "x", "traffic_percentage": 50, "config": {"x": "y" * 20_000}}]},
        {"variants": [{"name": "x", "traffic_percentage": 50, "model_id": 2**63}]},
        {"variants": [], "strata": [{"name": "x"}]},
        {"variants": [], "stratify_by": "d", "strata": [{"name": "x", "below": "1"}, {"name": "y"}]},
        {"variants": [], "status": "completed"},
        {"variants": [], "unit": "planet"},
        {"variants": [], "metrics": ["x"] * 51},
    ],
)
async def test_a_spec_that_makes_no_sense_is_refused(service: Service, spec: object) -> None:
    answer = await service.admin.put(f"{ADMIN}/experiments/senseless", json=spec)
    assert answer.status_code == 422
    assert_refused(answer.status_code, answer.json())
