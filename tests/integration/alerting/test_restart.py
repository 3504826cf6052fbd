"""Alerting that dies, that loses Postgres, and that runs twice: no transition is lost and none is made twice."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
from msgspec import structs

from shared.clock import HOUR, system_clock
from shared.kafka import Publisher
from shared.messages import Switch
from shared.topics import METRIC_UPDATES, SWITCHES
from tests.integration.alerting.process import (
    SPEC,
    Aggregator,
    Alerting,
    Listener,
    alerting,
    breaker_of,
    transitions_of,
)
from tests.integration.assignment_service import cable
from tests.waiting import eventually


async def test_what_happened_while_it_was_dead_is_decided_afterwards_and_once(
    kafka: str, postgres: str, publisher: Publisher, aggregator: Aggregator, listener: Listener, tmp_path: Path
) -> None:
    async with alerting(kafka, postgres, tmp_path / "log") as service:
        streak = await breaker_of(service, aggregator, "missed", timeout_ms=60_000)
        await aggregator.fail(streak, 6)
        await service.kill()
        await aggregator.fail(streak, 4)
        # The success would hide the failures from whoever looked at the latest state only.
        await aggregator.succeed(streak)
        await service.start()
        await service.becomes("missed", "open")
        assert [s.off for s in await listener.turned("missed_flag")] == [True]

        await service.kill()
        await service.start()
        await listener.turned("missed_flag", times=2)
        assert [s.off for s in listener.of("missed_flag")] == [True, True], "republished, not decided again"
        assert len(await transitions_of(postgres, "missed")) == 1
        assert len([a for a in await service.alerts() if a["alert_data"].get("breaker") == "missed"]) == 1


async def test_what_an_aggregator_that_is_behind_sent_meanwhile_is_decided_by_its_own_time(
    kafka: str, postgres: str, publisher: Publisher, aggregator: Aggregator, tmp_path: Path
) -> None:
    async with alerting(kafka, postgres, tmp_path / "log") as service:
        await aggregator.define("behind", {"type": "count"})
        spec = {"metric": "behind", "direction": "above", "critical": 10, "window": "5m"}
        await service.define("rule", "behind", spec)
        last = await aggregator.send("behind", "value", n=10)
        await eventually(lambda: _went(postgres, "behind", 1), "it fires")
        await service.kill()
        # An hour behind: what it has counted just now are events of an hour ago.
        sent_late = {"revision": last.revision + 1, "published_at": last.published_at + HOUR, "n": 11}
        await publisher.publish(METRIC_UPDATES, structs.replace(last, **sent_late))
        await service.start()
        assert (await service.rule("behind"))["groups"][0]["n"] == 11
        assert [t[2] for t in await transitions_of(postgres, "behind")] == ["triggered"]


async def test_killed_at_any_moment_it_goes_through_the_same_transitions(
    kafka: str, postgres: str, publisher: Publisher, aggregator: Aggregator, tmp_path: Path
) -> None:
    async with alerting(kafka, postgres, tmp_path / "log") as service:
        streak = await breaker_of(service, aggregator, "stormy", timeout_ms=200, recovery_attempts=2)
        for delay in (0.0, 0.02, 0.1):
            await aggregator.fail(streak, 10)
            await asyncio.sleep(delay)  # dies at different points of deciding, storing and publishing
            await service.kill()
            await service.start()
            await service.becomes("stormy", "half_open")
            await aggregator.succeed(streak)
            await service.becomes("stormy", "closed")
        assert [t[2] for t in await transitions_of(postgres, "stormy")] == [
            "consecutive_failures",
            "timeout_passed",
            "probe_succeeded",
        ] * 3
        incidents = [a for a in await service.alerts() if a["alert_data"].get("breaker") == "stormy"]
        assert [a["status"] for a in incidents] == ["resolved"] * 3


async def test_a_restoration_by_hand_while_it_was_dead_is_not_undone(
    kafka: str, postgres: str, publisher: Publisher, aggregator: Aggregator, listener: Listener, tmp_path: Path
) -> None:
    async with alerting(kafka, postgres, tmp_path / "log") as service:
        streak = await breaker_of(service, aggregator, "overruled", timeout_ms=60_000)
        await aggregator.fail(streak, 10)
        await listener.turned("overruled_flag")
        await service.kill()
        await publisher.publish(
            SWITCHES,
            Switch(
                organisation="acme",
                flag="overruled_flag",
                cause="breaker:overruled",
                off=False,
                decided_at=system_clock(),
                evidence={"by": "tg_admin", "reason": "false alarm"},
            ),
        )
        await service.start()
        await service.becomes("overruled", "closed")
        switches = await listener.turned("overruled_flag", times=3)
        assert [s.off for s in switches] == [True, False, False]


async def test_a_switch_that_arrives_too_late_is_followed_by_the_one_in_force(
    kafka: str, postgres: str, publisher: Publisher, aggregator: Aggregator, listener: Listener, tmp_path: Path
) -> None:
    async with alerting(kafka, postgres, tmp_path / "log") as service:
        streak = await breaker_of(service, aggregator, "late", timeout_ms=200)
        await aggregator.fail(streak, 10)
        await service.becomes("late", "half_open")
        await aggregator.succeed(streak)
        await service.becomes("late", "closed")
        seen = await listener.turned("late_flag", times=3)
        assert [s.off for s in seen] == [True, True, False]
        # As from a process that stood still after its commit, or from a producer that was given up.
        for times in (5, 7):
            await publisher.publish(SWITCHES, seen[0])
            await listener.turned("late_flag", times=times)
        assert listener.of("late_flag") == [*seen, seen[0], seen[2], seen[0], seen[2]]


async def test_two_processes_make_each_transition_once(
    kafka: str, postgres: str, publisher: Publisher, aggregator: Aggregator, tmp_path: Path
) -> None:
    async with (
        alerting(kafka, postgres, tmp_path / "one") as one,
        alerting(kafka, postgres, tmp_path / "two") as two,
    ):
        streak = await breaker_of(one, aggregator, "twins", timeout_ms=200)

        async def both_watch() -> bool:
            return all(
                [
                    await s.metric("tidegate_alerting_breaker_state", breaker="twins", state="closed")
                    for s in (one, two)
                ]
            )

        await eventually(both_watch, "both watch the breaker")
        for _ in range(3):
            await aggregator.fail(streak, 10)
            await one.becomes("twins", "half_open")
            await aggregator.succeed(streak)
            await one.becomes("twins", "closed")
        expected = ["consecutive_failures", "timeout_passed", "probe_succeeded"] * 3
        assert [t[2] for t in await transitions_of(postgres, "twins")] == expected

        async def agree() -> bool:
            return all(
                [
                    await s.metric("tidegate_alerting_breaker_state", breaker="twins", state="closed") == 1
                    for s in (one, two)
                ]
            )

        await eventually(agree, "both know that it is closed")
        shown = [a for a in await two.alerts() if a["alert_data"].get("breaker") == "twins"]
        assert [a["status"] for a in shown] == ["resolved"] * 3


async def test_without_postgres_it_waits_and_then_decides_what_it_has_read(
    kafka: str, postgres: str, publisher: Publisher, aggregator: Aggregator, listener: Listener, tmp_path: Path
) -> None:
    async with cable(postgres) as line, alerting(kafka, line.url, tmp_path / "log") as service:
        streak = await breaker_of(service, aggregator, "waiting", timeout_ms=60_000)
        await line.pull()
        await aggregator.fail(streak, 10)
        await _answers_503(service)
        assert (await service.nobody.get("/healthz")).status_code == 200
        assert listener.of("waiting_flag") == []

        await line.plug()
        assert [s.off for s in await listener.turned("waiting_flag", seconds=20)] == [True]
        assert (await service.becomes("waiting", "open"))["openings"] == 1
        assert len(await transitions_of(postgres, "waiting")) == 1


async def _answers_503(service: Alerting) -> None:
    for method, path, body in (
        ("GET", "/api/v1/admin/breakers/waiting", None),
        ("POST", "/api/v1/admin/breakers/waiting/close", None),
        ("PUT", "/api/v1/admin/breakers/waiting", SPEC),
        ("GET", "/api/v1/streaming-analytics/alerts", None),
        ("POST", "/api/v1/streaming-analytics/alerts", {"alert_type": "x", "alert_title": "y"}),
    ):
        answer = await service.admin.request(method, path, json=body)
        assert answer.status_code == 503, (path, answer.text)
        assert answer.headers["Retry-After"] in {"1", "2", "3"}


async def test_without_kafka_it_is_alive_and_says_what_it_waits_for(postgres: str, tmp_path: Path) -> None:
    service = Alerting("127.0.0.1:1", postgres, tmp_path / "log")
    await service.start(wait_until_ready=False)
    try:

        async def alive() -> bool:
            try:
                return (await service.nobody.get("/healthz")).status_code == 200
            except httpx.TransportError:
                return False

        await eventually(alive, "it answers")
        ready = await service.nobody.get("/readyz")
        assert (ready.status_code, ready.json()["detail"]) == (503, "Kafka")
        listed = await service.read.get("/api/v1/streaming-analytics/alerts")
        assert (listed.status_code, listed.headers["Retry-After"] in {"1", "2", "3"}) == (503, True)
        assert await service.terminate() == 0
    finally:
        await service.close_clients()
        await service.__aexit__(None, None, None)


async def test_a_second_process_that_is_slow_to_start_decides_nothing_again(
    kafka: str, postgres: str, publisher: Publisher, aggregator: Aggregator, tmp_path: Path
) -> None:
    async with cable(postgres) as line, alerting(kafka, postgres, tmp_path / "one") as one:
        await aggregator.define("slow_ratio", {"type": "ratio", "numerator": {}, "denominator": {}})
        await one.define("rule", "slow", {"metric": "slow_ratio", "direction": "above", "critical": "50%"})
        await aggregator.ratio("slow_ratio", 10, 10)
        await eventually(lambda: _went(postgres, "slow", 1), "the first has raised it")
        await line.pull()
        two = Alerting(kafka, line.url, tmp_path / "two")
        await two.start(wait_until_ready=False)
        try:
            await eventually(lambda: _says(two, "Postgres"), "the second has read how long the topics are")
            # This transition stores a position beyond the end that the second has seen.
            await aggregator.ratio("slow_ratio", 10, 1_000)
            await eventually(lambda: _went(postgres, "slow", 2), "the first has ended it")
            await line.plug()
            await eventually(lambda: _says(two, None), "the second watches, too", seconds=40)
            assert [t[2] for t in await transitions_of(postgres, "slow")] == ["triggered", "recovered"]
        finally:
            await two.close_clients()
            await two.__aexit__(None, None, None)


async def _says(service: Alerting, awaited: str | None) -> bool:
    """What /readyz waits for."""
    try:
        ready = await service.nobody.get("/readyz")
    except httpx.TransportError:
        return False
    return bool(ready.status_code == 200 if awaited is None else ready.json()["detail"] == awaited)


async def _went(postgres: str, key: str, transitions: int) -> bool:
    return len(await transitions_of(postgres, key)) == transitions
