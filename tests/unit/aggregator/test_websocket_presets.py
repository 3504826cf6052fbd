"""The presets for WebSockets and jobs, fed by the telemetry client: what they read is what the server told."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import deploy
from shared.clock import MINUTE
from tests.unit.aggregator.builders import NOW, event
from tests.unit.aggregator.test_metrics_guide import Values
from tests.unit.aggregator.test_metrics_guide import read as read_of
from tests.unit.telemetry.platform import QUICK, Platform
from tidegate.definitions import parse
from tidegate.telemetry import Telemetry

FILE = Path(next(iter(deploy.__path__))) / "presets" / "websocket" / "metrics.yaml"
DOCUMENTS = list(parse(FILE.read_text("utf-8"), str(FILE)))


class Server:
    """Tells by the client, at NOW, with a clock for durations that is moved by hand."""

    def __init__(self) -> None:
        self.platform = Platform()
        self.seconds = 0.0
        self.telemetry: Telemetry = self.platform.client(QUICK, clock=lambda: NOW, monotonic=lambda: self.seconds)

    def read(self, key: str, later: int = 0) -> Values:
        assert self.telemetry.flush()
        told = [
            event(
                event_type=one["event_type"],
                time=NOW,
                received_at=NOW,
                job_id=one.get("job_id"),
                session_id=one.get("session_id"),
                context=one.get("context", {}),
                properties=one["event_data"],
            )
            for one in self.platform.events
        ]
        return read_of(key, *told, later=later, documents=DOCUMENTS)


@contextmanager
def telling() -> Iterator[Server]:
    server = Server()
    yield server
    server.telemetry.close()


def test_connections_that_came_about_last_and_come_back() -> None:
    with telling() as server:
        for seconds, code in ((60, 1000), (2, 1006), (4, 1006)):
            with server.telemetry.connection(pipeline="csv_import") as connection:
                server.seconds += seconds
                connection.disconnected(code)
        returned = server.telemetry.connection(pipeline="csv_import")
        returned.reconnected(3)
        returned.disconnected(1000)
        server.telemetry.connection().failed("refused", "E_TOKEN_EXPIRED")

        assert server.read("websocket_connection_success") == {"avg": pytest.approx(0.8)}
        assert server.read("websocket_connection_duration_ms")["avg"] == pytest.approx(16_500)
        assert server.read("websocket_abnormal_duration_ms") == {"count": 2, "avg": 3_000}
        assert server.read("websocket_reconnects") == {"count": 1}
        assert server.read("websocket_reconnects_per_connection")["max"] == 3
        assert server.read("websocket_token_expiries") == {"count": 1}


def test_messages_their_size_and_those_that_a_throttle_held_back() -> None:
    with telling() as server:
        with server.telemetry.job("j", pipeline="ai_scan") as job:
            for size, throttled in ((100, 3), (300, 1)):
                with job.connection() as connection:
                    connection.sent(size)
                    connection.sent(size)
                    connection.throttled(throttled)

        assert server.read("websocket_message_size") == {"avg": 200}
        assert server.read("websocket_throttle_rate") == {"avg": 0.5}
        assert server.read("websocket_messages_per_job")["sum"] == 4


def test_errors_by_code_provider_and_job() -> None:
    with telling() as server:
        for number in range(4):
            job = server.telemetry.job(f"j-{number}", pipeline="ai_scan")
            job.started()
            if number == 0:
                job.error("E_GEMINI_TIMEOUT", provider="gemini", retryable=True)
        found: dict[str, Any] = server.read("websocket_errors_by_code")
        assert found["share E_GEMINI_TIMEOUT"] == 1
        assert server.read("websocket_error_rate") == {"avg": 0.25}
        assert server.read("websocket_errors_by_provider") == {"count": 1}


def test_a_job_that_does_not_end_hangs_and_one_that_fails_does_not() -> None:
    with telling() as server:
        for number in range(3):
            job = server.telemetry.job(f"j-{number}", pipeline="ai_scan")
            job.started()
            if number == 0:
                job.completed()
            if number == 1:
                job.failed("E_ENRICHMENT_FAILED")
        found = server.read("websocket_jobs", later=6 * MINUTE)
        assert (found["started"], found["completed"], found["abandoned_timeout"]) == (3, 2, 1)
        assert server.read("websocket_job_failure_rate") == {"avg": 0.5}


def test_round_trips() -> None:
    with telling() as server:
        connection = server.telemetry.connection(pipeline="ai_scan")
        for rtt in (100, 200, 600):
            connection.heartbeat(rtt)
        assert server.read("websocket_rtt_ms")["avg"] == 300
        assert server.read("websocket_rtt_by_pipeline_ms")["avg"] == 300
