"""What connections and jobs tell: milestones and errors, and what went over them, valid by the kinds' schemas."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]  # its stubs are another package

from tests.unit.telemetry.platform import QUICK, Platform
from tidegate.telemetry import ClientContext, Policy, Telemetry

SCHEMA = Draft202012Validator(json.loads((Path(__file__).parents[3] / "docs" / "telemetry.schema.json").read_text()))
NOW = 1_729_593_000_000_000


class Time:
    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


class Scene:
    """A client whose time stands still unless it is moved."""

    def __init__(self, policy: Policy = QUICK) -> None:
        self.platform = Platform()
        self.time = Time()
        self.telemetry: Telemetry = self.platform.client(policy, clock=lambda: NOW, monotonic=self.time)

    def told(self) -> list[tuple[str, dict[str, Any]]]:
        """Event types and data, in order; all of them valid."""
        assert self.telemetry.flush()
        assert [error.message for event in self.platform.events for error in SCHEMA.iter_errors(event)] == []
        return [(event["event_type"], event.get("event_data", {})) for event in self.platform.events]


@pytest.fixture
def scene() -> Iterator[Scene]:
    scene = Scene()
    yield scene
    scene.telemetry.close()


def test_a_connection_tells_its_beginning_and_its_end_with_what_went_over_it(scene: Scene) -> None:
    context = ClientContext.from_headers({"X-App-Version": "3.1", "X-NETWORK-TYPE": "cellular", "Cookie": "secret"})
    connection = scene.telemetry.connection(
        pipeline="csv_import", job_id="job-7", connection_id="c-1", user_id="u-1", context=context
    )
    with connection:
        for size in (100, 200, 600):
            connection.sent(size)
        connection.received()
        scene.time.seconds += 45.5
    assert scene.told() == [
        ("websocket_connected", {"pipeline": "csv_import"}),
        (
            "websocket_disconnected",
            {
                "pipeline": "csv_import",
                "connectionDuration": 45_500,
                "clean": True,
                "closeCode": 1000,
                "messageCount": 3,
                "messagesReceived": 1,
                "messagesSentBytes": 900,
                "averageMessageSize": 300,
                "throttledMessages": 0,
                "reconnectCount": 0,
            },
        ),
    ]
    event = scene.platform.events[0]
    assert (event["job_id"], event["session_id"], event["user_id"]) == ("job-7", "c-1", "u-1")
    assert event["context"] == {"appVersion": "3.1", "networkType": "cellular"}
    assert event["event_timestamp"] == "2024-10-22T10:30:00Z"


def test_headers_of_asgi_are_understood() -> None:
    headers = [
        (b"x-os-version", b"26.1"),
        (b"x-os-version", b"26.2"),
        (b"user-agent", b"app\xe9"),
        (b"x-device-model", b""),
    ]
    assert ClientContext.from_headers(headers) == ClientContext({"osVersion": "26.1", "userAgent": "appé"})


def test_an_exception_is_no_clean_end(scene: Scene) -> None:
    with pytest.raises(ZeroDivisionError), scene.telemetry.connection() as connection:
        connection.sent(1 // 0)
    _, (kind, data) = scene.told()
    assert (kind, data["clean"], data["closeCode"]) == ("websocket_disconnected", False, 1011)


def test_a_connection_that_ended_itself_does_not_end_twice(scene: Scene) -> None:
    with scene.telemetry.connection() as connection:
        connection.disconnected(1006)
    assert [(kind, data.get("clean")) for kind, data in scene.told()] == [
        ("websocket_connected", None),
        ("websocket_disconnected", False),
    ]


def test_a_return_is_told_instead_of_a_beginning_and_begins_anew(scene: Scene) -> None:
    connection = scene.telemetry.connection(pipeline="ai_scan")
    connection.connected()
    connection.sent(50)
    connection.disconnected(1006)
    connection.reconnected()
    scene.time.seconds += 2
    connection.disconnected(1000)
    told = scene.told()
    assert [kind for kind, _ in told] == [
        "websocket_connected",
        "websocket_disconnected",
        "websocket_reconnected",
        "websocket_disconnected",
    ]
    assert told[2][1]["reconnectCount"] == 1
    assert (told[3][1]["messageCount"], told[3][1]["connectionDuration"], told[3][1]["reconnectCount"]) == (
        0,
        2_000,
        1,
    )


def test_a_connection_that_failed_says_why(scene: Scene) -> None:
    scene.telemetry.connection(pipeline="ai_scan").failed(TimeoutError("no handshake"), "E_TOKEN_EXPIRED")
    assert scene.told() == [
        ("websocket_failed", {"pipeline": "ai_scan", "error": "no handshake", "errorCode": "E_TOKEN_EXPIRED"})
    ]


def test_a_job_sums_up_all_of_its_connections_and_keeps_its_own_clock(scene: Scene) -> None:
    with scene.telemetry.job("job-7", pipeline="batch_enrichment") as job:
        scene.time.seconds += 1
        for _ in range(2):
            with job.connection() as connection:
                connection.sent(100)
                connection.throttled(4)
                scene.time.seconds += 10
        returned = job.connection()
        returned.reconnected()
        returned.disconnected(1000)
        job.completed(success_count=9, failure_count=1)
    kind, data = scene.told()[-1]
    assert kind == "websocket_job_completed"
    assert (data["duration"], data["successCount"], data["failureCount"]) == (21_000, 9, 1)
    assert (data["messageCount"], data["messagesSentBytes"], data["averageMessageSize"]) == (2, 200, 100)
    assert (data["throttledMessages"], data["reconnectCount"]) == (8, 1)
    assert len({event["session_id"] for event in scene.platform.events if "session_id" in event}) == 3
    assert {event["job_id"] for event in scene.platform.events} == {"job-7"}


def test_a_job_that_raises_has_failed_with_the_name_of_what_it_raised(scene: Scene) -> None:
    def work() -> None:
        with scene.telemetry.job("job-7", pipeline="csv_import") as job:
            job.error("E_GEMINI_TIMEOUT", provider="gemini", retryable=True)
            raise KeyError("x")

    with pytest.raises(KeyError):
        work()
    kinds = dict(scene.told())
    assert kinds["websocket_error"] == {
        "pipeline": "csv_import",
        "errorCode": "E_GEMINI_TIMEOUT",
        "provider": "gemini",
        "retryable": True,
    }
    assert kinds["websocket_job_failed"]["errorCode"] == "KeyError"


def test_progress_is_not_told_unless_asked_for(scene: Scene) -> None:
    job = scene.telemetry.job("job-7", pipeline="csv_import")
    for number in range(100):
        job.progress(number, 100)
    assert scene.told() == []


def test_sampled_progress_says_how_many_it_stands_for() -> None:
    scene = Scene(Policy(linger=0.001, progress=0.25))
    job = scene.telemetry.job("job-7", pipeline="csv_import")
    for number in range(100):
        job.progress(number, 100)
    told = scene.told()
    assert [data["processedCount"] for _, data in told] == list(range(3, 100, 4))
    assert sum(1 / data["sampleRate"] for _, data in told) == 100
    scene.telemetry.close()


def test_throttled_messages_are_told_once_in_a_while_and_none_is_forgotten(scene: Scene) -> None:
    connection = scene.telemetry.connection(pipeline="csv_import")
    for _ in range(100):
        connection.throttled()
        scene.time.seconds += 1
    connection.disconnected(1000)
    told = [data["throttledMessages"] for kind, data in scene.told() if kind == "websocket_throttled"]
    assert told[0] == 1
    assert len(told) <= 11
    assert sum(told) == 100


def test_a_heartbeat_is_the_time_from_a_ping_to_its_echo_by_one_clock(scene: Scene) -> None:
    connection = scene.telemetry.connection(pipeline="csv_import")
    nonce = connection.ping()
    scene.time.seconds += 0.127
    connection.pong(nonce)
    connection.pong(nonce)
    connection.pong(99)
    for _ in range(100):
        connection.ping()
    connection.pong(nonce + 1)
    assert scene.told() == [("websocket_heartbeat", {"pipeline": "csv_import", "rttMs": 127})]
