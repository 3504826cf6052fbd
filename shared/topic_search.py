"""Finding records of a topic, newest first, in bounded time and memory: where a search stops, a cursor goes on.

What comes in meanwhile lies above the cursor, so pages neither skip nor repeat anything.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar

from aiokafka import ConsumerRecord

from shared.topic_reader import Stretch, Topic

T = TypeVar("T")

PIECE_BYTES = 8 * 1024 * 1024
"""So much of the topic is in memory for one search."""
PIECE_RECORDS = 2_000
PER_TURN = 100
"""Other requests have their turn after so many records."""
_FIRST_PIECE = 200
_GROWTH = 8
"""Of a piece after one that was small for its number of records."""


AT_ONCE = 4
PATIENCE = 10.0
"""Seconds."""


class Turns:
    """So many searches at a time, for each holds pieces in memory; the others wait for theirs, but not for ever."""

    def __init__(self, at_once: int = AT_ONCE, patience: float = PATIENCE) -> None:
        self._free = asyncio.Semaphore(at_once)
        self._patience = patience

    @asynccontextmanager
    async def one(self) -> AsyncIterator[None]:
        """Raises TimeoutError if too many are ahead."""
        async with asyncio.timeout(self._patience):
            await self._free.acquire()
        try:
            yield
        finally:
            self._free.release()


@dataclass(frozen=True, slots=True)
class Cursor:
    """Partition → offset from which a search goes on."""

    offsets: tuple[tuple[int, int], ...]

    @classmethod
    def parsed(cls, text: str) -> Cursor | None:
        """None for what `str()` of no cursor gives."""
        found: list[tuple[int, int]] = []
        for part in text.split("."):
            partition, _, offset = part.partition("-")
            if not (part.isascii() and partition.isdecimal() and offset.isdecimal()):
                return None
            if len(partition) > 9 or len(offset) > 18:
                return None
            found.append((int(partition), int(offset)))
        return cls(tuple(found))

    def __str__(self) -> str:
        return ".".join(f"{partition}-{offset}" for partition, offset in self.offsets)


@dataclass(frozen=True, slots=True)
class Bounds:
    """Where a search stops at the latest: what is found, its bytes, and the moment by the search's clock."""

    found: int
    deadline: float
    size: int = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """`cursor` is None if nothing is left to search."""

    found: list[T]
    searched: int
    cursor: Cursor | None


async def newest(
    topic: Topic,
    stretches: Mapping[int, Stretch],
    match: Callable[[ConsumerRecord], T | None],
    bounds: Bounds,
    cursor: Cursor | None,
    *,
    size_of: Callable[[T], int],
    piece_records: int = PIECE_RECORDS,
    now: Callable[[], float],
) -> Page[T]:
    """The newest records of the stretches that `match` makes something of, below the cursor, newest first.

    A piece of a partition is up to `piece_records`. `size_of` what is found counts towards the bounds' bytes. `now`
    is a monotonic clock in seconds. Raises KafkaError or TimeoutError.
    """
    if cursor is not None:
        stretches = _below(stretches, cursor)
    lanes = [_Lane(topic, number, stretch, len(stretches), piece_records) for number, stretch in stretches.items()]
    found: list[T] = []
    size = searched = 0
    while len(found) < bounds.found and size < bounds.size:
        if searched and now() > bounds.deadline:
            break
        for lane in lanes:
            if not lane.waiting:
                await lane.fill()
        filled = [lane for lane in lanes if lane.waiting]
        if not filled:
            break
        record = max(filled, key=_Lane.newest).take()
        searched += 1
        if not searched % PER_TURN:
            await asyncio.sleep(0)
        matched = match(record)
        if matched is not None:
            found.append(matched)
            size += size_of(matched)
    left = [(lane.number, lane.next_below) for lane in lanes if lane.next_below > lane.begin]
    return Page(found, searched, Cursor(tuple(left)) if left else None)


class _Lane:
    """One partition, read backwards piece by piece; pieces grow while their records are small."""

    def __init__(self, topic: Topic, number: int, stretch: Stretch, lanes: int, most: int) -> None:
        self._topic = topic
        self.number = number
        self.begin = stretch.begin
        self.next_below = stretch.end
        """Everything from here on has been taken."""
        self._records = _FIRST_PIECE
        self._most = most
        self._size = PIECE_BYTES // lanes
        self.waiting: list[ConsumerRecord] = []

    async def fill(self) -> None:
        if self.next_below <= self.begin:
            return
        stretch = Stretch(self.begin, self.next_below)
        self.waiting = await self._topic.last(self.number, stretch, records=self._records, size=self._size)
        if not self.waiting:
            self.next_below = self.begin
        elif len(self.waiting) < self._records:
            self._records = max(1, len(self.waiting))
        else:
            self._records = min(_GROWTH * self._records, self._most)

    def newest(self) -> tuple[int, int]:
        """When Kafka took the record that is next; those of one millisecond follow their offsets."""
        record = self.waiting[-1]
        return record.timestamp, record.offset

    def take(self) -> ConsumerRecord:
        record = self.waiting.pop()
        # What is before the first record of a piece may be gone, but is not known to be.
        self.next_below = record.offset
        return record


def _below(stretches: Mapping[int, Stretch], cursor: Cursor) -> dict[int, Stretch]:
    """A partition that the cursor does not name has been searched."""
    offsets = dict(cursor.offsets)
    return {n: Stretch(s.begin, min(s.end, offsets[n])) for n, s in stretches.items() if n in offsets}
