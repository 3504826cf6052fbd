"""Breakers on real Kafka and Postgres: every way through the state machine, seen from outside."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from shared.clock import system_clock
from shared.kafka import Publisher
from shared.messages import Switch
from shared.topics import SWITCHES
from tests.integration.alerting.process import (
    DEADLINE,
    SPEC,
    Aggregator,
    Alerting,
    Listener,
    breaker_of,
    transitions_of,
)
from tests.waiting import eventually


async def _equals(read: Callable[[], Awaitable[object]], expected: object) -> bool:
    return await read() == expected


async def test_ten_failures_open_it_and_a_probe_that_succeeds_closes_it(
    service: Alerting, aggregator: Aggregator, listener: Listener, postgres: str
) -> None:
    streak = await breaker_of(service, aggregator, "whole")
    await aggregator.fail(streak, 9)
    tenth = await aggregator.fail(streak)

    await listener.turned("whole_flag")
    seen, off = next((t, s) for t, s in listener.switches if s.flag == "whole_flag")
    assert seen - tenth.published_at < DEADLINE
    assert (off.off, off.cause, off.admit_to) == (True, "breaker:whole", 0)
    assert off.evidence["failures"] == 10

    await listener.turned("whole_flag", times=2)
    probing = listener.of("whole_flag")[1]
    assert (probing.off, probing.admit_from, probing.admit_to) == (True, 0, 100_000)
    assert probing.off_since == off.off_since == off.decided_at < probing.decided_at
    await aggregator.succeed(streak)
    await listener.turned("whole_flag", times=3)
    assert listener.of("whole_flag")[2].off is False
    assert [t[2] for t in await transitions_of(postgres, "whole")] == [
        "consecutive_failures",
        "timeout_passed",
        "probe_succeeded",
    ]
    shown = await service.breaker("whole")
    assert (shown["state"], shown["openings"], shown["closings"], shown["attempts"]) == ("closed", 1, 1, 0)


async def _opened(service: Alerting, aggregator: Aggregator, name: str, **spec: object) -> str:
    streak = await breaker_of(service, aggregator, name, **spec)
    await aggregator.fail(streak, 10)
    await service.becomes(name, "open")
    return streak


async def test_after_three_failed_probes_it_is_held_until_somebody_closes_it(
    service: Alerting, aggregator: Aggregator, listener: Listener, postgres: str
) -> None:
    streak = await _opened(service, aggregator, "stubborn", timeout_ms=300)
    for attempt in range(1, 4):
        await listener.turned("stubborn_flag", times=2 * attempt)
        await service.becomes("stubborn", "half_open")
        await aggregator.fail(streak)
        await service.becomes("stubborn", "held" if attempt == 3 else "open")

    admitted = [(s.admit_from, s.admit_to) for s in listener.of("stubborn_flag") if s.admit_to]
    assert admitted == [(0, 100_000), (100_000, 200_000), (200_000, 300_000)]
    await aggregator.succeed(streak)
    assert (await service.breaker("stubborn"))["attempts"] == 3

    answer = await service.admin.post("/api/v1/admin/breakers/stubborn/close", json={"reason": "fixed"})
    assert answer.json()["state"] == "closed"
    assert answer.json()["evidence"]["closed_because"] == "fixed"
    assert (await listener.turned("stubborn_flag", times=8))[-1].off is False
    again = await service.admin.post("/api/v1/admin/breakers/stubborn/close")
    assert (again.status_code, len(again.json()["transitions"])) == (200, len(answer.json()["transitions"]))
    reasons = [t[2] for t in await transitions_of(postgres, "stubborn")]
    assert reasons.count("probe_failed") == 2
    assert reasons[-2:] == ["recovery_attempts_used", "closed_by_hand"]


async def test_its_alert_opens_and_ends_with_it(
    service: Alerting, aggregator: Aggregator, listener: Listener
) -> None:
    streak = await _opened(service, aggregator, "told", timeout_ms=300, runbook_url="https://runbooks.example.com/b")
    (alert,) = await service.alerts(alert_type="circuit_breaker", status="OPEN", severity="Critical", limit=1)
    assert alert["alert_data"]["breaker"] == "told"
    await service.becomes("told", "half_open")
    await aggregator.succeed(streak)
    await service.becomes("told", "closed")
    shown = (await service.read.get(f"/api/v1/streaming-analytics/alerts/{alert['id']}")).json()
    assert shown["status"] == "resolved"
    assert shown["resolved_at"] is not None

    async def both() -> list[tuple[str, int]]:
        return [(a.status, a.version) for _, a in listener.alerts if a.key == "breaker:told"]

    await eventually(lambda: _equals(both, [("open", 1), ("resolved", 2)]), "both states are on alerts.v1")


async def test_a_switch_that_somebody_lets_go_of_closes_the_breaker(
    service: Alerting, aggregator: Aggregator, listener: Listener, publisher: Publisher
) -> None:
    await _opened(service, aggregator, "restored", timeout_ms=60_000)
    await publisher.publish(SWITCHES, _restoration("restored"))

    shown = await service.becomes("restored", "closed")
    assert shown["transitions"][0]["reason"] == "restored_by_hand"
    assert shown["evidence"]["closed_by"] == "tg_admin"
    switches = await listener.turned("restored_flag", times=3)
    assert [s.off for s in switches] == [True, False, False]


async def test_disabling_a_breaker_lets_go_of_its_flag_and_enabling_it_forgets_old_failures(
    service: Alerting, aggregator: Aggregator, listener: Listener
) -> None:
    streak = await _opened(service, aggregator, "disabled", timeout_ms=60_000)
    spec = {**SPEC, "metric": streak, "flag": "disabled_flag", "timeout_ms": 60_000}
    await service.define("breaker", "disabled", {**spec, "enabled": False})
    assert (await listener.turned("disabled_flag", times=2))[-1].off is False
    await aggregator.fail(streak, 10)
    await service.define("breaker", "disabled", spec)

    async def watching() -> bool:
        return bool((await service.breaker("disabled"))["transitions"][0]["reason"] == "enabled")

    await eventually(watching, "it is enabled again")
    await aggregator.fail(streak, 9)
    await asyncio.gather(*(aggregator.succeed(streak, shard=shard) for shard in (1, 2)))
    assert (await service.breaker("disabled"))["state"] == "closed"


async def test_a_breaker_that_guards_another_flag_lets_go_of_the_first(
    service: Alerting, aggregator: Aggregator, listener: Listener, postgres: str
) -> None:
    streak = await _opened(service, aggregator, "moved", timeout_ms=60_000)
    await service.define("breaker", "moved", {**SPEC, "metric": streak, "flag": "other_flag", "timeout_ms": 60_000})
    assert (await listener.turned("moved_flag", times=2))[-1].off is False
    await service.becomes("moved", "closed")
    await aggregator.fail(streak, 10)
    assert (await listener.turned("other_flag"))[0].off is True
    assert [t[2] for t in await transitions_of(postgres, "moved")] == [
        "consecutive_failures",
        "definition_changed",
        "consecutive_failures",
    ]


async def test_another_timeout_keeps_an_open_breaker_open(service: Alerting, aggregator: Aggregator) -> None:
    streak = await _opened(service, aggregator, "patient", timeout_ms=60_000)
    await service.define("breaker", "patient", {**SPEC, "metric": streak, "flag": "patient_flag", "timeout_ms": 300})
    shown = await service.becomes("patient", "half_open")
    assert [t["reason"] for t in shown["transitions"]] == ["timeout_passed", "consecutive_failures"]


async def test_failures_of_several_shards_add_up(service: Alerting, aggregator: Aggregator) -> None:
    streak = await breaker_of(service, aggregator, "spread", timeout_ms=60_000)
    await aggregator.fail(streak, 5, shard=0)
    await aggregator.succeed(streak, shard=1)
    await aggregator.fail(streak, 5, shard=1)
    await aggregator.fail(streak, 4, shard=2)
    assert (await service.breaker("spread"))["state"] == "closed"
    await aggregator.fail(streak, 1, shard=3)
    shown = await service.becomes("spread", "open")
    assert shown["evidence"]["failures"] == 10


def _restoration(name: str) -> Switch:
    return Switch(
        organisation="acme",
        flag=f"{name}_flag",
        cause=f"breaker:{name}",
        off=False,
        decided_at=system_clock(),
        evidence={"by": "tg_admin", "reason": "we know better"},
    )
