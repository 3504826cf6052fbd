"""Sends events through the gateway as a patient client does: the same ids again until they are acknowledged."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Container, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx
import orjson

from tests.patient import RETRYABLE


@dataclass(slots=True)
class Ledger:
    """What the client knows for certain."""

    acknowledged: set[str] = field(default_factory=set)
    refused: set[str] = field(default_factory=set)
    """Events that ingest called invalid."""
    resent: int = 0
    """Events sent again although they were acknowledged, or may have been."""
    failures: int = 0


async def send_batches(
    gateway: str,
    key: str,
    batches: Sequence[Sequence[dict[str, Any]]],
    ledger: Ledger,
    *,
    clients: int,
    resend: float,
    invalid: Container[str] = (),
    seed: int = 11,
) -> None:
    """Posts all batches, `clients` at a time; a share `resend` of them once more after their acknowledgement.

    Fails unless exactly the events with ids in `invalid` are refused.
    """
    waiting = list(reversed(batches))
    rng = random.Random(seed)

    async def client(http: httpx.AsyncClient) -> None:
        while waiting:
            batch = waiting.pop()
            await _post(http, batch, ledger, invalid)
            if rng.random() < resend:
                ledger.resent += len(batch)
                await _post(http, batch, ledger, invalid)

    headers = {"X-API-Key": key, "Content-Type": "application/json"}
    async with (
        httpx.AsyncClient(base_url=gateway, headers=headers, timeout=20) as http,
        asyncio.TaskGroup() as group,
    ):
        for _ in range(clients):
            group.create_task(client(http))


async def _post(
    http: httpx.AsyncClient, batch: Sequence[dict[str, Any]], ledger: Ledger, invalid: Container[str]
) -> None:
    body = orjson.dumps({"events": batch})
    while True:
        try:
            answer = await http.post("/api/v1/streaming-analytics/events/batch", content=body)
        except httpx.TransportError:
            ledger.failures += 1
            ledger.resent += len(batch)
        else:
            if answer.status_code == 202:
                _note(orjson.loads(answer.content), batch, ledger, invalid)
                return
            assert answer.status_code in RETRYABLE, answer.text
            ledger.failures += 1
            ledger.resent += len(batch)
        await asyncio.sleep(0.2)


def _note(answer: dict[str, Any], batch: Sequence[dict[str, Any]], ledger: Ledger, invalid: Container[str]) -> None:
    for sent, verdict in zip(batch, answer["results"], strict=True):
        expected = "invalid" if sent["event_id"] in invalid else "accepted"
        assert (verdict["event_id"], verdict["status"]) == (sent["event_id"], expected), verdict
        (ledger.refused if expected == "invalid" else ledger.acknowledged).add(sent["event_id"])
