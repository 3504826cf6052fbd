"""The example server with its clients, on real sockets before a platform in memory."""

from __future__ import annotations

from collections import Counter

from examples.websocket.__main__ import JOBS, jobs_watched
from tests.unit.telemetry.platform import Platform


async def test_every_job_and_connection_of_the_example_is_told_from_its_beginning_to_its_end() -> None:
    platform = Platform()
    telemetry = platform.client()
    await jobs_watched(telemetry)
    assert await telemetry.aclose()

    kinds = Counter(event["event_type"] for event in platform.events)
    assert kinds["websocket_job_started"] == JOBS
    assert kinds["websocket_job_completed"] + kinds["websocket_job_failed"] == JOBS
    assert kinds["websocket_connected"] == JOBS
    assert kinds["websocket_reconnected"] > 0
    assert kinds["websocket_disconnected"] == kinds["websocket_connected"] + kinds["websocket_reconnected"]
    assert kinds["websocket_heartbeat"] > 0
    assert kinds["websocket_throttled"] > 0
    ends = [event for event in platform.told("websocket_disconnected") if not event["event_data"]["clean"]]
    assert len(ends) == kinds["websocket_reconnected"]
    assert {event["context"]["networkType"] for event in ends} == {"cellular"}
