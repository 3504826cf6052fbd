"""The guardrail that is tripped: a streak, a breaker and a flag, driven over the gateway like any client would."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import aiohttp
import msgspec
from aiokafka import AIOKafkaConsumer

from bench.killpath.load import EVENT as BACKGROUND
from bench.processes import BenchError
from shared.clock import Clock
from shared.kafka import assigned_consumer
from shared.messages import Switch
from shared.topics import SWITCHES

KEY = "killpath"
THRESHOLD = 10
EVENT = "killpath_import"
STREAK = "killpath_streak"
DEFINITIONS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    (
        "metrics",
        STREAK,
        {
            "type": "streak",
            "event": EVENT,
            "failure": {"path": "properties.status", "op": "eq", "value": "failed"},
        },
    ),
    ("metrics", "killpath_views", {"type": "count", "event": BACKGROUND, "group_by": ["properties.variant"]}),
    ("metrics", "killpath_view_ms", {"type": "value", "event": BACKGROUND, "value": "properties.duration_ms"}),
    ("flags", KEY, {"type": "boolean"}),
    # Never fires; because of it the background's updates go through alerting too.
    ("rules", "killpath_views", {"metric": "killpath_views", "direction": "above", "critical": 1e12, "window": "5m"}),
    (
        "breakers",
        KEY,
        # So long a time-out that nothing but our closing by hand ends the opening.
        {"metric": STREAK, "failure_threshold": THRESHOLD, "timeout_ms": 3_600_000, "flag": KEY, "notify": []},
    ),
)
_RETRYABLE = frozenset({429, 502, 503, 504})
_PATIENCE = 30.0
_POLL_SECONDS = 0.005


@dataclass(frozen=True, slots=True)
class Opening:
    """The record by which the breaker switched the flag off; `at` is when Kafka took it, by the broker's clock."""

    switch: Switch
    at: int


class Valve:
    """A client of one stack, as an async context manager. Everything raises BenchError when it does not happen."""

    def __init__(self, gateway: str, key: str, kafka: str, clock: Clock) -> None:
        self._gateway, self._key = gateway, key
        self._clock = clock
        self._kafka = kafka
        self._opening: asyncio.Future[Opening] = asyncio.get_running_loop().create_future()
        self._resources = AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as resources:
            self._http = await resources.enter_async_context(self._session())
            # Of its own, so that no other answer holds up a poll.
            self._polling = await resources.enter_async_context(self._session())
            switches = await assigned_consumer(self._kafka, SWITCHES.name)
            resources.push_async_callback(switches.stop)
            following = asyncio.create_task(self._follow(switches))
            resources.callback(following.cancel)
            self._resources = resources.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._resources.aclose()

    async def define(self) -> None:
        """Returns when the flag is known and on."""
        for kind, key, spec in DEFINITIONS:
            await self._ask("PUT", f"/api/v1/admin/{kind}/{key}", spec)
        await self.until_on()

    async def fail(self) -> tuple[int, int]:
        """One failed import. When it was sent and when the answer had come, in microseconds."""
        sent = self._clock()
        body = {"event_type": EVENT, "event_data": {"status": "failed"}}
        await self._ask("POST", "/api/v1/streaming-analytics/events", body)
        return sent, self._clock()

    async def close_breaker(self) -> None:
        await self._ask("POST", f"/api/v1/admin/breakers/{KEY}/close")
        await self.until_on()

    async def until_on(self) -> int:
        return await self._until(lambda on: on, "the flag is on")

    async def until_off(self) -> int:
        """When the first changed answer had come, in microseconds."""
        return await self._until(lambda on: not on, "the flag is off")

    def forget_openings(self) -> None:
        self._opening = asyncio.get_running_loop().create_future()

    async def opening(self) -> Opening:
        """The first one since `forget_openings`."""
        async with _patience("the switch's record"):
            return await self._opening

    async def _follow(self, switches: AIOKafkaConsumer) -> None:
        async for record in switches:
            switch = SWITCHES.decode(record.value)
            ours = switch.flag == KEY and switch.cause == f"breaker:{KEY}"
            if ours and switch.off and not self._opening.done():
                self._opening.set_result(Opening(switch, record.timestamp * 1_000))

    async def _until(self, wanted: Callable[[bool], bool], what: str) -> int:
        loop = asyncio.get_running_loop()
        due = loop.time()
        async with _patience(what):
            while True:
                answer = await self._evaluate()
                if answer is not None and wanted(answer):
                    return self._clock()
                due = max(due + _POLL_SECONDS, loop.time())
                await asyncio.sleep(due - loop.time())

    async def _evaluate(self) -> bool | None:
        """None while the flag is not known yet."""
        path, body = f"/ofrep/v1/evaluate/flags/{KEY}", {"context": {"targetingKey": "somebody"}}
        async with self._polling.post(path, json=body) as answer:
            if answer.status == 404 or answer.status in _RETRYABLE:
                return None
            value = (await _read(answer)).get("value")
            if not isinstance(value, bool):
                raise BenchError(f"the flag's answer is {value!r}")
            return value

    async def _ask(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        async with _patience(f"{method} {path}"):
            while True:
                async with self._http.request(method, path, json=body) as answer:
                    if answer.status not in _RETRYABLE:
                        return await _read(answer)
                await asyncio.sleep(0.1)

    def _session(self) -> aiohttp.ClientSession:
        timeout = aiohttp.ClientTimeout(total=_PATIENCE)
        return aiohttp.ClientSession(self._gateway, headers={"X-API-Key": self._key}, timeout=timeout)


@asynccontextmanager
async def _patience(what: str) -> AsyncIterator[None]:
    """Bounds a step; a time-out or a broken connection becomes a BenchError that names it."""
    try:
        async with asyncio.timeout(_PATIENCE):
            yield
    except TimeoutError as error:
        raise BenchError(f"{what}: not within {_PATIENCE:.0f} s") from error
    except aiohttp.ClientError as error:
        raise BenchError(f"{what}: {error}") from error


async def _read(answer: aiohttp.ClientResponse) -> dict[str, Any]:
    body = await answer.read()
    if not answer.ok:
        text = body.decode(errors="replace")[:500]
        raise BenchError(f"{answer.method} {answer.url.path} answered {answer.status}: {text}")
    decoded = msgspec.json.decode(body)
    return decoded if isinstance(decoded, dict) else {}
