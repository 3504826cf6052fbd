"""Killing and restoring flags, experiments and variants, by hand and by breakers, on real Kafka and Postgres."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import httpx
import pytest
import pytest_asyncio
from typer.testing import CliRunner

from services.assignment.domain.bucketing import bucket_of
from services.assignment.domain.switches import experiment_admission_bucket
from shared.clock import system_clock, to_iso
from shared.kafka import Publisher
from shared.messages import Switch
from shared.topics import SWITCHES
from tests.integration.assignment_service import (
    KEYS,
    Cable,
    Service,
    assignment_program,
    assignment_service,
    cable,
)
from tests.integration.test_assignment_flags import evaluate, experiment, exposures, flag
from tests.programs import Program
from tests.waiting import eventually
from tidegate.cli import app

ADMIN = "/api/v1/admin"
ASSIGN = "/api/v1/ab-testing/assign"
UNITS = [f"u{n}" for n in range(40)]


@pytest_asyncio.fixture(scope="module")
async def line(postgres: str) -> AsyncIterator[Cable]:
    async with cable(postgres) as plugged:
        yield plugged


@pytest_asyncio.fixture(scope="module")
async def service(kafka: str, line: Cable) -> AsyncIterator[Service]:
    async with assignment_service(kafka, line.url) as running:
        yield running


@pytest_asyncio.fixture(scope="module")
async def publisher(kafka: str) -> AsyncIterator[Publisher]:
    started = Publisher(kafka)
    await started.start()
    yield started
    await started.stop()


async def switch(service: Service, key: str, step: str, **body: Any) -> dict[str, Any]:
    answer = await service.admin.post(f"{ADMIN}/switches/{key}/{step}", json=body)
    assert answer.status_code == 200, answer.text
    shown: dict[str, Any] = answer.json()
    return shown


async def publish(publisher: Publisher, service: Service, key: str, **fields: Any) -> None:
    """As a breaker does; returns when the service has applied it."""
    message = Switch(organisation="default", flag=key, **{"decided_at": system_clock(), **fields})
    await publisher.publish(SWITCHES, message)

    async def applied() -> bool:
        shown = (await service.admin.get(f"{ADMIN}/switches/{key}")).json()["off"]
        decisions = [o["decided_at"] for o in shown if (o["cause"], o["variant"]) == (message.cause, message.variant)]
        return decisions == ([to_iso(message.decided_at)] if message.off else [])

    await eventually(applied, "the switch is applied", every=0.005)


async def assign(service: Service, key: str, unit: str) -> dict[str, Any]:
    answer = await service.read.post(ASSIGN, json={"experiment_key": key, "user_id": unit})
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


async def test_a_flag_is_killed_and_restored_by_hand(service: Service) -> None:
    key = await flag(service, off_value=False)
    killed = await switch(service, key, "kill", reason="imports fail")
    (off,) = killed["off"]
    assert killed["switched"] == {"variant": None, "cause": "manual", "to": "off", "changed": True}
    assert (off["cause"], off["variant"], off["half_open"]) == ("manual", None, False)
    assert off["evidence"] == {"by": KEYS["admin"].split("_")[1], "reason": "imports fail"}
    assert await evaluate(service, key) == {
        "key": key,
        "value": False,
        "reason": "DISABLED",
        "variant": "off",
        "metadata": {"version": 1, "cause": "manual", "off_since": off["off_since"]},
    }
    assert off["off_since"].endswith("Z")
    restored = await switch(service, key, "restore")
    assert (restored["off"], restored["switched"]["changed"]) == ([], True)
    assert (await evaluate(service, key))["value"] is True


async def test_said_twice_it_is_done_once_and_keeps_its_time(service: Service) -> None:
    key = await flag(service)
    first = await switch(service, key, "kill")
    second = await switch(service, key, "kill", reason="again")
    assert second["off"][0]["off_since"] == first["off"][0]["off_since"] < second["off"][0]["decided_at"]
    assert (await switch(service, key, "restore"))["switched"]["changed"] is True
    assert (await switch(service, key, "restore"))["switched"]["changed"] is False
    assert (await switch(service, key, "restore", cause="breaker:unheard"))["switched"]["changed"] is False


async def test_a_flag_is_off_while_any_cause_is(service: Service, publisher: Publisher) -> None:
    key = await flag(service)
    await publish(publisher, service, key, cause="breaker:b", off=True, evidence={"failures": 10})
    await switch(service, key, "kill")
    shown = (await service.admin.get(f"{ADMIN}/switches/{key}")).json()
    assert [o["cause"] for o in shown["off"]] == ["breaker:b", "manual"]
    assert shown["off"][0]["evidence"] == {"failures": 10}
    assert (await evaluate(service, key))["metadata"]["cause"] == "breaker:b"
    left = await switch(service, key, "restore", cause="breaker:b")
    assert [o["cause"] for o in left["off"]] == ["manual"]
    assert (await evaluate(service, key))["metadata"]["cause"] == "manual"
    await switch(service, key, "restore")
    assert (await evaluate(service, key))["reason"] == "STATIC"


async def test_the_order_of_the_records_decides_and_not_their_clocks(service: Service, publisher: Publisher) -> None:
    key = await flag(service)
    now = system_clock()
    await publish(publisher, service, key, cause="breaker:b", off=True, decided_at=now)
    await publish(publisher, service, key, cause="breaker:b", off=False, decided_at=now - 60_000_000)
    assert (await evaluate(service, key))["value"] is True


async def test_half_open_lets_pass_exactly_the_units_in_the_range(service: Service, publisher: Publisher) -> None:
    key = await flag(service, salt="some salt")
    await publish(publisher, service, key, cause="breaker:b", off=True)
    assert (await evaluate(service, key))["value"] is False
    since = (await evaluate(service, key))["metadata"]["off_since"]
    buckets = {unit: bucket_of("some salt", unit) for unit in UNITS}
    edge = sorted(buckets.values())[20]
    await publish(publisher, service, key, cause="breaker:b", off=True, admit_from=edge, admit_to=edge + 1)
    for unit, bucket in buckets.items():
        answer = await evaluate(service, key, {"targetingKey": unit})
        if bucket == edge:
            assert (answer["value"], answer["reason"], answer["variant"]) == (True, "SPLIT", "on")
            assert answer["metadata"] == {"version": 1, "probe": True}
        else:
            assert (answer["value"], answer["reason"]) == (False, "DISABLED")
            assert answer["metadata"]["off_since"] == since
    assert (await evaluate(service, key))["value"] is False, "without a unit nobody knows that it may probe"

    await switch(service, key, "kill")
    probe = next(unit for unit, bucket in buckets.items() if bucket == edge)
    assert (await evaluate(service, key, {"targetingKey": probe}))["metadata"]["cause"] == "manual"
    for unit in UNITS:
        assert (await evaluate(service, key, {"targetingKey": unit}))["value"] is False


async def test_a_killed_variants_units_get_the_control_uncounted_and_their_own_when_it_is_back(
    service: Service, kafka: str
) -> None:
    key = await experiment(service)
    known, new = UNITS[:20], UNITS[20:]
    before = {unit: (await assign(service, key, unit))["variant"]["variant_name"] for unit in known}
    assert set(before.values()) == {"control", "treatment"}
    killed = await switch(service, key, "kill", variant="treatment", reason="slow")
    since = killed["off"][0]["off_since"]
    for unit in UNITS:
        treated = bucket_of(key, unit) >= 500_000
        answer = await assign(service, key, unit)
        assert answer["variant"]["variant_name"] == "control"
        assert (answer["assigned"], answer["reason"]) == ((False, "killed") if treated else (True, "split"))
        assert (answer.get("cause"), answer.get("off_since")) == (("manual", since) if treated else (None, None))
        over_ofrep = await evaluate(service, key, {"targetingKey": unit})
        assert (over_ofrep["value"], over_ofrep["variant"]) == ("control", "control")
        assert over_ofrep["reason"] == ("DISABLED" if treated else "SPLIT")
        assert over_ofrep["metadata"].get("cause") == ("manual" if treated else None)

    async def exposed() -> set[str | None]:
        return {e.user_id for e in await exposures(kafka, key)}

    expected = {*known, *(unit for unit in new if bucket_of(key, unit) < 500_000)}

    async def all_exposed() -> bool:
        return await exposed() >= expected

    await eventually(all_exposed, "who got the control by the split is exposed")
    assert await exposed() == expected
    await switch(service, key, "restore", variant="treatment")
    for unit in UNITS:
        answer = await assign(service, key, unit)
        treated = bucket_of(key, unit) >= 500_000
        assert answer["variant"]["variant_name"] == ("treatment" if treated else "control")
        assert (answer["assigned"], answer["reason"]) == (True, "split")


async def test_a_unit_in_a_moved_bucket_keeps_its_variant_through_a_kill(service: Service) -> None:
    key = await experiment(service)
    moved = [u for u in (f"m{n}" for n in range(300)) if 500_000 <= bucket_of(key, u) < 900_000]
    old, new = moved[:10], moved[10:20]
    for unit in old:
        assert (await assign(service, key, unit))["variant"]["variant_name"] == "treatment"
    split = {"traffic_split": {"control": 90, "treatment": 10}}
    assert (await service.admin.patch(f"/api/v1/ab-testing/experiments/{key}", json=split)).is_success
    await switch(service, key, "kill", variant="treatment")
    for unit in moved[:20]:
        answer = await assign(service, key, unit)
        assert answer["variant"]["variant_name"] == "control"
        assert answer["reason"] == ("killed" if unit in old else "split")
    await switch(service, key, "restore", variant="treatment")
    for unit in moved[:20]:
        answer = await assign(service, key, unit)
        assert answer["variant"]["variant_name"] == ("treatment" if unit in old else "control")
    assert new


async def test_a_killed_experiment_gives_everybody_the_control_and_counts_nobody(
    service: Service, kafka: str
) -> None:
    key = await experiment(service)
    await switch(service, key, "kill")
    for unit in UNITS:
        answer = await assign(service, key, unit)
        assert answer["variant"]["variant_name"] == "control"
        assert (answer["assigned"], answer["reason"], answer["cause"]) == (False, "killed", "manual")
    assert await exposures(kafka, key) == []
    await switch(service, key, "restore")
    assert {(await assign(service, key, unit))["reason"] for unit in UNITS} == {"split"}


async def test_a_half_open_variant_is_probed_by_its_own_units(service: Service, publisher: Publisher) -> None:
    key = await experiment(service)
    half = {"off": True, "admit_from": 0, "admit_to": 500_000}
    await publish(publisher, service, key, cause="breaker:b", variant="treatment", **half)
    passed = 0
    for unit in UNITS:
        answer = await assign(service, key, unit)
        treated, admitted = bucket_of(key, unit) >= 500_000, experiment_admission_bucket(key, unit) < 500_000
        assert answer["variant"]["variant_name"] == ("treatment" if treated and admitted else "control")
        assert answer["reason"] == ("killed" if treated and not admitted else "split")
        assert answer.get("probe") == (True if treated and admitted else None)
        passed += treated and admitted
    assert 0 < passed < len(UNITS)


async def test_what_is_off_is_listed(service: Service, publisher: Publisher) -> None:
    disabled, killed = await flag(service, enabled=False), await experiment(service)
    await switch(service, killed, "kill", variant="treatment")
    listed = {s["key"]: s for s in (await service.admin.get(f"{ADMIN}/switches")).json()}
    assert listed[disabled] == {
        "key": disabled,
        "kind": "flag",
        "off": [{"cause": "definition", "variant": None}],
    }
    assert (listed[killed]["kind"], listed[killed]["off"][0]["variant"]) == ("experiment", "treatment")
    assert list(listed) == sorted(listed)
    text = (await service.nobody.get("/metrics")).text
    held = sum(o["cause"] != "definition" for s in listed.values() for o in s["off"])
    assert f"tidegate_assignment_switches_off {float(held)}" in text
    assert 'tidegate_assignment_switch_seconds_bucket{le="+Inf"}' in text


@pytest.mark.parametrize(
    ("kind", "step", "body", "status", "reason"),
    [
        ("none", "kill", {}, 404, "flag_not_found"),
        ("none", "restore", {}, 404, "flag_not_found"),
        ("flag", "kill", {"variant": "on"}, 404, "variant_not_found"),
        ("experiment", "kill", {"variant": "nobody"}, 404, "variant_not_found"),
        ("experiment", "kill", {"variant": "control"}, 422, "variant_is_control"),
        ("experiment", "restore", {"variant": "nobody"}, 404, "variant_not_found"),
    ],
)
async def test_what_is_not_there_cannot_be_switched(
    service: Service, kind: str, step: str, body: dict[str, Any], status: int, reason: str
) -> None:
    keys = {"none": "no-such-key", "flag": await flag(service), "experiment": await experiment(service)}
    answer = await service.admin.post(f"{ADMIN}/switches/{keys[kind]}/{step}", json=body)
    assert (answer.status_code, answer.json()["reason"]) == (status, reason)
    assert (await service.admin.get(f"{ADMIN}/switches/no-such-key")).status_code == 404


async def test_a_switch_without_a_body_works(service: Service) -> None:
    key = await flag(service)
    for step in ("kill", "restore"):
        assert (await service.admin.post(f"{ADMIN}/switches/{key}/{step}")).status_code == 200


async def test_what_another_programs_switch_names_may_be_restored_without_a_definition(
    service: Service, publisher: Publisher
) -> None:
    await publisher.publish(
        SWITCHES, Switch(organisation="default", flag="undefined", cause="breaker:b", off=True, decided_at=1)
    )

    async def known() -> bool:
        return (await service.admin.get(f"{ADMIN}/switches/undefined")).status_code == 200

    await eventually(known, "the switch is known")
    assert (await switch(service, "undefined", "restore", cause="breaker:b"))["off"] == []


async def test_a_switch_takes_effect_within_20_ms_of_being_in_kafka(service: Service, publisher: Publisher) -> None:
    key = await flag(service)
    delays = []
    for off in [True, False] * 10:
        message = Switch(organisation="default", flag=key, cause="breaker:b", off=off, decided_at=system_clock())
        await publisher.publish(SWITCHES, message)
        acknowledged = time.perf_counter()
        while (await evaluate(service, key))["value"] is off:
            await asyncio.sleep(0)  # the service runs on this loop, and nothing in its answer waits
            assert time.perf_counter() - acknowledged < 5
        delays.append(time.perf_counter() - acknowledged)
    # A busy machine delays some; a reader that polls, or waits for more to come, would delay them all.
    assert sorted(delays)[len(delays) // 4] < 0.02, delays


async def test_killing_and_restoring_need_no_postgres_even_right_after_a_start(
    service: Service, line: Cable, kafka: str, tmp_path: Path
) -> None:
    key, tested = await flag(service), await experiment(service)
    await line.pull()
    try:
        await switch(service, key, "kill")
        async with assignment_program(kafka, line.url, tmp_path / "log") as fresh:
            headers = {"Authorization": f"Bearer {KEYS['admin']}"}
            async with httpx.AsyncClient(base_url=fresh.url, headers=headers) as client:

                async def value() -> tuple[Any, Any]:
                    body = (await client.post(f"/ofrep/v1/evaluate/flags/{key}", json={})).json()
                    return body["value"], body["metadata"].get("cause")

                assert await value() == (False, "manual")
                restored = await client.post(f"{ADMIN}/switches/{key}/restore")
                assert (restored.status_code, restored.json()["off"]) == (200, [])
                assert await value() == (True, None)
                killed = await client.post(f"{ADMIN}/switches/{tested}/kill", json={"variant": "treatment"})
                assert killed.status_code == 200
                unit = next(u for u in UNITS if bucket_of(tested, u) >= 500_000)
                answer = (await client.post(ASSIGN, json={"experiment_key": tested, "user_id": unit})).json()
                assert (answer["variant"]["variant_name"], answer["reason"]) == ("control", "killed")

        async def here_too() -> bool:
            listed = {s["key"] for s in (await service.admin.get(f"{ADMIN}/switches")).json()}
            return key not in listed and tested in listed

        await eventually(here_too, "the other process has followed")
    finally:
        await line.plug()


async def test_killing_works_while_postgres_takes_connections_and_says_nothing(
    service: Service, kafka: str, postgres: str, tmp_path: Path
) -> None:
    key = await flag(service)

    async def silence(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(silence, "127.0.0.1", 0)
    async with server:
        address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        silent = urlunsplit(urlsplit(postgres)._replace(netloc=f"postgres@{address}"))
        async with assignment_program(kafka, silent, tmp_path / "log") as program:
            began = time.perf_counter()
            await tidegate(program, "kill", key)
            await tidegate(program, "restore", key)
            assert time.perf_counter() - began < 5


async def tidegate(program: Program, *arguments: str, code: int = 0) -> str:
    """What the command says."""
    target = ("--url", program.url, "--key", KEYS["admin"])
    result = await asyncio.to_thread(CliRunner().invoke, app, [*arguments, *target])
    assert result.exit_code == code, result.output
    return result.output.strip()


async def test_the_command_line_kills_and_restores_while_postgres_is_down(
    service: Service, publisher: Publisher, line: Cable, kafka: str, tmp_path: Path
) -> None:
    key, tested = await flag(service), await experiment(service)
    await line.pull()
    try:
        async with assignment_program(kafka, line.url, tmp_path / "log") as program:
            assert await tidegate(program, "kill", key, "--reason", "the queue is full") == f"{key} is off"
            (shown,) = [text for text in (await tidegate(program, "switches")).splitlines() if text.startswith(key)]
            assert shown.startswith(f"{key}: manual, since 20")
            assert shown.endswith(f"by key {KEYS['admin'].split('_')[1]}, the queue is full")
            (item,) = [i for i in json.loads(await tidegate(program, "switches", "--json")) if i["key"] == key]
            assert item["off"][0]["evidence"]["reason"] == "the queue is full"

            half = {"off": True, "admit_from": 0, "admit_to": 100_000}
            await publish(publisher, service, key, cause="breaker:b", **half)
            still = (await tidegate(program, "restore", key)).splitlines()
            assert [text.partition(", since")[0] for text in still] == [f"{key} is still off: breaker:b"]
            assert still[0].endswith("probing buckets 0 to 100000 of 1000000")
            assert await tidegate(program, "restore", key, "--cause", "breaker:b") == f"{key} is on"
            assert await tidegate(program, "restore", key) == f"{key} was not off by manual\n{key} is on"

            named = f"{tested}, variant treatment"
            assert await tidegate(program, "kill", tested, "--variant", "treatment") == f"{named} is off"
            assert await tidegate(program, "restore", tested, "--variant", "treatment") == f"{named} is on"
            assert "flag_not_found" in await tidegate(program, "kill", "no-such-key", code=1)
    finally:
        await line.plug()
