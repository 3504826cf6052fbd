"""A flood of broken records straight into Kafka: all become dead letters, nothing else suffers, and what is corrected
and replayed counts once."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest_asyncio

from deploy.local.stack import LocalStack
from shared.clock import system_clock
from shared.messages import Event
from shared.topics import EVENTS
from tests.integration.aggregation import publish_raw
from tests.patient import PatientClient
from tests.waiting import eventually

RECORDS = int(os.environ.get("TIDEGATE_TEST_BROKEN_RECORDS", "5000"))
GOOD = 500
_ANALYTICS = "/api/v1/streaming-analytics"
_LETTERS = f"{_ANALYTICS}/dead-letters"
_TYPE = "survivor"


def _document(n: int, **fields: Any) -> bytes:
    record = {"organisation": "default", "event_id": f"broken-{n}", "event_type": _TYPE, "time": system_clock()}
    return json.dumps({k: v for k, v in {**record, "user_id": f"u-{n}", **fields}.items() if v is not None}).encode()


_BROKEN: tuple[tuple[str, Callable[[int], bytes]], ...] = (
    ("schema_violation", lambda n: _document(n, time=-1)),
    ("schema_violation", lambda n: _document(n, event_type=None, type=_TYPE)),
    ("malformed_json", lambda n: b"{%d" % n),
    ("malformed_json", lambda n: b"\xff\x00 %d" % n),
    ("too_deep", lambda n: _document(n, properties="[]").replace(b'"[]"', b"[" * 100 + b"]" * 100)),
    ("nul_character", lambda n: _document(n, organisation="de\x00fault")),
    ("schema_violation", lambda n: b'{"organisation":5}'),
    ("empty", lambda n: b""),
)


@pytest_asyncio.fixture(scope="module")
async def client(stack: LocalStack) -> AsyncIterator[PatientClient]:
    patient = PatientClient(stack.gateway, stack.keys["admin"])
    yield patient
    await patient.close()


async def test_broken_records_are_kept_and_what_is_corrected_and_replayed_counts_once(
    stack: LocalStack, client: PatientClient
) -> None:
    processes = _processes(stack)
    await client.ask("PUT", f"/api/v1/admin/metrics/{_TYPE}", {"type": "count", "event": _TYPE})
    broken = [_BROKEN[n % len(_BROKEN)] for n in range(RECORDS)]
    records = [(f"k-{n}", make(n)) for n, (_, make) in enumerate(broken)]
    half = len(records) // 2
    await publish_raw(stack.kafka, records[:half])
    await _send_good(client)
    await publish_raw(stack.kafka, records[half:])

    async def kept() -> bool:
        return bool((await _counts(client))["total"] == RECORDS)

    await eventually(kept, "every broken record is a dead letter", seconds=60 + RECORDS / 500)
    counts = await _counts(client)
    assert counts["by_reason"] == Counter(reason for reason, _ in broken)
    assert (counts["by_origin"], counts["by_state"]) == ({"kafka": RECORDS}, {"open": RECORDS})
    await eventually(lambda: _counted(client, GOOD), "every good event counts")

    # One by hand.
    (one,) = (await client.ask("GET", f"{_LETTERS}?text=broken-0%22"))["items"]
    answer = await client.ask("POST", f"{_LETTERS}/{one['id']}/replay", {"patch": {"time": system_clock()}})
    assert answer["event_id"] == "broken-0"
    await eventually(lambda: _counted(client, GOOD + 1), "the replayed event counts")

    # All that lack a type under its right name, in one go, twice.
    repair = {"filter": {"text": '"type"'}, "rename": {"type": "event_type"}}
    repaired = sum(make is _BROKEN[1][1] for _, make in broken)
    for replayed in (repaired, 0):
        assert (await _replayed(client, repair))["replayed"] == replayed
    refused = await _replayed(client, {"filter": {"reason": "malformed_json"}})
    assert refused["invalid"] == {"malformed_json": counts["by_reason"]["malformed_json"]}
    await eventually(lambda: _counted(client, GOOD + 1 + repaired), "every replayed event counts")

    after = await _counts(client)
    assert after["total"] == RECORDS, "a replay makes no dead letter"
    assert after["by_state"] == {"open": RECORDS - 1 - repaired, "replayed": 1 + repaired}
    assert await _exported(stack, "?state=replayed") == 1 + repaired
    assert _processes(stack) == processes, "no process was started again"
    assert await _counted(client, GOOD + 1 + repaired)


async def _send_good(client: PatientClient) -> None:
    events = [{"event_type": _TYPE, "event_id": f"good-{n}", "user_id": f"u-{n}"} for n in range(GOOD)]
    answer = await client.ask("POST", f"{_ANALYTICS}/events/batch", {"events": events})
    assert answer["accepted"] == GOOD


async def _counts(client: PatientClient) -> dict[str, Any]:
    """Of all letters, however often a count is cut short."""
    whole: dict[str, Any] = {"total": 0, "by_reason": Counter(), "by_origin": Counter(), "by_state": Counter()}
    cursor = ""
    while True:
        part = await client.ask("GET", f"{_LETTERS}/counts{cursor}")
        whole["total"] += part["total"]
        for name in ("by_reason", "by_origin", "by_state"):
            whole[name].update(part[name])
        if part["next_cursor"] is None:
            return whole
        cursor = f"?cursor={part['next_cursor']}"


async def _replayed(client: PatientClient, body: dict[str, Any]) -> dict[str, Any]:
    """The verdicts of the whole operation, however often it is cut short."""
    whole: dict[str, Any] = {"replayed": 0, "invalid": Counter()}
    cursor = None
    while True:
        part = await client.ask("POST", f"{_LETTERS}/replay", {**body, "cursor": cursor})
        whole["replayed"] += part["replayed"]
        whole["invalid"].update(part["invalid"])
        cursor = part["next_cursor"]
        if cursor is None:
            return whole


async def _exported(stack: LocalStack, query: str) -> int:
    headers = {"X-API-Key": stack.keys["admin"]}
    async with (
        httpx.AsyncClient(base_url=stack.gateway, timeout=60) as client,
        client.stream("GET", f"{_LETTERS}/export{query}", headers=headers) as answer,
    ):
        assert answer.status_code == 200
        return len([json.loads(line) async for line in answer.aiter_lines()])


async def _counted(client: PatientClient, events: int) -> bool:
    found = await client.ask("GET", f"{_ANALYTICS}/metrics/{_TYPE}")
    counted: int = found["totals"]["counted"]
    assert counted <= events, "an event was counted twice"
    return counted == events


def _processes(stack: LocalStack) -> dict[str, int | None]:
    return {process.name: process.pid for process in stack.state.read().processes}


def test_the_good_ones_among_the_broken_would_be_events() -> None:
    """What makes the records above broken is what they say, not how they are written."""
    assert isinstance(EVENTS.decode(_document(1, received_at=1)), Event)
