"""What waits for Kafka, by partition, and who waits for it."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Protocol

from services.ingest.event_log import Cause, NotStoredError


class Batch(Protocol):
    """aiokafka's BatchBuilder."""

    def append(self, *, timestamp: int | None, key: bytes | None, value: bytes | None) -> object | None: ...

    def close(self) -> None: ...


class Ticket:
    """One call of `append`, done when none of its records is missing."""

    __slots__ = ("born", "future", "missing")

    def __init__(self, future: asyncio.Future[None], missing: int, born: float) -> None:
        self.future = future
        self.missing = missing
        self.born = born

    def stored(self) -> None:
        self.missing -= 1
        if not self.missing and not self.future.done():
            self.future.set_result(None)

    def failed(self, cause: Cause) -> None:
        if not self.future.done():
            self.future.set_exception(NotStoredError(cause))


Waiting = tuple[bytes, bytes, Ticket]
"""Key, value, and who waits for it."""


class Lane:
    """One partition: what waits, in order, and what travels."""

    def __init__(self, partition: int) -> None:
        self.partition = partition
        self.queue: deque[Waiting] = deque()
        self.in_flight: list[Waiting] = []
        self.filled = asyncio.Event()

    def fill(self, batch: Batch) -> None:
        """Moves from the queue what fits into `batch`; the first record always does."""
        queue = self.queue
        while queue:
            key, value, _ = queue[0]
            if batch.append(timestamp=None, key=key, value=value) is None:
                break
            self.in_flight.append(queue.popleft())
        batch.close()
        if not queue:
            self.filled.clear()

    def take_in_flight(self) -> list[Waiting]:
        taken, self.in_flight = self.in_flight, []
        return taken

    def take_queued(self, *, born_before: float = float("inf")) -> list[Waiting]:
        taken: list[Waiting] = []
        while self.queue and self.queue[0][2].born < born_before:
            taken.append(self.queue.popleft())
        if not self.queue:
            self.filled.clear()
        return taken

    def oldest(self) -> float | None:
        first = self.in_flight[0] if self.in_flight else self.queue[0] if self.queue else None
        return first[2].born if first else None
