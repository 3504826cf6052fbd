"""The Python OpenFeature SDK with its OFREP provider, both unmodified, against a process of the service."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, TypeVar

import httpx
import pytest
import pytest_asyncio
from openfeature import api
from openfeature.client import OpenFeatureClient
from openfeature.contrib.provider.ofrep import OFREPProvider
from openfeature.evaluation_context import EvaluationContext
from openfeature.exception import ErrorCode
from openfeature.flag_evaluation import FlagEvaluationDetails, Reason

from services.assignment.domain.bucketing import bucket_of
from tests.integration.assignment_service import KEYS, assignment_program
from tests.waiting import eventually

ADMIN = "/api/v1/admin"
T = TypeVar("T")
FLAGS: dict[str, dict[str, Any]] = {
    "imports": {"type": "boolean", "off_value": False},
    "colour": {"type": "string", "value": "green", "off_value": "grey"},
    "limit": {"type": "number", "value": 100, "off_value": 10},
    "ratio": {"type": "number", "value": 0.5, "off_value": 0.25},
    "layout": {"type": "json", "value": {"columns": [1, 2]}, "off_value": {"columns": []}},
    "without-off": {"type": "string", "value": "on"},
}


@pytest_asyncio.fixture(scope="module")
async def admin(
    kafka: str, postgres: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[httpx.AsyncClient]:
    async with assignment_program(kafka, postgres, tmp_path_factory.mktemp("assignment") / "log") as program:
        headers = {"Authorization": f"Bearer {KEYS['admin']}"}
        async with httpx.AsyncClient(base_url=program.url, headers=headers, timeout=30) as client:
            for key, spec in FLAGS.items():
                assert (await client.put(f"{ADMIN}/flags/{key}", json=spec)).status_code == 201
            yield client


@pytest.fixture(scope="module")
def openfeature(admin: httpx.AsyncClient) -> Iterator[OpenFeatureClient]:
    provider = OFREPProvider(
        str(admin.base_url).rstrip("/"), headers_factory=lambda: {"Authorization": f"Bearer {KEYS['read']}"}
    )
    api.set_provider(provider)
    yield api.get_client()
    api.clear_providers()
    provider.session.close()


async def ask(
    get: Callable[[str, T, EvaluationContext | None], FlagEvaluationDetails[T]],
    key: str,
    default: T,
    context: EvaluationContext | None = None,
) -> FlagEvaluationDetails[T]:
    """The SDK blocks: it gets a thread, as in any other program."""
    return await asyncio.to_thread(get, key, default, context)


async def switch(admin: httpx.AsyncClient, key: str, step: str) -> str | None:
    """The time since when it is off."""
    answer = await admin.post(f"{ADMIN}/switches/{key}/{step}", json={})
    assert answer.status_code == 200, answer.text
    off = answer.json()["off"]
    return str(off[0]["off_since"]) if off else None


async def test_the_sdk_sees_a_flag_go_off_and_on(admin: httpx.AsyncClient, openfeature: OpenFeatureClient) -> None:
    for context in (None, EvaluationContext("user-1", {"plan": "pro", "nested": {"a": [1, 2.5]}})):
        details = await ask(openfeature.get_boolean_details, "imports", False, context)
        assert (details.value, details.reason, details.variant) == (True, Reason.STATIC, "on")
        assert (details.error_code, details.flag_metadata) == (None, {"version": 1})
        since = await switch(admin, "imports", "kill")
        details = await ask(openfeature.get_boolean_details, "imports", True, context)
        assert (details.value, details.reason, details.variant) == (False, Reason.DISABLED, "off")
        assert details.flag_metadata == {"version": 1, "cause": "manual", "off_since": since}
        await switch(admin, "imports", "restore")
        assert (await ask(openfeature.get_boolean_details, "imports", False, context)).value is True


async def test_all_types_go_off_and_on(admin: httpx.AsyncClient, openfeature: OpenFeatureClient) -> None:
    asked: list[tuple[str, Any, Any]] = [
        ("colour", openfeature.get_string_details, "default"),
        ("limit", openfeature.get_integer_details, -1),
        ("ratio", openfeature.get_float_details, -1.0),
        ("layout", openfeature.get_object_details, {}),
    ]
    for key, get, default in asked:
        for step, place, reason in (("restore", "value", Reason.STATIC), ("kill", "off_value", Reason.DISABLED)):
            await switch(admin, key, step)
            details = await ask(get, key, default)
            assert (details.value, details.reason, details.error_code) == (FLAGS[key][place], reason, None)
            assert type(details.value) is type(FLAGS[key][place])
        await switch(admin, key, "restore")


async def test_a_flag_without_off_value_leaves_the_programs_default(
    admin: httpx.AsyncClient, openfeature: OpenFeatureClient
) -> None:
    assert (await ask(openfeature.get_string_details, "without-off", "mine")).value == "on"
    await switch(admin, "without-off", "kill")
    details = await ask(openfeature.get_string_details, "without-off", "mine")
    assert (details.value, details.reason, details.error_code) == ("mine", Reason.DISABLED, None)


async def test_the_sdk_understands_every_error(admin: httpx.AsyncClient, openfeature: OpenFeatureClient) -> None:
    variants = [
        {"name": "a", "type": "control", "traffic_percentage": 50},
        {"name": "b", "traffic_percentage": 50, "config": {"value": 7}},
    ]
    spec = {"status": "running", "variants": variants}
    assert (await admin.put(f"{ADMIN}/experiments/sdk-test", json=spec)).is_success
    treated = next(f"u{n}" for n in range(100) if bucket_of("sdk-test", f"u{n}") >= 500_000)

    missing = await ask(openfeature.get_integer_details, "sdk-test", 0)
    assert (missing.value, missing.error_code) == (0, ErrorCode.TARGETING_KEY_MISSING)
    found = await ask(openfeature.get_integer_details, "sdk-test", 0, EvaluationContext(treated))
    assert (found.value, found.variant, found.reason) == (7, "b", Reason.SPLIT)
    unknown = await ask(openfeature.get_boolean_details, "no-such-flag", True)
    assert (unknown.value, unknown.error_code) == (True, ErrorCode.FLAG_NOT_FOUND)
    mistaken = await ask(openfeature.get_boolean_details, "colour", True)
    assert (mistaken.value, mistaken.error_code) == (True, ErrorCode.TYPE_MISMATCH)
    for attribute in ("x" * 70_000, "a\x00b"):
        context = EvaluationContext("u", {"attribute": attribute})
        refused = await ask(openfeature.get_boolean_details, "imports", False, context)
        assert (refused.value, refused.error_code) == (False, ErrorCode.INVALID_CONTEXT)


async def test_a_killed_variant_reaches_the_sdk_as_the_control(
    admin: httpx.AsyncClient, openfeature: OpenFeatureClient
) -> None:
    variants = [
        {"name": "a", "type": "control", "traffic_percentage": 50},
        {"name": "b", "traffic_percentage": 50},
    ]
    assert (
        await admin.put(f"{ADMIN}/experiments/sdk-kill", json={"status": "running", "variants": variants})
    ).is_success
    treated = next(f"u{n}" for n in range(100) if bucket_of("sdk-kill", f"u{n}") >= 500_000)
    context = EvaluationContext(treated)
    assert (await ask(openfeature.get_string_details, "sdk-kill", "", context)).value == "b"
    killed = await admin.post(f"{ADMIN}/switches/sdk-kill/kill", json={"variant": "b"})
    assert killed.status_code == 200
    details = await ask(openfeature.get_string_details, "sdk-kill", "", context)
    assert (details.value, details.variant, details.reason) == ("a", "a", Reason.DISABLED)
    assert details.flag_metadata["cause"] == "manual"
    assert (await admin.post(f"{ADMIN}/switches/sdk-kill/restore", json={"variant": "b"})).status_code == 200

    async def back() -> bool:
        return (await ask(openfeature.get_string_details, "sdk-kill", "", context)).value == "b"

    await eventually(back, "the unit has its variant again")
