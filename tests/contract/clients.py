"""What the tests of unmodified clients share: ingest as a program, a line to it that fails, and what arrived."""

from __future__ import annotations

import asyncio
import uuid
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import Any

import httpx

from shared.clock import SECOND, from_datetime
from shared.kafka import Publisher, Tail
from shared.keys import describe_key, new_key
from shared.messages import Event
from shared.topics import EVENTS, KEYS
from tests.programs import Program
from tests.waiting import eventually


class Fault(Enum):
    """What happens to one request on its way."""

    UNAVAILABLE = "answered with 503 and Retry-After"
    CUT = "the connection ends within the request"
    SWALLOWED = "ingest has taken it, and the connection ends before the answer"


FAULTS: Sequence[tuple[Fault, ...]] = ((), (Fault.UNAVAILABLE,), (Fault.CUT,), (Fault.SWALLOWED,))
"""What the first requests of a test meet."""

_UNAVAILABLE = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/problem+json\r\nRetry-After: 1\r\n"
    b"Connection: close\r\nContent-Length: 2\r\n\r\n{}"
)


class Line:
    """Forwards connections to a port of this machine; the first ones meet `faults`, one each."""

    def __init__(self, target: int, faults: Sequence[Fault]) -> None:
        self._target = target
        self.faults = deque(faults)
        self.port = 0
        self._connections: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Line]:
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            for connection in list(self._connections):
                connection.cancel()
            await asyncio.gather(*self._connections, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = asyncio.create_task(self._serve(reader, writer))
        self._connections.add(connection)
        connection.add_done_callback(self._connections.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            fault = self.faults.popleft() if self.faults else None
            if fault is Fault.CUT:
                writer.transport.abort()
            elif fault is Fault.UNAVAILABLE:
                await _read_body(head, reader)
                writer.write(_UNAVAILABLE)
                await writer.drain()
            else:
                await self._forward(head, reader, writer, is_heard=fault is None)
        except (OSError, asyncio.IncompleteReadError):
            pass  # the client has gone
        finally:
            writer.close()

    async def _forward(
        self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_heard: bool
    ) -> None:
        from_ingest, to_ingest = await asyncio.open_connection("127.0.0.1", self._target)
        to_ingest.write(head)
        sending = asyncio.create_task(_pump(reader, to_ingest))
        try:
            if is_heard:
                await _pump(from_ingest, writer)
            else:
                await from_ingest.read(1)
                writer.transport.abort()
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
            to_ingest.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(64 * 1024):
        writer.write(data)
        await writer.drain()


async def _read_body(head: bytes, reader: asyncio.StreamReader) -> None:
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            await reader.readexactly(int(line.partition(b":")[2]))
            return
    await reader.readuntil(b"0\r\n\r\n")


class Ingest:
    """A running process of the service. Each test has an organisation, and so a topic, of its own."""

    def __init__(self, program: Program, tail: Tail, publisher: Publisher) -> None:
        self.program = program
        self._tail = tail
        self._publisher = publisher

    @classmethod
    @asynccontextmanager
    async def running(cls, kafka: str, log: Path) -> AsyncIterator[Ingest]:
        env = {"TIDEGATE_KAFKA": kafka, "TIDEGATE_POSTGRES": "postgresql://nobody@127.0.0.1:1/none"}
        publisher, tail = Publisher(kafka), Tail(kafka, EVENTS.name)
        await publisher.start()
        await tail.start()
        try:
            async with Program("services.ingest", log=log, env=env) as program:
                yield cls(program, tail, publisher)
        finally:
            await tail.stop()
            await publisher.stop()

    async def project(self) -> Project:
        key, organisation = new_key(), f"org-{uuid.uuid4().hex[:8]}"
        await self._publisher.publish(KEYS, describe_key(key, organisation=organisation, scope="ingest"))
        async with httpx.AsyncClient(base_url=self.program.url) as client:

            async def is_known() -> bool:
                answer = await client.post("/v1/batch", json={"batch": [], "writeKey": key})
                return answer.status_code == 200

            await eventually(is_known, "ingest knows the new key")
        return Project(self, organisation, key)

    async def events_of(self, organisation: str) -> list[Event]:
        records = await self._tail.read(100_000, deadline=60)
        events = [EVENTS.decode(record.value) for record in records]
        return [event for event in events if event.organisation == organisation]

    def line(self, faults: Sequence[Fault] = ()) -> Line:
        return Line(self.program.port, faults)


class Project:
    """One organisation with its key."""

    def __init__(self, ingest: Ingest, organisation: str, key: str) -> None:
        self._ingest = ingest
        self._organisation = organisation
        self.key = key

    async def arrived(self, count: int) -> list[Event]:
        """All events, by time of the client, once `count` have come; a repetition under the same id is none more."""

        async def enough() -> bool:
            return len({event.event_id for event in await self.events()}) >= count

        await eventually(enough, f"{count} events have arrived")
        return await self.events()

    async def events(self) -> list[Event]:
        return await self._ingest.events_of(self._organisation)


SEGMENT_CALLS: Mapping[str, tuple[Any, ...]] = {
    "m-identify": ("identify", "u-1", "a-1", {"plan": "pro"}),
    "m-track": ("Order Completed", "u-1", None, {"revenue": 19.9}),
    "m-page": ("page", "u-1", None, {"name": "Home", "category": "Docs", "path": "/"}),
    "m-screen": ("screen", None, "a-1", {"name": "Cart", "category": "Shop"}),
    "m-group": ("group", "u-1", None, {"groupId": "acme", "seats": 5}),
    "m-alias": ("alias", "u-2", "a-2", {"previousId": "a-2"}),
}
"""What both of Segment's clients send in these tests, as `shown` shows it: each of its calls once."""


def shown(events: Sequence[Event]) -> dict[str, tuple[Any, ...]]:
    """Who did what, by id: type, user, visitor, properties. What came twice under one id must be the same."""
    found: dict[str, tuple[Any, ...]] = {}
    for event in events:
        what = (event.event_type, event.user_id, event.anonymous_id, event.properties)
        assert found.setdefault(event.event_id, what) == what
    return found


def happened(events: Sequence[Event], moment: datetime) -> bool:
    """Whether they are dated when the client said, but for the time that a request and its repetitions took."""
    return all(abs(event.time - from_datetime(moment)) < 60 * SECOND for event in events)
