"""Sends events through the gateway as a patient client does: the same ids again until they are acknowledged."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx

RETRYABLE = {429, 502, 503, 504}


@dataclass(slots=True)
class Ledger:
    """What the client knows for certain."""

    acknowledged: set[str] = field(default_factory=set)
    resent: int = 0
    """Events sent again although they were acknowledged, or may have been."""
    failures: int = 0


async def send_batches(
    gateway: str, key: str, batches: Sequence[list[dict[str, Any]]], ledger: Ledger, *, clients: int, resend: float
) -> None:
    """Posts all batches, `clients` at a time; a share `resend` of them once more after their acknowledgement."""
    waiting = list(reversed(batches))
    rng = random.Random(11)

    async def client(http: httpx.AsyncClient) -> None:
        while waiting:
            batch = waiting.pop()
            await _post(http, batch, ledger)
            if rng.random() < resend:
                ledger.resent += len(batch)
                await _post(http, batch, ledger)

    async with (
        httpx.AsyncClient(base_url=gateway, headers={"X-API-Key": key}, timeout=20) as http,
        asyncio.TaskGroup() as group,
    ):
        for _ in range(clients):
            group.create_task(client(http))


async def _post(http: httpx.AsyncClient, batch: list[dict[str, Any]], ledger: Ledger) -> None:
    while True:
        try:
            answer = await http.post("/api/v1/streaming-analytics/events/batch", json={"events": batch})
        except httpx.TransportError:
            ledger.failures += 1
            ledger.resent += len(batch)
        else:
            if answer.status_code == 202:
                body = answer.json()
                assert body["accepted"] == len(batch), body
                ledger.acknowledged.update(result["event_id"] for result in body["results"])
                return
            assert answer.status_code in RETRYABLE, answer.text
            ledger.failures += 1
            ledger.resent += len(batch)
        await asyncio.sleep(0.2)
