"""Asks a local HTTP server for its health, without a client library."""

from __future__ import annotations

import asyncio
from contextlib import suppress


async def http_status(port: int, path: str, host: str = "127.0.0.1") -> int | None:
    """The status of `GET path`, or None when what answers does not speak HTTP. Raises `OSError`."""
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n".encode())
        await writer.drain()
        status_line = (await reader.readline()).split()
        return int(status_line[1]) if len(status_line) > 1 and status_line[1].isdigit() else None
    except ValueError:  # a first line longer than the reader's limit
        return None
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


async def is_ready(port: int) -> bool:
    """A service's own word that it can work."""
    return await http_status(port, "/readyz") == 200
