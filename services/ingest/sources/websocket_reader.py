"""A WebSocket that others serve: its messages as they come, and after a break from where the last stored one stands.

socket ─► queue (bounded: a full one leaves the rest to TCP) ─► all that waits ─► intake ─► position
"""

from __future__ import annotations

import asyncio
import json
import uuid
from contextlib import suppress
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
from yarl import URL

from services.ingest.domain.normalise import MAX_EVENT_BYTES
from services.ingest.domain.sources.connections import WebSocketConnection
from services.ingest.domain.sources.expression import ExpressionError
from services.ingest.domain.sources.identity import event_id_of
from services.ingest.sources.delivery import Delivery, Message
from services.ingest.sources.far_end import retry_after
from services.ingest.sources.reader import ReadError

_WAITING = 64
"""Messages that are read ahead; each may be as large as `_MAX_MESSAGE`."""
_MAX_MESSAGE = 4 * MAX_EVENT_BYTES
_CONNECT_SECONDS = 10
_CLOSE_SECONDS = 2


async def read_websocket(connection: WebSocketConnection, delivery: Delivery) -> None:
    """Raises ReadError, OSError, TimeoutError, and what `Delivery` raises."""
    position = await delivery.position()
    url = URL(connection.url)
    last = position.get("last") if position.get("url") == connection.url else None
    if connection.resume_parameter is not None and last is not None:
        url = url.update_query({connection.resume_parameter: last})
    opening = connect(
        str(url),
        additional_headers=dict(connection.headers),
        open_timeout=_CONNECT_SECONDS,
        close_timeout=_CLOSE_SECONDS,
        ping_interval=connection.ping,
        ping_timeout=connection.ping,
        max_size=_MAX_MESSAGE,
        max_queue=16,
        user_agent_header="Tidegate",
        proxy=None,
    )
    try:
        async with opening as socket:
            if connection.subscribe is not None:
                await socket.send(connection.subscribe)
            delivery.works()
            await _Reader(connection, delivery).read(socket)
    except InvalidStatus as error:
        asked = retry_after(error.response.headers.get("Retry-After"))
        raise ReadError(f"HTTP {error.response.status_code} instead of a WebSocket", retry_after=asked) from None
    except InvalidHandshake as error:
        raise ReadError(f"no WebSocket: {error}") from None


class _Reader:
    def __init__(self, connection: WebSocketConnection, delivery: Delivery) -> None:
        self._connection = connection
        self._delivery = delivery
        self._queue: asyncio.Queue[str | bytes | None] = asyncio.Queue(_WAITING)

    async def read(self, socket: ClientConnection) -> None:
        """Until the far end closes; what came before is stored first. Raises ReadError then."""
        pump = asyncio.create_task(self._pump(socket), name="websocket")
        try:
            while (first := await self._queue.get()) is not None:
                waiting: list[str | bytes] = [first]
                with suppress(asyncio.QueueEmpty):
                    while (more := self._queue.get_nowait()) is not None:
                        waiting.append(more)
                    self._queue.put_nowait(None)  # the end, for the next turn
                await self._store([_bytes(content) for content in waiting])
        finally:
            pump.cancel()
            (outcome,) = await asyncio.gather(pump, return_exceptions=True)
        raise ReadError(f"the socket was closed: {outcome}")

    async def _pump(self, socket: ClientConnection) -> str:
        try:
            while True:
                await self._queue.put(await socket.recv())
        except Exception as closed:  # of any kind: who reads the queue must hear of the end
            await self._queue.put(None)
            return str(closed) if isinstance(closed, ConnectionClosed | OSError) else repr(closed)

    async def _store(self, raws: list[bytes]) -> None:
        key, resumes = self._delivery.definition.key, self._connection.resume is not None
        # Where the far end repeats messages after a break, equal ones are the same; elsewhere each is one of its own.
        await self._delivery.take(
            [Message(raw, event_id_of(key, raw) if resumes else uuid.uuid4().hex) for raw in raws]
        )
        places = [place for raw in raws if (place := self._place(raw)) is not None] if resumes else []
        if places:
            await self._delivery.save({"url": self._connection.url, "last": places[-1]})

    def _place(self, raw: bytes) -> str | None:
        """What the far end is to go on after; None if the message does not say."""
        assert self._connection.resume is not None
        try:
            found: Any = self._connection.resume.search(json.loads(raw), len(raw))
        except (ExpressionError, ValueError, RecursionError):
            return None
        return str(found) if isinstance(found, str | int | float) and not isinstance(found, bool) else None


def _bytes(content: str | bytes) -> bytes:
    return content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content
