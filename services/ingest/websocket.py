"""Events in over a WebSocket: sent without waiting, acknowledged when Kafka has them.

What is not acknowledged is to be sent again, over a new connection, with the same event ids.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from urllib.parse import parse_qsl

from services.ingest.domain.client_context import context_of
from services.ingest.domain.stream_frame import context_from
from services.ingest.intake import Intake
from services.ingest.metrics import SocketMetrics
from services.ingest.socket_connection import PROTOCOL, Admit, Connection, StreamLimits, Total
from shared.http import AsgiScope, Problem, Receive, Send, presented_key, unavailable

STREAM_PATH = "/api/v1/streaming-analytics/events/stream"
KEY_PROTOCOL = "tidegate.key."
"""What a second subprotocol begins with that carries the key, and is never given back."""

_KEY_IN_URL = frozenset({"key", "api_key", "apikey", "x-api-key", "token", "access_token", "authorization"})


class EventStream:
    """The ASGI application at `STREAM_PATH`. `drain` ends its connections in order."""

    def __init__(
        self, intake: Intake, *, admit: Admit, metrics: SocketMetrics, limits: StreamLimits | None = None
    ) -> None:
        self._intake = intake
        self._admit = admit
        self._metrics = metrics
        self._limits = limits or StreamLimits()
        self._total = Total()
        self._connections: set[Connection] = set()
        self._draining = False
        self._empty = asyncio.Event()
        self._empty.set()
        metrics.open.set_function(lambda: len(self._connections))

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        await receive()  # websocket.connect
        query = dict(parse_qsl(scope["query_string"].decode("latin-1")))
        scope["query_string"] = b""  # the server writes the URL to its log
        offered = scope["subprotocols"]
        try:
            key = self._key(scope, query)
            if key is not None:
                self._admit(key)
        except Problem as problem:
            await _refuse(receive, send, problem)
            return
        connection = Connection(receive, send, self._intake, self._admit, self._metrics, self._limits, self._total)
        self._connections.add(connection)
        self._empty.clear()
        try:
            await send({"type": "websocket.accept", "subprotocol": PROTOCOL if PROTOCOL in offered else None})
            await connection.serve(key, {**context_of(scope["headers"]), **context_from(query)})
        except OSError:
            return  # the client went away during the handshake
        finally:
            self._connections.discard(connection)
            if not self._connections:
                self._empty.set()

    async def drain(self) -> None:
        """Reads nothing more, acknowledges what has been read, and ends every connection with 1001."""
        self._draining = True
        for connection in list(self._connections):
            connection.leave()
        with suppress(TimeoutError):
            async with asyncio.timeout(self._limits.drain_seconds):
                await self._empty.wait()

    def _key(self, scope: AsgiScope, query: Mapping[str, str]) -> str | None:
        if scope["path"] != STREAM_PATH:
            raise Problem(404, "not_found", f"events are streamed to {STREAM_PATH}")
        if _KEY_IN_URL & {name.lower() for name in query}:
            raise Problem(
                400, "key_in_url", "URLs are logged: send the key as a header, subprotocol or first message"
            )
        if self._draining or len(self._connections) >= self._limits.connections:
            raise unavailable("no more connections are taken; connect again later", reason="overloaded")
        self._intake.check_room()
        offered = (name.removeprefix(KEY_PROTOCOL) for name in scope["subprotocols"] if name.startswith(KEY_PROTOCOL))
        return presented_key(scope["headers"]) or next(offered, None)


async def _refuse(receive: Receive, send: Send, problem: Problem) -> None:
    """An HTTP answer instead of a connection."""
    headers = {"Content-Type": "application/problem+json", **problem.headers}
    raw = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
    await send({"type": "websocket.http.response.start", "status": problem.status, "headers": raw})
    await send({"type": "websocket.http.response.body", "body": problem.body()})
    # uvicorn complains of a handshake that is not complete unless the connection has ended.
    with suppress(TimeoutError):
        async with asyncio.timeout(1):
            await receive()
            await receive()
