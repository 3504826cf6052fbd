"""The telemetry client before the real service on real Kafka: what a server records is in the topic, once."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter

from tests.integration.test_ingest import Ingest, TopicTail, running_ingest
from tidegate.telemetry import ClientContext, Policy, Telemetry

HEADERS = [
    (b"x-app-version", b"3.1"),
    (b"x-os-version", b"26.1"),
    (b"x-network-type", b"wifi"),
    (b"x-device-model", b"iPhone"),
]


def client(ingest: Ingest, policy: Policy | None = None) -> Telemetry:
    return Telemetry(str(ingest.client.base_url), ingest.keys["ingest"], policy=policy)


async def test_everything_that_a_server_tells_is_accepted_and_stored_once(kafka: str) -> None:
    async with TopicTail.opened(kafka) as topic, running_ingest(kafka) as ingest:
        telemetry = client(ingest, Policy(progress=1.0))
        context = ClientContext.from_headers(HEADERS)
        for number in range(50):
            with telemetry.job(f"job-{number}", pipeline="csv_import", user_id=f"u-{number}") as job:
                with job.connection(context=context) as connection:
                    connection.sent(120)
                    connection.throttled()
                    connection.heartbeat(12.5)
                    connection.error("E_GEMINI_TIMEOUT", provider="gemini", retryable=True)
                job.connection(context=context).failed("no handshake")
                returned = job.connection(context=context)
                returned.reconnected()
                returned.disconnected(1006)
                job.progress(1, 2)
        telemetry.job("lost", pipeline="ai_scan").failed("E_ENRICHMENT_FAILED")
        assert await telemetry.aclose()

        stats = telemetry.stats()
        assert (stats.accepted, stats.invalid, dict(stats.dropped)) == (stats.recorded, 0, {})
        events = [event for _, event in await topic.events()]
        assert set(Counter(event.event_id for event in events).values()) == {1}
        assert Counter(event.event_type for event in events) == {
            "websocket_job_started": 50,
            "websocket_connected": 50,
            "websocket_throttled": 50,
            "websocket_heartbeat": 50,
            "websocket_error": 50,
            "websocket_disconnected": 100,
            "websocket_failed": 50,
            "websocket_reconnected": 50,
            "websocket_job_progress": 50,
            "websocket_job_completed": 50,
            "websocket_job_failed": 1,
        }
        connected = next(event for event in events if event.event_type == "websocket_connected")
        assert connected.context == {
            "appVersion": "3.1",
            "osVersion": "26.1",
            "networkType": "wifi",
            "deviceModel": "iPhone",
        }
        assert await ingest.dead_letters() == []


SCRIPT = """
import os, sys
from tidegate.telemetry import Policy, Telemetry

telemetry = Telemetry(sys.argv[1], sys.argv[2], policy=Policy(linger=60))
telemetry.record("before", {"pid": os.getpid()})
child = os.fork()
telemetry.record("child" if child == 0 else "parent", {"pid": os.getpid()})
if child == 0:
    sys.exit(0)
assert os.waitpid(child, 0)[1] == 0
"""


async def test_what_waits_when_a_process_ends_is_sent_by_it_and_by_its_children(kafka: str) -> None:
    async with TopicTail.opened(kafka) as topic, running_ingest(kafka) as ingest:
        arguments = ("-c", SCRIPT, str(ingest.client.base_url), ingest.keys["ingest"])
        process = await asyncio.create_subprocess_exec(sys.executable, *arguments)
        assert await asyncio.wait_for(process.wait(), 30) == 0
        events = [event for _, event in await topic.events()]
        assert sorted(event.event_type for event in events) == ["before", "child", "parent"]
        assert len({event.properties["pid"] for event in events}) == 2
        assert len({event.event_id for event in events}) == 3
