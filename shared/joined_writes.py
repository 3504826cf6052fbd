"""A transport that sends the head of an answer together with what follows it at once.

uvicorn writes head and body one by one. Each write is a system call and a packet of its own, and wakes the client
twice: for a short answer that is a fifth of what the request costs.
"""

from __future__ import annotations

import asyncio
from typing import Any

_BEGIN = b"HTTP/1."
_END = b"\r\n\r\n"


class JoinedWrites:
    """Around `transport`, which does all else. A head waits for its body until the event loop's next turn at most."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._head = b""

    def write(self, data: bytes) -> None:
        if self._head:
            self._transport.write(self._head + data)
            self._head = b""
        elif data.startswith(_BEGIN) and data.endswith(_END):
            self._head = data
            self._loop.call_soon(self._send_head)
        else:
            self._transport.write(data)

    def close(self) -> None:
        self._send_head()
        self._transport.close()

    def _send_head(self) -> None:
        if self._head:
            self._transport.write(self._head)
            self._head = b""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)
