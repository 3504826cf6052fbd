"""A client that is as patient as ours are told to be: it asks again until the answer is other than "not now"."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import httpx

RETRYABLE = {429, 502, 503, 504}


class PatientClient:
    """Speaks to a gateway with one key. Close it."""

    def __init__(self, gateway: str, key: str, *, patience: float = 90) -> None:
        self._http = httpx.AsyncClient(base_url=gateway, headers={"X-API-Key": key}, timeout=20)
        self._patience = patience

    async def close(self) -> None:
        await self._http.aclose()

    async def ask(
        self, method: str, path: str, body: Any = None, *, params: Mapping[str, str | int] | None = None
    ) -> Any:
        """The answer's JSON. Fails on a 5xx that no restart explains, and raises on a 4xx."""
        async with asyncio.timeout(self._patience):
            while True:
                try:
                    answer = await self._http.request(method, path, json=body, params=params)
                except httpx.TransportError:
                    await asyncio.sleep(0.05)
                    continue
                if answer.status_code not in RETRYABLE:
                    assert answer.status_code < 500, answer.text
                    answer.raise_for_status()
                    return answer.json()
                await asyncio.sleep(0.05)
