"""What waits for Kafka, by partition, and who waits for it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Protocol

from services.ingest.event_log import Cause

Encoded = tuple[bytes, bytes]
"""A record's key and value."""


class Batch(Protocol):
    """`RecordBatch`: one partition's next batch."""

    def extend(self, records: Sequence[Encoded]) -> int:
        """Appends from the front until the batch is full; returns how many. Into an empty batch one always goes."""

    def close(self) -> None: ...


class Ticket:
    """One call of `append`, done when none of its parcels is missing."""

    __slots__ = ("born", "future", "missing")

    def __init__(self, future: asyncio.Future[Cause | None], born: float) -> None:
        # Not an exception in the future: its traceback would hold all that the waiting call holds, in a cycle.
        self.future = future
        self.missing = 0
        self.born = born

    def stored(self) -> None:
        self.missing -= 1
        if not self.missing and not self.future.done():
            self.future.set_result(None)

    def failed(self, cause: Cause) -> None:
        if not self.future.done():
            self.future.set_result(cause)


class Parcel:
    """The records of one call for one partition: they move together, unless a batch has room only for some."""

    __slots__ = ("records", "size", "ticket")

    def __init__(self, records: Sequence[Encoded], size: int, ticket: Ticket) -> None:
        self.records = records
        self.size = size
        self.ticket = ticket
        ticket.missing += 1

    def split(self, count: int) -> Parcel:
        """Takes the first `count` records out, as a parcel of their own."""
        first = Parcel(self.records[:count], size_of(self.records[:count]), self.ticket)
        self.records = self.records[count:]
        self.size -= first.size
        return first


def size_of(records: Sequence[Encoded]) -> int:
    """Bytes of keys and values."""
    return sum([len(key) + len(value) for key, value in records])


class Lane:
    """One partition: what waits, in order, and what travels."""

    def __init__(self, partition: int) -> None:
        self.partition = partition
        self.queue: deque[Parcel] = deque()
        self.in_flight: list[Parcel] = []
        self.filled = asyncio.Event()

    def put(self, parcel: Parcel) -> None:
        self.queue.append(parcel)
        self.filled.set()

    def fill(self, batch: Batch) -> None:
        """Moves from the queue what fits into `batch`; the first record always does."""
        queue = self.queue
        while queue:
            parcel = queue[0]
            count = batch.extend(parcel.records)
            if count < len(parcel.records):
                if count:
                    self.in_flight.append(parcel.split(count))
                break
            self.in_flight.append(queue.popleft())
        batch.close()
        if not queue:
            self.filled.clear()

    def take_in_flight(self) -> list[Parcel]:
        taken, self.in_flight = self.in_flight, []
        return taken

    def take_queued(self, *, born_before: float = float("inf")) -> list[Parcel]:
        taken: list[Parcel] = []
        while self.queue and self.queue[0].ticket.born < born_before:
            taken.append(self.queue.popleft())
        if not self.queue:
            self.filled.clear()
        return taken

    def oldest(self) -> float | None:
        waiting = self.in_flight or self.queue
        return waiting[0].ticket.born if waiting else None
