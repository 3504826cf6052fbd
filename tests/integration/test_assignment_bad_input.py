"""Whatever is sent, the answer is a 4xx with a machine-readable reason."""

from __future__ import annotations

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
EVERYTHING = [(call, VALID[call] % value, name) for call in VALID for name, value in VALUES.items()] + [
    (call, body, name) for call in VALID for name, body in WHOLE.items()
]


@pytest_asyncio.fixture(scope="module")
async def service(kafka: str, postgres: str) -> AsyncIterator[Service]:
    async with assignment_service(kafka, postgres) as running:
        variants = [
            {"name": "a", "type": "control", "traffic_percentage": 50},
            {"name": "b", "traffic_percentage": 50},
        ]
        spec = {"status": "running", "variants": variants}
        assert (await running.admin.put(f"{ADMIN}/experiments/target", json=spec)).json()["id"] == 1
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
    answer = await service.admin.put(f"{ADMIN}/experiments/{key}", json=spec)
    assert_refused(answer.status_code, answer.json())


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
