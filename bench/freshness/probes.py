"""Single events in lanes of their own, sent on a schedule, and the window that counts them, asked for all the time.

A lane's events have one key, so they lie in one partition in order: when its count is n, its first n are visible.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from types import TracebackType
from typing import Any, Self

import aiohttp

from bench.killpath.load import EVENT as BACKGROUND
from bench.processes import BenchError
from shared.clock import Clock

METRIC = EVENT = "freshness_probe"
LANES = 8
"""Enough users for their events to lie in every partition."""
DEFINITIONS: dict[str, dict[str, Any]] = {
    METRIC: {"type": "count", "event": EVENT, "group_by": ["properties.lane"]},
    "freshness_views": {"type": "count", "event": BACKGROUND, "group_by": ["properties.variant"]},
    "freshness_view_ms": {
        "type": "value",
        "event": BACKGROUND,
        "value": "properties.duration_ms",
        "aggregations": ["sum", "p95"],
    },
}
_ANALYTICS = "/api/v1/streaming-analytics"
_POLL_SECONDS = 0.01
_PATIENCE = 30.0


class Probes:
    """A client of one stack, as an async context manager. Raises BenchError when an answer is none that we expect."""

    def __init__(self, gateway: str, key: str, clock: Clock) -> None:
        self._gateway, self._key, self._clock = gateway, key, clock
        self._answered: defaultdict[str, list[int]] = defaultdict(list)
        self._seen: defaultdict[str, int] = defaultdict(int)
        self._sent = 0
        self.ages: list[int] = []
        """µs, of every probe that is visible by now; 0 where it was before ingest had answered."""

    async def __aenter__(self) -> Self:
        timeout = aiohttp.ClientTimeout(total=_PATIENCE)
        self._http = aiohttp.ClientSession(self._gateway, headers={"X-API-Key": self._key}, timeout=timeout)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.close()

    async def define(self) -> None:
        for key, spec in DEFINITIONS.items():
            await self._ask("PUT", f"/api/v1/admin/metrics/{key}", json=spec)

    async def send(self) -> None:
        """One probe; returns when it is acknowledged."""
        lane = str(self._sent % LANES)
        self._sent += 1
        body = {"event_type": EVENT, "user_id": f"probe-{lane}", "event_data": {"lane": lane}}
        await self._ask("POST", f"{_ANALYTICS}/events", json=body)
        self._answered[lane].append(self._clock())

    async def watch(self) -> None:
        """Notes when each probe is visible; until cancelled."""
        while True:
            params = {"metric_name": METRIC, "time_window": "total"}
            windows = await self._ask("GET", f"{_ANALYTICS}/metrics", params=params)
            now = self._clock()
            for window in windows:
                self._note(window["group"]["properties.lane"], window["metric_value"], now)
            await asyncio.sleep(_POLL_SECONDS)

    async def until_visible(self, count: int) -> None:
        """Returns once `count` probes are visible."""
        try:
            async with asyncio.timeout(_PATIENCE):
                while len(self.ages) < count:
                    await asyncio.sleep(_POLL_SECONDS)
        except TimeoutError:
            raise BenchError(f"after {_PATIENCE:.0f} s only {len(self.ages)} of {count} probes count") from None

    def _note(self, lane: str, visible: int, now: int) -> None:
        """A probe that counts before its answer has come is noted at the next look."""
        answered = self._answered[lane]
        while self._seen[lane] < min(visible, len(answered)):
            self.ages.append(max(0, now - answered[self._seen[lane]]))
            self._seen[lane] += 1

    async def _ask(self, method: str, path: str, **request: Any) -> Any:
        try:
            async with self._http.request(method, path, **request) as answer:
                if answer.status >= 400:
                    raise BenchError(f"{method} {path}: {answer.status} {await answer.text()}")
                return await answer.json()
        except (aiohttp.ClientError, TimeoutError) as error:
            raise BenchError(f"{method} {path}: {error!r}") from error
