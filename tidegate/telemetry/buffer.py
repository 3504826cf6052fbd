"""Events that wait to be sent, in bounded memory, between the threads that record them and the one that sends.

recording threads ──put──► notes ──gather──► events ──batch──► platform ──remove──►
            (no lock, no waking)     (by the sending thread, a few times a second)
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from itertools import islice

from tidegate.telemetry.note import Note
from tidegate.telemetry.stats import Drop, Stats, Tally

logger = logging.getLogger(__name__)


class Buffer:
    """At most `max_events`, of which those that are JSON have at most `max_bytes` together. Each is tallied."""

    def __init__(self, max_events: int, max_bytes: int, tally: Tally, encode: Callable[[Note], bytes]) -> None:
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._tally = tally
        self._encode = encode
        self._notes: deque[Note] = deque()
        self._events: deque[bytes] = deque()
        self._bytes = 0
        self._changed = threading.Condition(threading.Lock())
        self._flushes = 0
        self._closed = False

    def __len__(self) -> int:
        return len(self._notes) + len(self._events)

    @property
    def closed(self) -> bool:
        return self._closed

    def put(self, note: Note) -> None:
        """For any thread, and for the usual, small note without a lock: each thread may exceed the limit by one."""
        if self._closed or len(self._notes) + len(self._events) >= self._max_events or not self._has_room(note):
            self._tally.record()
            self._tally.drop(Drop.FULL)
        else:
            self._notes.append(note)

    def gather(self) -> None:
        """Makes events of what has been noted."""
        with self._changed:
            for _ in range(len(self._notes)):
                note = self._notes.popleft()
                self._tally.record()
                self._bytes -= len(note.data) if isinstance(note.data, str) else 0
                try:
                    event = self._encode(note)
                except Exception:  # whatever the caller's values do: the thread goes on
                    if self._tally.drop(Drop.UNUSABLE) == 1:
                        logger.exception("telemetry is no JSON; the next such events are only counted")
                    continue
                if self._bytes + len(event) > self._max_bytes:
                    self._tally.drop(Drop.FULL)
                    continue
                self._events.append(event)
                self._bytes += len(event)
            if not self._events:
                self._changed.notify_all()

    def batch(self, events: int, size: int) -> list[bytes]:
        """The oldest: at most so many, and not more than `size` bytes unless it is one. They stay until `remove`."""
        with self._changed:
            found: list[bytes] = []
            for event in islice(self._events, events):
                size -= len(event)
                if found and size < 0:
                    break
                found.append(event)
            return found

    def remove(self, count: int) -> int:
        """The oldest `count` are done with. Returns how many of them were still there."""
        with self._changed:
            count = min(count, len(self._events))
            for _ in range(count):
                self._bytes -= len(self._events.popleft())
            if not self:
                self._changed.notify_all()
            return count

    def close(self) -> None:
        """Nothing more comes, and what is there waits neither for company nor for long between attempts."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def abandon(self) -> int:
        """Drops what is still there, and returns how much it was."""
        self.gather()
        left = self.remove(len(self._events))
        self._tally.drop(Drop.UNSENT, left)
        return left

    def stats(self) -> Stats:
        with self._changed:
            return self._tally.stats(len(self._notes))

    def wait(self, seconds: float) -> None:
        """Until the time is over, or somebody waits for the buffer to be empty."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or (self._flushes and len(self)), seconds)

    def pause(self, seconds: float) -> None:
        """Until the time is over, the buffer closes, or somebody has emptied it."""
        with self._changed:
            closed = self._closed
            self._changed.wait_for(lambda: not self._events or self._closed is not closed, seconds)

    def flushed(self, seconds: float) -> bool:
        """Waits until the buffer is empty; False if the time is over before."""
        with self._changed:
            self._flushes += 1
            self._changed.notify_all()
            try:
                return self._changed.wait_for(lambda: not len(self), seconds)
            finally:
                self._flushes -= 1

    def _has_room(self, note: Note) -> bool:
        if not isinstance(note.data, str):
            return True
        with self._changed:
            if self._bytes + len(note.data) > self._max_bytes:
                return False
            self._bytes += len(note.data)
            return True
