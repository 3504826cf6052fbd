"""Where events are recorded, and how they get to the thread that sends them."""

from __future__ import annotations

import asyncio
import atexit
import os
import random
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any
from uuid import uuid4

from shared.clock import Clock, system_clock
from tidegate.telemetry.buffer import Buffer
from tidegate.telemetry.connection import Connection
from tidegate.telemetry.context import ClientContext
from tidegate.telemetry.guard import harmless
from tidegate.telemetry.job import Job
from tidegate.telemetry.note import Note, encoder, snapshot
from tidegate.telemetry.policy import Policy
from tidegate.telemetry.scope import Subject
from tidegate.telemetry.sender import Sender
from tidegate.telemetry.stats import Stats, Tally
from tidegate.telemetry.transport import HttpTransport, Transport


class Telemetry:
    """Sends to the gateway at `url` with an ingest key. One for the whole process, usable by all its threads.

    Recording never raises and never waits for the network; a process that forks goes on in both. What has been
    recorded and not sent when the process ends is sent then, within the policy's `exit_deadline`.
    Raises ValueError if `url` is none, or `key` cannot be one.
    """

    def __init__(
        self,
        url: str,
        key: str,
        *,
        policy: Policy | None = None,
        clock: Clock = system_clock,
        monotonic: Callable[[], float] = time.monotonic,
        connect: Callable[[], Transport] | None = None,
    ) -> None:
        self._policy = policy or Policy()
        self._clock = clock
        self._monotonic = monotonic
        timeout = self._policy.timeout
        self._connect: Callable[[], Transport] = connect or (lambda: HttpTransport(url, key, timeout=timeout))
        self._connect()  # a wrong URL is told at once
        self._begin()
        atexit.register(_close, weakref.ref(self))
        os.register_at_fork(after_in_child=partial(_begin_again, weakref.ref(self)))

    @property
    def tally(self) -> Tally:
        return self._tally

    def monotonic(self) -> float:
        """Seconds, of the clock by which durations are measured."""
        return self._monotonic()

    def connection(
        self,
        *,
        pipeline: str = "unknown",
        job_id: str | None = None,
        connection_id: str | None = None,
        user_id: str | None = None,
        context: ClientContext | None = None,
    ) -> Connection:
        """A client's WebSocket; nothing is recorded yet. It gets an id if it has none."""
        subject = Subject(pipeline, job_id, connection_id or uuid4().hex, user_id, context)
        return Connection(self, self._tally, self._policy, subject, None)

    def job(
        self, job_id: str, *, pipeline: str, user_id: str | None = None, context: ClientContext | None = None
    ) -> Job:
        """A background job; nothing is recorded yet."""
        return Job(self, self._tally, self._policy, Subject(pipeline, job_id, None, user_id, context))

    @harmless
    def record(
        self,
        event_type: str,
        event_data: Mapping[str, Any] | None = None,
        *,
        job_id: str | None = None,
        session_id: str | None = None,
        user_id: str | None = None,
        context: ClientContext | None = None,
    ) -> None:
        """Any event. `event_data` may change afterwards: it is made JSON at once, which takes the caller longer."""
        self._put(event_type, snapshot(dict(event_data or {})), Subject("", job_id, session_id, user_id, context))

    def note(self, event_type: str, data: dict[str, Any], subject: Subject) -> None:
        """An event of which `data` is small and belongs to us from now on; it is made JSON when it is sent."""
        self._put(event_type, data, subject)

    def stats(self) -> Stats:
        return self._buffer.stats()

    def flush(self, timeout: float = 5.0) -> bool:
        """Sends what waits now. False if that took longer than `timeout` seconds; it goes on nevertheless."""
        return self._buffer.flushed(timeout)

    def close(self, timeout: float = 5.0) -> bool:
        """Sends what waits; what cannot be sent within `timeout` seconds, and what comes later, is dropped."""
        self._buffer.close()
        if self._thread is not None:
            self._thread.join(timeout)
        return not self._buffer.abandon()

    async def aflush(self, timeout: float = 5.0) -> bool:
        """`flush` for event loops."""
        return await asyncio.to_thread(self.flush, timeout)

    async def aclose(self, timeout: float = 5.0) -> bool:
        """`close` for event loops."""
        return await asyncio.to_thread(self.close, timeout)

    def close_at_exit(self) -> None:
        """As `close`, within the policy's deadline."""
        self.close(self._policy.exit_deadline)

    def begin_again(self) -> None:
        """In a child process: what waits in the parent is sent by the parent, and its locks may be held."""
        self._ended.detach()
        self._begin()

    def _begin(self) -> None:
        policy = self._policy
        self._tally = Tally()
        self._buffer = Buffer(policy.max_events, policy.max_bytes, self._tally, encoder())
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None
        self._ended = weakref.finalize(self, self._buffer.close)  # what nobody uses any more keeps no thread
        self._ended.atexit = False

    def _put(self, event_type: str, data: dict[str, Any] | str, subject: Subject) -> None:
        self._buffer.put(Note(event_type, self._clock(), subject, data))
        if self._thread is None:
            self._start()

    def _start(self) -> None:
        with self._starting:
            if self._thread is not None:
                return
            sender = Sender(
                self._buffer,
                self._connect(),
                self._policy,
                self._tally,
                monotonic=time.monotonic,
                jitter=random.Random(),
            )
            thread = threading.Thread(target=sender.run, name="tidegate-telemetry", daemon=True)
            thread.start()
            self._thread = thread


def _close(telemetry: weakref.ref[Telemetry]) -> None:
    found = telemetry()
    if found is not None:
        found.close_at_exit()


def _begin_again(telemetry: weakref.ref[Telemetry]) -> None:
    found = telemetry()
    if found is not None:
        found.begin_again()
