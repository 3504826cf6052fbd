"""A TCP proxy on loopback that fails on demand: cuts, refuses, swallows, and cuts Postgres's COMMIT in mid-flight."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from enum import Enum
from types import TracebackType
from typing import Self

from tests.faults.frontend import FrontendParser

_CHUNK = 256 * 1024
_ANSWER_SECONDS = 5.0


class Cut(Enum):
    """When a connection is cut, seen from a COMMIT on it."""

    BEFORE = "the server never sees it"
    AT = "it is on its way: the server may act on it, or find the connection gone first"
    AFTER = "the server has answered, the client never hears it"


class Proxy:
    """Forwards connections to a port of this machine. `port` is its own and stays the same while it refuses."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._server: asyncio.Server | None = None
        self._lines: set[_Line] = set()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._cuts: deque[Cut] = deque()
        self.port = 0
        self.made: list[Cut] = []
        """The COMMITs that were cut, and how."""

    @property
    def cuts_left(self) -> int:
        return len(self._cuts)

    def cut_commits(self, cuts: Iterable[Cut]) -> None:
        """The next COMMITs that pass are cut, one each."""
        self._cuts.extend(cuts)

    def cut(self) -> None:
        """Breaks every connection there is."""
        for line in list(self._lines):
            line.abort()

    async def refuse(self) -> None:
        """Breaks every connection and takes no new ones: the way is down."""
        if self._server is not None:
            self._server.close()
            self._server = None
        self.cut()

    async def accept(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    def swallow(self) -> None:
        """Connections stay and new ones are taken, but nothing comes through: a black hole."""
        self._flowing.clear()

    def flow(self) -> None:
        self._flowing.set()

    async def __aenter__(self) -> Self:
        await self.accept()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.refuse()
        self.flow()
        while self._lines:
            await asyncio.sleep(0.01)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = _Line(reader, writer)
        self._lines.add(line)
        try:
            if await line.connect(self._target):
                await self._forward(line)
        except OSError:
            pass  # one of the two has gone: so goes the other
        finally:
            line.abort()
            self._lines.discard(line)

    async def _forward(self, line: _Line) -> None:
        pumps = [asyncio.create_task(self._up(line)), asyncio.create_task(self._down(line))]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)

    async def _up(self, line: _Line) -> None:
        """From the client to the server. Returns when the connection is over."""
        assert line.server is not None
        parser = FrontendParser()
        while data := await line.from_client.read(_CHUNK):
            await self._flowing.wait()
            commit = parser.feed(data)
            if commit is None or not self._cuts:
                line.server.write(data)
                await line.server.drain()
                continue
            how = self._cuts.popleft()
            self.made.append(how)
            line.mute = how is Cut.AFTER
            line.server.write(data[: commit.begin] if how is Cut.BEFORE else data)
            await line.server.drain()
            if line.mute:
                await asyncio.sleep(_ANSWER_SECONDS)  # the other direction ends the connection with the answer
            return

    async def _down(self, line: _Line) -> None:
        assert line.from_server is not None
        while data := await line.from_server.read(_CHUNK):
            if line.mute:
                return
            await self._flowing.wait()
            line.client.write(data)
            await line.client.drain()


class _Line:
    """One connection's two ends."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.from_client = reader
        self.client = writer
        self.from_server: asyncio.StreamReader | None = None
        self.server: asyncio.StreamWriter | None = None
        self.mute = False

    async def connect(self, port: int) -> bool:
        try:
            self.from_server, self.server = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            return False
        return True

    def abort(self) -> None:
        for end in (self.client, self.server):
            if end is not None:
                end.transport.abort()
