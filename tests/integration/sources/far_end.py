"""Somebody else's server: one growing list, shown in every way a source can read, that can be cut off."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

from aiohttp import WSMsgType, web

TOKEN = "correct-horse-battery"
_PAGE = 7


class FarEnd:
    """`items` grows by `add`; `restart` breaks every connection and refuses new ones for a while."""

    def __init__(self, port: int | None = None) -> None:
        self.items: list[dict[str, Any]] = []
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.statuses: list[int] = []
        self.asked_after: list[str | None] = []
        self.extra: str | None = None
        """Sent once, as it is, by the streams."""
        self._grown = asyncio.Event()
        self._port = _free_port() if port is None else port
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def add(self, number: int) -> None:
        for _ in range(number):
            self.items.append({"id": len(self.items), "type": "measured"})
        self._grown.set()
        self._grown = asyncio.Event()

    async def start(self) -> None:
        app = web.Application()
        routes: dict[str, Callable[[web.Request], Awaitable[web.StreamResponse]]] = {
            "/list": self._list,
            "/cursor": self._cursor,
            "/pages": self._pages,
            "/sse": self._sse,
            "/ws": self._socket,
        }
        for path, handle in routes.items():
            app.router.add_get(path, self._guarded(handle))
        self._runner = web.AppRunner(app, shutdown_timeout=0.05)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self._port, reuse_address=True).start()

    async def stop(self) -> None:
        if self._runner is not None:
            for connection in list(self._runner.server.connections if self._runner.server else ()):
                if connection.transport is not None:
                    connection.transport.abort()
            await self._runner.cleanup()

    async def restart(self, *, away: float = 0.3) -> None:
        await self.stop()
        await asyncio.sleep(away)
        await self.start()

    def _guarded(
        self, handle: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def guarded(request: web.Request) -> web.StreamResponse:
            self.requests.append((request.path_qs, dict(request.headers)))
            if request.headers.get("Authorization") != f"Bearer {TOKEN}":
                return web.Response(status=401)
            if self.statuses:
                return web.Response(status=self.statuses.pop(0), headers={"Retry-After": "1"})
            return await handle(request)

        return guarded

    async def _list(self, request: web.Request) -> web.Response:
        tag = f'"{len(self.items)}"'
        if request.headers.get("If-None-Match") == tag:
            return web.Response(status=304)
        return web.json_response({"data": self.items}, headers={"ETag": tag})

    async def _cursor(self, request: web.Request) -> web.Response:
        after = int(request.query.get("after", "-1"))
        self.asked_after.append(request.query.get("after"))
        page = self.items[after + 1 : after + 1 + _PAGE]
        return web.json_response({"data": page, "meta": {"last": page[-1]["id"] if page else None}})

    async def _pages(self, request: web.Request) -> web.Response:
        number = int(request.query.get("page", "0"))
        page = self.items[number * _PAGE : (number + 1) * _PAGE]
        more = len(self.items) > (number + 1) * _PAGE
        return web.json_response({"data": page, "links": {"next": f"/pages?page={number + 1}" if more else None}})

    async def _sse(self, request: web.Request) -> web.StreamResponse:
        last = request.headers.get("Last-Event-ID")
        self.asked_after.append(last)
        answer = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await answer.prepare(request)
        await answer.write(b"retry: 100\n: hello\n\n")
        if self.extra is not None:
            extra, self.extra = self.extra, None
            await answer.write(f"data: {extra}\n\n".encode())
        async for item in self._from(-1 if last is None else int(last)):
            await answer.write(f"id: {item['id']}\nevent: m\ndata: {json.dumps(item)}\n\n".encode())
        return answer

    async def _socket(self, request: web.Request) -> web.WebSocketResponse:
        after = request.query.get("after")
        self.asked_after.append(after)
        socket = web.WebSocketResponse(heartbeat=5)
        await socket.prepare(request)
        if self.extra is not None:
            extra, self.extra = self.extra, None
            await socket.send_str(extra)
        sending = asyncio.create_task(self._send_all(socket, -1 if after is None else int(after)))
        async for message in socket:
            if message.type in (WSMsgType.CLOSE, WSMsgType.ERROR):
                break
        sending.cancel()
        return socket

    async def _send_all(self, socket: web.WebSocketResponse, after: int) -> None:
        with suppress(ConnectionError):
            async for item in self._from(after):
                await socket.send_str(json.dumps(item))

    async def _from(self, after: int) -> AsyncIterator[dict[str, Any]]:
        position = after + 1
        while True:
            grown = self._grown
            while position < len(self.items):
                yield self.items[position]
                position += 1
            await grown.wait()


@asynccontextmanager
async def far_end() -> AsyncIterator[FarEnd]:
    server = FarEnd()
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
