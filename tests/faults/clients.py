"""Clients of every kind that go on whatever they are answered, and write down all of it.

What they send has ids of their own, and what is not acknowledged is sent again: by single events and batches on
connections that are kept, by an upload of lines, and over a WebSocket.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any
from zlib import crc32

import orjson
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidMessage, InvalidStatus

from tests.faults.wire import Answer, Wire

EVENTS = "/api/v1/streaming-analytics/events"
BATCHES = f"{EVENTS}/batch"
STREAM = f"{EVENTS}/stream"
_BROKEN = (OSError, EOFError)


@dataclass(slots=True)
class Heard:
    """What the service said. `now` is the event loop's clock."""

    now: Callable[[], float]
    acknowledged: set[str] = field(default_factory=set)
    statuses: Counter[str] = field(default_factory=Counter)
    """By way in, status and reason, as `single 503 overloaded`; of a connection that broke `single broken`."""
    without_retry_after: int = 0
    """Refusals that do not say when to come again."""
    waits: Counter[str] = field(default_factory=Counter)
    """By what Retry-After says."""
    successes: list[float] = field(default_factory=list)
    """When answers 202 came."""
    slowest: float = 0.0
    """Seconds that the slowest answer took."""

    def note(self, way: str, answer: Answer, since: float) -> bool:
        """Whether it is a success."""
        self.slowest = max(self.slowest, self.now() - since)
        if answer.status == 202:
            self.statuses[f"{way} 202"] += 1
            self.successes.append(self.now())
            return True
        self.statuses[f"{way} {answer.status} {answer.json()['reason']}"] += 1
        self.note_wait(answer.headers.get("retry-after"))
        return False

    def note_wait(self, retry_after: str | None) -> None:
        if retry_after is None or not retry_after.isdigit():
            self.without_retry_after += 1
        else:
            self.waits[retry_after] += 1

    def broken(self, way: str) -> None:
        self.statuses[f"{way} broken"] += 1


@dataclass(frozen=True, slots=True)
class Target:
    port: Callable[[], int]
    key: str
    name: str
    """What all ids begin with."""

    def event(self, event_id: str) -> dict[str, Any]:
        return {
            "event_id": event_id,
            "event_type": self.name,
            "user_id": f"user-{crc32(event_id.encode()) % 997}",
            "event_data": {"weight": weight_of(event_id), "page": "/checkout", "items": [1, 2, 3], "note": "n" * 80},
        }


def weight_of(event_id: str) -> int:
    """Almost an id: if the weights of events add up, it is exactly these events that have been counted."""
    return crc32(event_id.encode()) % 1_000_000


@dataclass(frozen=True, slots=True)
class Load:
    """So many clients of each kind; `pause` are the seconds between two requests of one connection."""

    singles: int = 30
    batches: int = 10
    batch: int = 50
    pause: float = 0.1
    uploads: int = 1
    lines: int = 20_000
    """Of an upload's file."""
    sockets: int = 1


BUSY = Load()
QUIET = Load(singles=0, batches=0, uploads=0, sockets=0)


class Clients:
    """Everything that `load` says, until `stop`; then each client finishes what it has begun."""

    def __init__(self, target: Target, load: Load, heard: Heard) -> None:
        self._target = target
        self._load = load
        self._heard = heard
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        self._stopping.set()

    async def run(self, prefix: str = "") -> None:
        """Returns when everything that was sent is acknowledged. `prefix` keeps ids apart on one target.

        Raises whatever no outage explains.
        """
        load = self._load
        async with asyncio.TaskGroup() as group:
            for n in range(load.singles):
                group.create_task(self._keep_posting(f"{prefix}s{n}", "single", EVENTS, 1))
            for n in range(load.batches):
                group.create_task(self._keep_posting(f"{prefix}b{n}", "batch", BATCHES, load.batch))
            for n in range(load.uploads):
                group.create_task(self._keep_uploading(f"{prefix}u{n}"))
            for n in range(load.sockets):
                group.create_task(self._keep_streaming(f"{prefix}w{n}"))

    async def _pause(self, seconds: float) -> None:
        """Does not last beyond `stop`, except that nobody may ask all the time."""
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            return
        await asyncio.sleep(min(seconds, 0.05))

    async def _keep_posting(self, who: str, way: str, path: str, events: int) -> None:
        heard, number, wire = self._heard, 0, None
        while not self._stopping.is_set():
            ids = [f"{self._target.name}-{who}-{number}-{n}" for n in range(events)]
            number += 1
            elements = [self._target.event(one) for one in ids]
            body = orjson.dumps(elements[0] if path == EVENTS else {"events": elements})
            while True:
                since = heard.now()
                try:
                    if wire is None:
                        wire = await Wire.opened(self._target.port())
                    answer = await wire.post(path, self._target.key, body)
                except _BROKEN:
                    heard.broken(way)
                    if wire is not None:
                        wire.close()
                        wire = None
                    await self._pause(_RECONNECT_SECONDS)
                else:
                    if answer.headers.get("connection") == "close":
                        wire.close()
                        wire = None
                    if heard.note(way, answer, since):
                        heard.acknowledged.update(ids)
                        break
                    assert answer.status in (429, 503), answer
                await self._pause(self._load.pause)
            await self._pause(self._load.pause)
        if wire is not None:
            wire.close()

    async def _keep_uploading(self, who: str) -> None:
        """Files of lines that take some seconds each, gone on with from the line that an answer names."""
        number = 0
        while not self._stopping.is_set():
            ids = [f"{self._target.name}-{who}-{number}-{n}" for n in range(self._load.lines)]
            number += 1
            line = 1
            while line <= len(ids):
                line = await self._upload(ids, line)
            self._heard.acknowledged.update(ids)

    async def _upload(self, ids: Sequence[str], first: int) -> int:
        """From the line `first`; returns the one to go on from."""
        since = self._heard.now()
        try:
            wire = await Wire.opened(self._target.port())
        except OSError:
            self._heard.broken("upload")
            await self._pause(self._load.pause)
            return first
        wire.begin(
            f"{BATCHES}?first_line={first}",
            self._target.key,
            "Transfer-Encoding: chunked\r\nContent-Type: application/x-ndjson",
        )
        answering = asyncio.create_task(wire.answer())
        try:
            for start in range(first - 1, len(ids), _LINES_AT_ONCE):
                lines = [orjson.dumps(self._target.event(one)) for one in ids[start : start + _LINES_AT_ONCE]]
                await wire.chunk(b"\n".join(lines) + b"\n")
                await asyncio.wait([answering], timeout=self._load.pause)
                if answering.done():
                    break
            else:
                await wire.chunk(b"")
                since = self._heard.now()
            answer = await answering
        except _BROKEN:
            self._heard.broken("upload")
            await self._pause(self._load.pause)
            return first
        finally:
            answering.cancel()
            wire.close()
        if not self._heard.note("upload", answer, since):
            assert answer.status in (429, 503), answer
            await self._pause(float(answer.headers.get("retry-after", "1")))
        next_line: int = answer.json()["next_line"]
        assert next_line >= first, answer
        return next_line

    async def _keep_streaming(self, who: str) -> None:
        """One message after the other, many unanswered; after a farewell the rest again."""
        waiting: dict[int, str] = {}
        numbers = count()
        while waiting or not self._stopping.is_set():
            url = f"ws://127.0.0.1:{self._target.port()}{STREAM}"
            try:
                async with connect(url, additional_headers={"X-API-Key": self._target.key}) as socket:
                    await self._stream(socket, who, waiting, numbers)
            except InvalidStatus as refusal:
                response = refusal.response
                self._heard.statuses[f"socket {response.status_code} {orjson.loads(response.body)['reason']}"] += 1
                self._heard.note_wait(response.headers.get("Retry-After"))
                assert response.status_code in (429, 503), response
            except ConnectionClosed as farewell:
                closed = farewell.rcvd
                self._heard.statuses["socket broken" if closed is None else f"socket {closed.code}"] += 1
                if closed is not None and closed.code not in _COME_AGAIN:
                    raise
            except (*_BROKEN, InvalidMessage):
                self._heard.broken("socket")
            await self._pause(1.0)

    async def _stream(
        self, socket: ClientConnection, who: str, waiting: dict[int, str], numbers: Iterator[int]
    ) -> None:
        """`waiting` has the ids of messages without acknowledgement, which come first."""
        welcome = orjson.loads(await socket.recv())
        assert welcome["type"] == "welcome", welcome
        for seq, event_id in list(waiting.items()):
            await socket.send(self._message(seq, event_id))
        receiving = asyncio.create_task(self._acknowledged(socket, waiting))
        try:
            while not receiving.done() and (waiting or not self._stopping.is_set()):
                if len(waiting) < _UNANSWERED and not self._stopping.is_set():
                    seq = next(numbers)
                    waiting[seq] = f"{self._target.name}-{who}-{seq}"
                    await socket.send(self._message(seq, waiting[seq]))
                await asyncio.wait([receiving], timeout=_SOCKET_PAUSE)
            if receiving.done():
                receiving.result()
        except ConnectionClosed:
            await self._last_words(receiving)
            raise
        finally:
            receiving.cancel()

    async def _last_words(self, receiving: Awaitable[None]) -> None:
        try:
            await receiving
        except ConnectionClosed:
            return

    async def _acknowledged(self, socket: ClientConnection, waiting: dict[int, str]) -> None:
        async for raw in socket:
            said = orjson.loads(raw)
            if said["type"] == "ack":
                assert not said.keys() & {"invalid", "refused"}, said
                for seq in [seq for seq in waiting if seq <= said["seq"]]:
                    self._heard.acknowledged.add(waiting.pop(seq))
                self._heard.successes.append(self._heard.now())
                self._heard.statuses["socket ack"] += 1

    def _message(self, seq: int, event_id: str) -> str:
        return orjson.dumps({"seq": seq, "events": [self._target.event(event_id)]}).decode()


_COME_AGAIN = (1001, 1012, 1013)
"""Close codes."""
_LINES_AT_ONCE = 200
_RECONNECT_SECONDS = 0.1
_UNANSWERED = 40
"""Messages, below the credit that every connection is given."""
_SOCKET_PAUSE = 0.05
