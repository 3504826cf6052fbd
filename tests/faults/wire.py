"""HTTP/1.1 by hand, on one connection that is kept: what a client of ours costs must not hide what is measured."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import orjson


@dataclass(frozen=True, slots=True)
class Answer:
    """Header names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return orjson.loads(self.body)


class Wire:
    """One connection to a service on this machine. Every method raises OSError or EOFError once it is broken."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def opened(cls, port: int) -> Self:
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    async def post(self, path: str, key: str, body: bytes) -> Answer:
        self.begin(path, key, f"Content-Length: {len(body)}\r\nContent-Type: application/json")
        self._writer.write(body)
        return await self.answer()

    def begin(self, path: str, key: str, headers: str) -> None:
        """The head of a request; what it says of the body must then follow."""
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nX-API-Key: {key}\r\n{headers}\r\n\r\n"
        self._writer.write(head.encode())

    async def chunk(self, data: bytes) -> None:
        """A part of a chunked body, the last if it is empty."""
        self._writer.write(b"%x\r\n%b\r\n" % (len(data), data))
        await self._writer.drain()

    async def answer(self) -> Answer:
        lines = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {
            name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:] if line)
        }
        body = await self._reader.readexactly(int(headers.get("content-length", "0")))
        return Answer(int(lines[0].split()[1]), headers, body)

    def close(self) -> None:
        self._writer.close()
