"""Telemetry on its way: bounded, counted, sent again with the same ids, and never the caller's trouble."""

from __future__ import annotations

import asyncio
import json
import threading
from typing import Any

import pytest

from tests.unit.telemetry.platform import QUICK, Platform
from tidegate.telemetry import Drop, Policy, Telemetry
from tidegate.telemetry.transport import Answer, LostError


def test_what_is_recorded_arrives_once_and_in_order() -> None:
    platform = Platform()
    telemetry = platform.client()
    for number in range(2_000):
        telemetry.record("tick", {"n": number})
    assert telemetry.close()
    assert [event["event_data"]["n"] for event in platform.events] == list(range(2_000))
    assert set(platform.accepted.values()) == {1}
    assert max(map(len, platform.requests)) <= QUICK.batch_events
    stats = telemetry.stats()
    assert (stats.recorded, stats.accepted, stats.waiting, dict(stats.dropped)) == (2_000, 2_000, 0, {})


def test_many_threads_record_at_once() -> None:
    platform = Platform()
    telemetry = platform.client(Policy(linger=0.001, max_events=100_000))

    def record() -> None:
        for _ in range(500):
            telemetry.record("tick")

    threads = [threading.Thread(target=record) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert telemetry.close()
    assert len(platform.events) == 4_000
    assert set(platform.accepted.values()) == {1}


@pytest.mark.parametrize(
    "trouble",
    [
        Answer(503, b"", 0.0),
        Answer(429, b""),
        Answer(502, b"<html>"),
        Answer(401, b""),
        Answer(202, b"a page of some proxy"),
        LostError("reset"),
    ],
    ids=["503", "429", "502", "401", "no platform", "lost"],
)
def test_a_batch_that_was_not_taken_is_sent_again_with_the_same_ids(trouble: Answer | LostError) -> None:
    platform = Platform()
    platform.meets = lambda events: trouble if len(platform.requests) <= 2 else None
    telemetry = platform.client()
    for _ in range(3):
        telemetry.record("tick")
    assert telemetry.close()
    assert len(platform.requests) >= 3
    first, second = platform.requests[0], platform.requests[1]
    assert first == second[: len(first)]
    assert set(platform.accepted.values()) == {1}
    assert len(platform.accepted) == 3


def test_an_answer_that_was_lost_leaves_the_same_event_sent_twice() -> None:
    platform = Platform()

    def loses_the_answer(events: list[dict[str, Any]]) -> LostError | None:
        if len(platform.requests) > 1:
            return None
        platform.take(events)
        return LostError("reset")

    platform.meets = loses_the_answer
    telemetry = platform.client()
    telemetry.record("tick")
    assert telemetry.close()
    assert list(platform.accepted.values()) == [2]
    assert len(platform.events) == 1


def test_retry_after_is_the_least_that_is_waited() -> None:
    platform = Platform()
    platform.meets = lambda events: Answer(503, b"", 60.0) if len(platform.requests) == 1 else None
    telemetry = platform.client(Policy(linger=0, first_pause=0.001, longest_pause=0.3))
    telemetry.record("tick")
    assert not telemetry.flush(0.2)
    assert len(platform.requests) == 1
    assert telemetry.flush(5)
    telemetry.close()


def test_without_room_what_comes_is_dropped_and_counted() -> None:
    platform = Platform()
    platform.gate.clear()
    telemetry = platform.client(Policy(linger=0, max_events=100))
    for number in range(1_000):
        telemetry.record("tick", {"n": number})
    assert (telemetry.stats().dropped, telemetry.stats().waiting) == ({Drop.FULL: 900}, 100)
    platform.gate.set()
    assert telemetry.close()
    assert [event["event_data"]["n"] for event in platform.events] == list(range(100))


def test_memory_is_bounded_in_bytes_too() -> None:
    platform = Platform()
    platform.gate.clear()
    telemetry = platform.client(Policy(linger=0, max_bytes=100_000))
    for _ in range(100):
        telemetry.record("tick", {"x": "y" * 10_000})
    assert 5 <= telemetry.stats().waiting <= 9
    platform.gate.set()
    assert telemetry.close()


def test_a_request_that_is_too_large_is_halved_until_it_fits() -> None:
    platform = Platform()
    platform.meets = lambda events: (
        Answer(413, b"") if len(events) > 3 or any(event["event_data"] for event in events) else None
    )
    telemetry = platform.client(Policy(linger=0.05))
    for number in range(20):
        telemetry.record("tick", {"large": True} if number == 7 else None)
    assert telemetry.close()
    assert len(platform.events) == 19
    assert telemetry.stats().dropped == {Drop.REFUSED: 1}


def test_what_the_platform_refuses_is_dropped_and_the_next_is_sent() -> None:
    platform = Platform()
    platform.meets = lambda events: Answer(400, b"") if len(platform.requests) == 1 else None
    telemetry = platform.client()
    telemetry.record("tick")
    assert telemetry.flush()
    telemetry.record("tock")
    assert telemetry.close()
    assert [event["event_type"] for event in platform.events] == ["tock"]
    assert telemetry.stats().dropped == {Drop.REFUSED: 1}


@pytest.mark.parametrize("status", [202, 422])
def test_invalid_events_are_counted_and_not_sent_again(status: int) -> None:
    platform = Platform()
    verdicts = [{"event_id": "x", "status": "invalid", "reason": "schema_violation", "detail": "pipeline"}]
    answer = Answer(status, json.dumps({"accepted": 0, "results": verdicts}).encode())
    platform.meets = lambda events: answer
    telemetry = platform.client()
    telemetry.record("websocket_error")
    assert telemetry.close()
    assert (telemetry.stats().invalid, len(platform.requests)) == (1, 1)


def test_what_the_platform_keeps_away_is_neither_invalid_nor_sent_again() -> None:
    platform = Platform()
    verdicts = [
        {"event_id": "x", "status": "quarantined", "reason": "schema_mismatch", "detail": "no amount"},
        {"event_id": "y", "status": "dropped", "reason": "sampled_out", "detail": "left out of the sample"},
    ]
    answer = Answer(202, json.dumps({"accepted": 0, "results": verdicts}).encode())
    platform.meets = lambda events: answer
    telemetry = platform.client(Policy(linger=0.2))
    telemetry.record("websocket_error")
    telemetry.record("websocket_error")
    assert telemetry.close()
    stats = telemetry.stats()
    assert (stats.set_aside, stats.invalid, stats.waiting, len(platform.requests)) == (2, 0, 0, 1)


def test_after_too_long_an_outage_a_batch_is_given_up() -> None:
    platform = Platform()
    platform.meets = lambda events: LostError("away")
    telemetry = platform.client(Policy(linger=0, first_pause=0.001, longest_pause=0.001, give_up=0.05))
    telemetry.record("tick")
    assert telemetry.flush(5)
    telemetry.close()
    assert telemetry.stats().dropped == {Drop.EXPIRED: 1}


def test_closing_waits_no_longer_than_it_may() -> None:
    platform = Platform()
    platform.meets = lambda events: LostError("away")
    telemetry = platform.client()
    for _ in range(5):
        telemetry.record("tick")
    assert not telemetry.close(0.1)
    telemetry.record("late")
    stats = telemetry.stats()
    assert (stats.recorded, stats.waiting, stats.dropped) == (6, 0, {Drop.UNSENT: 5, Drop.FULL: 1})
    assert telemetry.close()


def test_nothing_raises_whatever_is_recorded() -> None:
    platform = Platform()
    telemetry = platform.client()
    loop: dict[Any, Any] = {}
    loop["self"] = loop
    unusable: list[dict[Any, Any]] = [loop, {"x": float("nan")}]
    strange: list[dict[Any, Any]] = [{1: object()}, {"\ud800": "\ud800"}]
    for data in unusable + strange:
        telemetry.record("tick", data)
    telemetry.record("tick", 5)  # type: ignore[arg-type]
    connection = telemetry.connection()
    connection.sent("many")  # type: ignore[arg-type]
    connection.throttled(None)  # type: ignore[arg-type]
    connection.ping()
    connection.pong([])  # type: ignore[arg-type]
    connection.heartbeat()  # type: ignore[call-arg]
    assert telemetry.close()
    stats = telemetry.stats()
    assert stats.dropped == {Drop.UNUSABLE: 7}
    assert stats.recorded == stats.accepted + 7


def test_a_value_that_fails_when_it_is_sent_costs_its_own_event_only() -> None:
    class Gone:
        def __str__(self) -> str:
            raise RuntimeError("its session is over")

    platform = Platform()
    telemetry = platform.client()
    telemetry.record("tick", user_id=Gone())  # type: ignore[arg-type]
    telemetry.record("tick")
    assert telemetry.close()
    assert len(platform.events) == 1
    assert telemetry.stats().dropped == {Drop.UNUSABLE: 1}


def test_what_is_recorded_does_not_change_with_the_callers_values() -> None:
    platform = Platform()
    platform.gate.clear()
    telemetry = platform.client()
    data = {"n": 1}
    telemetry.record("tick", data)
    data["n"] = 2
    platform.gate.set()
    assert telemetry.close()
    assert platform.events[0]["event_data"] == {"n": 1}


async def test_an_event_loop_goes_on_while_it_waits_for_the_rest_to_be_sent() -> None:
    platform = Platform()
    platform.gate.clear()
    telemetry = platform.client()
    telemetry.record("tick")
    closing = asyncio.create_task(telemetry.aclose())
    await asyncio.sleep(0)
    platform.gate.set()
    assert await closing
    assert len(platform.events) == 1


def test_a_wrong_url_is_told_at_once() -> None:
    with pytest.raises(ValueError, match="looks like"):
        Telemetry("tidegate.example", "key")


def test_a_client_that_nobody_uses_any_more_leaves_no_thread() -> None:
    platform = Platform()
    telemetry = platform.client()
    telemetry.record("tick")
    (thread,) = [thread for thread in threading.enumerate() if thread.name == "tidegate-telemetry"]
    del telemetry
    thread.join(5)
    assert not thread.is_alive()
    assert len(platform.events) == 1
