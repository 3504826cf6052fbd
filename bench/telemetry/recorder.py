"""A server that records telemetry: `python -m bench.telemetry.recorder URL KEY EVENTS RATE`.

Each call is timed where the caller stands. RATE is events per second; 0 means one call after the other. What was
found goes to standard output as one JSON object.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import msgspec

from tidegate.telemetry import ClientContext, Connection, Telemetry

_WARM_UP = 500
_CONTEXT = {"appVersion": "3.1", "osVersion": "26.1", "networkType": "cellular", "deviceModel": "iPhone"}


class Recorded(msgspec.Struct, frozen=True):
    """The calls' durations in ns, the process's CPU time in s, and what became of the events."""

    calls: list[int]
    cpu_seconds: float
    accepted: int
    undelivered: int


def record(url: str, key: str, events: int, rate: int) -> Recorded:
    """Raises nothing that the platform does: what it did not accept stands in the result."""
    telemetry = Telemetry(url, key)
    connection = telemetry.connection(pipeline="csv_import", job_id="job-7", context=ClientContext(_CONTEXT))
    calls = _calls(connection)
    for number in range(_WARM_UP):
        calls[number % len(calls)]()
    telemetry.flush()
    warm_up = telemetry.stats().recorded
    durations: list[int] = []
    cpu, began = time.process_time(), time.perf_counter()
    for number in range(events):
        if rate and (early := began + number / rate - time.perf_counter()) > 0:
            time.sleep(early)
        call = calls[number % len(calls)]
        before = time.perf_counter_ns()
        call()
        durations.append(time.perf_counter_ns() - before)
    telemetry.close(30)
    stats = telemetry.stats()
    accepted = stats.accepted - warm_up
    return Recorded(durations, time.process_time() - cpu, accepted, events - accepted)


def _calls(connection: Connection) -> list[Callable[[], None]]:
    """What a server tells of a connection, each one event."""
    return [
        lambda: connection.heartbeat(127.5),
        lambda: connection.error("E_GEMINI_TIMEOUT", provider="gemini", retryable=True),
        lambda: connection.disconnected(1006),
        connection.reconnected,
    ]


if __name__ == "__main__":
    _, url, key, events, rate = sys.argv
    sys.stdout.buffer.write(msgspec.json.encode(record(url, key, int(events), int(rate))))
