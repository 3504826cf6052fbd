"""One client's socket, from its acceptance to its farewell.

client ──message──► read ──► window ──► all that waits ──► Intake.take ──► acknowledgements ──► client
         (reading stops while the window is full)   (one call at a time, so events keep their order)
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from typing import Any

import msgspec

from services.ingest.domain.acknowledgement import Judged, acknowledgements
from services.ingest.domain.normalise import Reason, Rejected, read_event
from services.ingest.domain.stream_frame import (
    MAX_MESSAGE_EVENTS,
    Events,
    FrameFault,
    Hello,
    NoFrame,
    Ping,
    read_frame,
)
from services.ingest.domain.window import Window
from services.ingest.intake import EVENTS_PER_TURN, Given, Intake, Sender
from services.ingest.metrics import SocketMetrics
from shared.http import MAX_SOCKET_MESSAGE, Problem, Receive, Send
from shared.keys import Principal

PROTOCOL = "tidegate.v1"
"""The subprotocol that browsers ask for, and are given."""
ORIGIN = "websocket"
"""How dead letters name this way in."""

_READ_INLINE = 64 * 1024
"""Bytes of a message that is read at once."""

_GONE = (OSError, RuntimeError)
"""How sending fails when the client is gone, or the server has ended the connection by itself (no pong, 1009)."""

Admit = Callable[[str | None], Principal]
"""Who presents this key. Raises Problem."""


@dataclass(frozen=True, slots=True)
class StreamLimits:
    """`credit` messages or `window_bytes` of one connection may wait for Kafka, `total_bytes` of all together."""

    credit: int = 64
    window_bytes: int = MAX_SOCKET_MESSAGE
    total_bytes: int = 64 * 1024 * 1024
    connections: int = 20_000
    hello_seconds: float = 10.0
    drain_seconds: float = 12.0
    """Longer than Kafka may take to acknowledge."""
    rate_patience: float = 10.0
    """Seconds for which messages wait unacknowledged when their key has sent enough."""


class Code(Enum):
    """Why a connection is ended by us: the WebSocket close code."""

    GOING_AWAY = 1001
    POLICY = 1008
    TRY_AGAIN_LATER = 1013


@dataclass(frozen=True, slots=True)
class Farewell:
    """`reason` begins with a machine-readable word; with the code it may have 125 bytes."""

    code: Code
    reason: str


SHUTDOWN = Farewell(Code.GOING_AWAY, "shutdown: connect again")


@dataclass(slots=True)
class Total:
    """What all connections hold together, in bytes."""

    bytes: int = 0


@dataclass(frozen=True, slots=True)
class _Received:
    message: int
    size: int
    frame: Events | NoFrame


class Connection:
    """One client, from its acceptance to its farewell."""

    def __init__(
        self,
        receive: Receive,
        send: Send,
        intake: Intake,
        admit: Admit,
        metrics: SocketMetrics,
        limits: StreamLimits,
        total: Total,
    ) -> None:
        self._receive = receive
        self._send = send
        self._intake = intake
        self._admit = admit
        self._metrics = metrics
        self._limits = limits
        self._total = total
        self._context: dict[str, str] = {}
        self._window = Window(limits.credit, limits.window_bytes)
        self._waiting: list[_Received] = []
        self._news = asyncio.Event()
        self._room = asyncio.Event()
        self._reading: asyncio.Task[Any] | None = None
        self._leaving = False
        self._key: str | None = None
        self._messages = 0

    async def serve(self, key: str | None, context: Mapping[str, str]) -> None:
        """Returns when either side has ended the connection. `key` has been admitted; without one a hello brings it.

        `context` is what the client's request said of it.
        """
        self._context |= context
        self._key = key
        farewell = await self._greeted() if key is None else None
        if farewell is None and self._key is not None:
            await self._say(
                {
                    "type": "welcome",
                    "protocol": PROTOCOL,
                    "credit": self._limits.credit,
                    "max_message_bytes": MAX_SOCKET_MESSAGE,
                    "max_message_events": MAX_MESSAGE_EVENTS,
                }
            )
            farewell = await self._converse()
        if farewell is not None:
            self._metrics.closed[farewell.code.value].inc()
            with suppress(*_GONE):
                await self._send({"type": "websocket.close", "code": farewell.code.value, "reason": farewell.reason})

    def leave(self) -> None:
        """Ends the connection once everything is acknowledged that has been read."""
        self._leaving = True
        if self._reading is not None:
            self._reading.cancel()

    async def _greeted(self) -> Farewell | None:
        """Learns who connects from the first message."""
        reading = self._reading = asyncio.create_task(self._next())
        if self._leaving:
            reading.cancel()
        done, _ = await asyncio.wait([reading], timeout=self._limits.hello_seconds)
        if not done:
            reading.cancel()
            return Farewell(Code.POLICY, "key_missing: no hello came")
        if reading.cancelled():
            return SHUTDOWN
        raw = reading.result()
        if raw is None:
            return None
        hello = read_frame(raw)
        if not isinstance(hello, Hello):
            return Farewell(Code.POLICY, "key_missing: send a hello with your key first")
        try:
            self._admit(hello.key)
        except Problem as problem:
            return _farewell_of(problem)
        self._key = hello.key
        self._context |= hello.context
        return None

    async def _converse(self) -> Farewell | None:
        """Until the client goes, or we have a reason to; what was read is settled before."""
        reading = self._reading = asyncio.create_task(self._read())
        reading.add_done_callback(lambda _: self._news.set())
        if self._leaving:
            reading.cancel()
        try:
            while self._waiting or not reading.done():
                await self._news.wait()
                self._news.clear()
                if self._waiting:
                    await self._settle()
        except Problem as problem:
            return _farewell_of(problem)
        finally:
            reading.cancel()
            await asyncio.wait([reading])
            self._total.bytes -= self._window.bytes
        return SHUTDOWN if reading.cancelled() else reading.result()

    async def _read(self) -> Farewell | None:
        first = True
        while True:
            while self._window.full() is not None:
                self._room.clear()
                await self._room.wait()
            raw = await self._next()
            if raw is None:
                return None
            # A hostile message takes a microsecond a byte, which other connections should not wait for.
            frame = read_frame(raw) if len(raw) <= _READ_INLINE else await asyncio.to_thread(read_frame, raw)
            if isinstance(frame, Ping):
                await self._say({"type": "pong", "nonce": frame.nonce})
            elif isinstance(frame, Hello):
                if not first:
                    return Farewell(Code.POLICY, "hello_not_first")
                self._context |= frame.context
            else:
                self._messages += 1
                self._metrics.messages.inc()
                self._window.take(len(raw))
                self._total.bytes += len(raw)
                self._waiting.append(_Received(self._messages, len(raw), frame))
                self._news.set()
                if self._total.bytes > self._limits.total_bytes:
                    return Farewell(Code.TRY_AGAIN_LATER, "overloaded: connect again in 1 s, send the rest again")
            first = False

    async def _settle(self) -> None:
        """Stores what waits and says so. Raises Problem; then nothing of it is acknowledged."""
        waiting, self._waiting = self._waiting, []
        principal = self._admit(self._key)  # it may have been revoked
        given: list[Given] = []
        read = [(received, await self._given(received.frame, given)) for received in waiting]
        sender = Sender.of(principal, self._context, ORIGIN)
        patience = 0.0 if self._leaving else self._limits.rate_patience
        async with self._intake.within_limit(sender, len(given), patience=patience) as charged:
            verdicts = iter(await self._intake.take(given, charged))
        judged = [
            Judged(
                received.message,
                received.frame.seq,
                outcome if isinstance(outcome, NoFrame) else [next(verdicts) for _ in range(outcome)],
            )
            for received, outcome in read
        ]
        size = sum(received.size for received in waiting)
        self._window.settle(len(waiting), size)
        self._total.bytes -= size
        self._room.set()
        for acknowledgement in acknowledgements(judged):
            await self._say(acknowledgement)

    async def _given(self, frame: Events | NoFrame, given: list[Given]) -> int | NoFrame:
        """Adds the message's events to `given` and says how many, or why it has none."""
        if isinstance(frame, NoFrame):
            return frame
        events: list[Given] = []
        for raw in frame.raws:
            body = read_event(raw)
            if isinstance(body, Rejected) and body.reason is Reason.MALFORMED:
                return NoFrame(frame.seq, FrameFault.MALFORMED, body.detail)
            events.append((raw, body))
            if not len(events) % EVENTS_PER_TURN:
                await asyncio.sleep(0)
        given += events
        return len(events)

    async def _next(self) -> bytes | None:
        """The next message's bytes; None if the client is gone."""
        message = await self._receive()
        if message["type"] == "websocket.disconnect":
            return None
        text: str | None = message.get("text")
        data: bytes = message["bytes"] if text is None else text.encode()
        return data

    async def _say(self, words: Mapping[str, Any]) -> None:
        # If the client is gone the next read tells it; what it has sent is kept nevertheless.
        with suppress(*_GONE):
            await self._send({"type": "websocket.send", "text": msgspec.json.encode(words).decode()})


def _farewell_of(problem: Problem) -> Farewell:
    if problem.status in (429, 503):
        wait = problem.headers.get("Retry-After", "1")
        return Farewell(Code.TRY_AGAIN_LATER, f"{problem.reason}: connect again in {wait} s, send the rest again")
    return Farewell(Code.POLICY, problem.reason)
