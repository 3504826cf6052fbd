"""Reading the platform's answers."""

from __future__ import annotations

import asyncio
import base64
import json
from dataclasses import replace
from typing import Any

import pytest

from examples.imports.definitions import Addresses, Document, load
from examples.imports.domain.events import Session
from examples.imports.domain.journeys import Journeys
from examples.imports.domain.valve import FlagAnswer, FlagState
from examples.imports.platform import Platform, PlatformError, flag_of, payload_of, variant_of
from examples.imports.transport import Answer
from tests.unit.imports.conftest import OpenClient

_NOW = 1_760_000_000_000_000
_DEFINITIONS = load("1", Addresses("http://h/hook", "http://h/v2/enqueue", "0" * 32, "h", 25))


async def test_setting_up_defines_metrics_before_the_experiment_starts(open_client: OpenClient) -> None:
    async with open_client() as client:
        platform = Platform(client.api, client.api)
        await platform.set_up(_DEFINITIONS, deadline=asyncio.get_running_loop().time() + 5)
    assert client.gateway.metrics == _DEFINITIONS.specs("metric")
    for kind in ("flag", "channel", "rule", "breaker"):
        assert client.gateway.guard.definitions[f"{kind}s"] == _DEFINITIONS.specs(kind)
    assert client.gateway.started
    assert [v["variant_name"] for v in client.gateway.variants] == ["realtime", "background"]


async def test_a_metric_that_the_platform_refuses_to_show_is_an_error(open_client: OpenClient) -> None:
    async with open_client() as client:
        with pytest.raises(PlatformError, match="404"):
            await Platform(client.api, client.api).totals("unknown")


async def test_variants_without_results_yet_are_empty(open_client: OpenClient) -> None:
    async with open_client() as client:
        platform = Platform(client.api, client.api)
        identifier = await platform.set_up(_DEFINITIONS, deadline=asyncio.get_running_loop().time() + 5)
        variants = await platform.variants(identifier, _DEFINITIONS)
    assert variants is not None
    assert [(v.units, v.completed, v.mean_duration) for v in variants.values()] == [(0, 0, None)] * 2


@pytest.mark.parametrize(
    "answer",
    [
        Answer(404, {"detail": "no such experiment"}, 0),
        Answer(200, {"variant": None, "assigned": False}, 0),
        Answer(200, {"variant": {"variant_name": "realtime"}, "assigned": False}, 0),
        Answer(200, "not json", 0),
    ],
)
def test_an_answer_without_an_assigned_variant_is_an_error(answer: Answer) -> None:
    with pytest.raises(PlatformError):
        variant_of(answer)


def test_a_dead_letter_is_read_from_json_and_from_base64_that_only_lenient_parsers_take() -> None:
    event = {"event_id": "e", "event_data": {"experimentKey": "k", "comment": "\ud800"}}
    encoded = base64.b64encode(json.dumps(event).encode()).decode()
    assert payload_of({"payload_base64": encoded}) == event
    assert payload_of({"payload": event}) == event
    assert payload_of({"payload": [1]}) == {}
    for rubbish in (b"\xff{", b"[" * 100_000 + b"]" * 100_000):
        assert payload_of({"payload_base64": base64.b64encode(rubbish).decode()}) == {}


async def test_dead_letters_of_other_runs_do_not_count(open_client: OpenClient) -> None:
    async with open_client() as client:
        for identifier, key in (("a", "run_1"), ("a", "run_1"), ("b", "run_1"), ("c", "run_2")):
            payload = {"event_id": identifier, "event_data": {"experimentKey": key}}
            client.gateway.letters.append({"payload": payload})
        assert await Platform(client.api, client.api).dead_letters("run_1", limit=100) == 2


async def test_after_a_run_nothing_of_it_decides_or_tells_any_more(open_client: OpenClient) -> None:
    async with open_client() as client:
        platform = Platform(client.api, client.api)
        async with platform.leaving_nothing():
            await platform.set_up(_DEFINITIONS, deadline=asyncio.get_running_loop().time() + 5)
            assert len(client.gateway.guard.definitions["channels"]) == 3
    left = client.gateway.guard.definitions
    assert left["channels"] == {}
    assert [spec["enabled"] for kind in ("rules", "breakers") for spec in left[kind].values()] == [False, False]


async def test_of_a_run_that_could_not_be_set_up_nothing_decides_or_tells_either(open_client: OpenClient) -> None:
    unheard = replace(_DEFINITIONS, documents=(*_DEFINITIONS.documents, Document("unheard", "k", {})))
    async with open_client() as client:
        platform = Platform(client.api, client.api)
        with pytest.raises(PlatformError, match="unheards/k was answered with 404"):
            async with platform.leaving_nothing():
                await platform.set_up(unheard, deadline=asyncio.get_running_loop().time() + 5)
    left = client.gateway.guard.definitions
    assert left["channels"] == {}
    assert [spec["enabled"] for kind in ("rules", "breakers") for spec in left[kind].values()] == [False, False]


async def test_journeys_are_read_by_variant(open_client: OpenClient) -> None:
    async with open_client() as client:
        platform = Platform(client.api, client.api)
        await platform.set_up(_DEFINITIONS, deadline=asyncio.get_running_loop().time() + 5)
        session = Session("key", "u")
        await client.sender.send([session.assigned(_NOW, variant="background", estimated_ms=1)], {}, batched=False)
        found = await platform.journeys(_DEFINITIONS.metric("import_journey"))
    assert found == {"background": Journeys(started=1, abandoned_timeout=1)}


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"value": True, "reason": "STATIC", "metadata": {"version": 1}}, FlagAnswer(FlagState.ON)),
        (
            {"value": True, "metadata": {"probe": True, "cause": "breaker:b"}},
            FlagAnswer(FlagState.PROBE, "breaker:b"),
        ),
        ({"value": False, "metadata": {"cause": "breaker:b"}}, FlagAnswer(FlagState.OFF, "breaker:b")),
        ({"reason": "DISABLED"}, FlagAnswer(FlagState.OFF)),
    ],
)
def test_a_flag_is_on_only_where_it_says_so(body: dict[str, Any], expected: FlagAnswer) -> None:
    assert flag_of(Answer(200, {"key": "flag", **body}, 0)) == expected


def test_a_flag_that_is_not_known_is_an_error() -> None:
    with pytest.raises(PlatformError, match="FLAG_NOT_FOUND"):
        flag_of(Answer(404, {"key": "flag", "errorCode": "FLAG_NOT_FOUND"}, 0))
