"""HTTP to the gateway as a product's client speaks it: kept connections, bounded concurrency, an honest outcome."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import Enum
from typing import Any

import aiohttp
import msgspec

_RETRYABLE_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504})
_FIRST_BACKOFF, _LONGEST_BACKOFF = 0.1, 2.0


class GaveUpError(Exception):
    """The deadline passed before the gateway answered for good; the text says what it said last."""


class Lost(Enum):
    """Why a request has no answer."""

    REFUSED = "connection refused"
    """The request never left."""
    BROKEN = "connection broken"
    TIMEOUT = "timeout"


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole HTTP answer; `body` is decoded JSON, or None where there was none."""

    status: int
    body: Any
    retry_after: float

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300

    @property
    def retryable(self) -> bool:
        return self.status in _RETRYABLE_STATUSES


Attempted = Callable[[Answer | Lost], None]
"""Told of the result of every single try."""


class Api:
    """One base URL, one key. `deadline` is an instant of the loop's clock: nothing is tried again after it."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        base_url: str,
        key: str,
        *,
        concurrency: asyncio.Semaphore,
        dice: random.Random,
    ) -> None:
        self._session = session
        self._base_url = base_url.rstrip("/")
        self._authorization = {"Authorization": f"Bearer {key}"}
        self._concurrency = concurrency
        self._dice = dice

    async def once(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer | Lost:
        """One try."""
        sent = {**self._authorization, **(headers or {})}
        if body is not None:
            sent["Content-Type"] = "application/json"
        async with self._concurrency:
            try:
                async with self._session.request(method, self._base_url + path, data=body, headers=sent) as response:
                    raw = await response.read()
            except aiohttp.ClientConnectorError:
                return Lost.REFUSED
            except TimeoutError:
                return Lost.TIMEOUT
            except (aiohttp.ClientError, OSError):
                return Lost.BROKEN
        return Answer(response.status, _decoded(raw), _seconds(response.headers.get("Retry-After")))

    async def persistently(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        *,
        deadline: float,
        headers: Mapping[str, str] | None = None,
        attempted: Attempted = lambda _: None,
    ) -> Answer:
        """Tries again, with growing pauses, until an answer that is no overload or outage. Raises GaveUpError."""
        loop = asyncio.get_running_loop()
        pause = _FIRST_BACKOFF
        while True:
            result = await self.once(method, path, body, headers)
            attempted(result)
            if isinstance(result, Answer) and not result.retryable:
                return result
            wait = self._dice.uniform(0.5, 1.0) * pause
            if isinstance(result, Answer):
                wait = max(wait, result.retry_after)
            if loop.time() + wait > deadline:
                raise GaveUpError(f"{method} {path}: {_describe(result)}")
            await asyncio.sleep(wait)
            pause = min(_LONGEST_BACKOFF, 2 * pause)


@asynccontextmanager
async def open_session(*, connections: int, timeout: float = 10.0) -> AsyncIterator[aiohttp.ClientSession]:
    """Kept connections, at most `connections` at a time; a request may take `timeout` seconds."""
    connector = aiohttp.TCPConnector(limit=connections, keepalive_timeout=30)
    limits = aiohttp.ClientTimeout(total=timeout)
    async with aiohttp.ClientSession(
        connector=connector,
        timeout=limits,
        auto_decompress=True,
        headers={"User-Agent": "tidegate-imports-example"},
        cookie_jar=aiohttp.DummyCookieJar(),
    ) as session:
        yield session


def _decoded(raw: bytes) -> Any:
    try:
        return msgspec.json.decode(raw) if raw else None
    except (msgspec.DecodeError, UnicodeDecodeError):
        return raw[:500].decode("utf-8", "replace")


def _seconds(header: str | None) -> float:
    try:
        return min(30.0, float(header)) if header else 0.0
    except ValueError:  # a date: nothing of ours sends one
        return 0.0


def _describe(result: Answer | Lost) -> str:
    return result.value if isinstance(result, Lost) else f"{result.status} {result.body}"
