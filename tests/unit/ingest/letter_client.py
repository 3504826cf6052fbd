"""What tests ask about dead letters, and how these come to be."""

from __future__ import annotations

from typing import Any

import httpx

from shared.messages import DeadLetter, Scope
from shared.topics import DEAD_LETTERS
from tests.unit.ingest.service import DEAD_LETTER_PATH, NOW, Service


async def get(service: Service, path: str = "", scope: Scope = "read", **query: Any) -> httpx.Response:
    headers = {"X-API-Key": service.keys[scope]}
    return await service.client.get(DEAD_LETTER_PATH + path, params=query, headers=headers)


async def post(service: Service, path: str, body: Any = None, scope: Scope = "admin") -> httpx.Response:
    headers = {"X-API-Key": service.keys[scope]}
    return await service.client.post(DEAD_LETTER_PATH + path, json=body, headers=headers)


async def listed(service: Service, **query: Any) -> dict[str, Any]:
    answer = await get(service, **query)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def keep(service: Service, payload: bytes = b"1", **fields: Any) -> None:
    """A letter that came another way than over HTTP."""
    number = len(service.dead())
    given = {"id": f"l-{number}", "organisation": "acme", "reason": "too_deep", "detail": "", "origin": "kafka"}
    letter = DeadLetter(received_at=NOW, payload=payload, **{**given, **fields})
    await service.letters.append([(letter.id, DEAD_LETTERS.encode(letter))])


async def refused(service: Service, body: Any) -> str:
    """Sends an invalid event and returns its letter's id."""
    assert (await service.one(body)).status_code == 422
    found: str = (await listed(service, limit=1))["items"][0]["id"]
    return found
