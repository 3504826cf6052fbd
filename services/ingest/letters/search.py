"""Finding dead letters on their topic, in bounded time and memory: where a search stops, a cursor goes on."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass

import msgspec
from aiokafka import ConsumerRecord

from services.ingest.domain.letters.selection import Cursor, Reference, Selection, Viewer
from services.ingest.topic_reader import Stretch, Topic
from shared.messages import DeadLetter
from shared.topics import DEAD_LETTERS

logger = logging.getLogger(__name__)

PIECE_BYTES = 8 * 1024 * 1024
"""So much of the topic is in memory for one search."""
PIECE_RECORDS = 2_000
_FIRST_PIECE = 200
_PER_TURN = 100
"""Other requests have their turn after so many letters."""


@dataclass(frozen=True, slots=True)
class Found:
    """A letter and where it lies; `rejected_at` is when Kafka took it (µs UTC)."""

    reference: Reference
    rejected_at: int
    letter: DeadLetter


_ALL = Selection()


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is searched for. `since` and `until` bound when Kafka took the letter (µs UTC, `until` excluded)."""

    viewer: Viewer
    selection: Selection = _ALL
    since: int | None = None
    until: int | None = None
    picked: Callable[[Found], Found | None] = lambda found: found
    """A last look, for what is not in the letter itself."""

    def of(self, record: ConsumerRecord) -> Found | None:
        letter = decoded(record)
        if letter is None or self.viewer.visible(letter) is None or self.selection.selected(letter) is None:
            return None
        reference = Reference.to(record.partition, record.offset, letter)
        return self.picked(Found(reference, record.timestamp * 1_000, letter))


@dataclass(frozen=True, slots=True)
class Bounds:
    """Where a search stops at the latest: letters found, their bytes, and the moment by `now`."""

    found: int
    deadline: float
    size: int = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Page:
    """`cursor` is None if nothing is left to search."""

    found: list[Found]
    searched: int
    cursor: Cursor | None


class LetterSearch:
    """`now` is a monotonic clock in seconds."""

    def __init__(self, topic: Topic, now: Callable[[], float]) -> None:
        self._topic = topic
        self.now = now

    async def newest(self, wanted: Wanted, bounds: Bounds, cursor: Cursor | None = None) -> Page:
        """The newest letters below the cursor, newest first. Raises KafkaError or TimeoutError."""
        stretches = await self._stretches(wanted)
        if cursor is not None:
            stretches = _below(stretches, cursor)
        lanes = [_Lane(self._topic, number, stretch, len(stretches)) for number, stretch in stretches.items()]
        found: list[Found] = []
        size = searched = 0
        while len(found) < bounds.found and size < bounds.size:
            if searched and self.now() > bounds.deadline:
                break
            for lane in lanes:
                await lane.fill()
            filled = [lane for lane in lanes if lane.waiting]
            if not filled:
                break
            record = max(filled, key=lambda lane: lane.waiting[-1].timestamp).take()
            searched += 1
            if not searched % _PER_TURN:
                await asyncio.sleep(0)
            match = wanted.of(record)
            if match is not None:
                found.append(match)
                size += len(match.letter.payload)
        left = [(lane.number, lane.next_below) for lane in lanes if lane.next_below > lane.begin]
        return Page(found, searched, Cursor(tuple(left)) if left else None)

    async def oldest(self, wanted: Wanted, cursor: Cursor | None = None) -> AsyncIterator[Page]:
        """All letters from the cursor on up to now, oldest first within a partition, a page at a time.

        Every page but the last has a cursor. Raises KafkaError or TimeoutError.
        """
        stretches = dict(await self._stretches(wanted))
        if cursor is not None:
            stretches = _above(stretches, cursor)
        for number, stretch in sorted(stretches.items()):
            begin = stretch.begin
            while begin < stretch.end:
                rest = Stretch(begin, stretch.end)
                records = await self._topic.first(number, rest, records=PIECE_RECORDS, size=PIECE_BYTES)
                begin = records[-1].offset + 1 if records else stretch.end
                stretches[number] = Stretch(begin, stretch.end)
                left = [(n, s.begin) for n, s in sorted(stretches.items()) if s.begin < s.end]
                yield Page(await _matches(wanted, records), len(records), Cursor(tuple(left)) if left else None)

    async def one(self, reference: Reference, viewer: Viewer) -> Found | None:
        """The letter, if it is still there and may be seen. Raises KafkaError or TimeoutError."""
        stretch = (await self._topic.stretches()).get(reference.partition)
        if stretch is None or not stretch.begin <= reference.offset < stretch.end:
            return None
        one = Stretch(reference.offset, reference.offset + 1)
        for record in await self._topic.first(reference.partition, one, records=1, size=1):
            found = Wanted(viewer).of(record)
            return found if found is not None and found.reference == reference else None
        return None

    async def _stretches(self, wanted: Wanted) -> Mapping[int, Stretch]:
        return await self._topic.stretches(wanted.since, wanted.until)


def decoded(record: ConsumerRecord) -> DeadLetter | None:
    try:
        return DEAD_LETTERS.decode(record.value or b"")
    except msgspec.MsgspecError as error:
        logger.warning("undecodable dead letter", extra={"offset": record.offset, "error": str(error)})
        return None


async def _matches(wanted: Wanted, records: Sequence[ConsumerRecord]) -> list[Found]:
    found: list[Found] = []
    for number, record in enumerate(records, 1):
        match = wanted.of(record)
        if match is not None:
            found.append(match)
        if not number % _PER_TURN:
            await asyncio.sleep(0)
    return found


class _Lane:
    """One partition, read backwards piece by piece; pieces grow while their records are small."""

    def __init__(self, topic: Topic, number: int, stretch: Stretch, lanes: int) -> None:
        self._topic = topic
        self.number = number
        self.begin = stretch.begin
        self.next_below = stretch.end
        """Everything from here on has been taken."""
        self._records = _FIRST_PIECE
        self._size = PIECE_BYTES // lanes
        self.waiting: list[ConsumerRecord] = []

    async def fill(self) -> None:
        if self.waiting or self.next_below <= self.begin:
            return
        stretch = Stretch(self.begin, self.next_below)
        self.waiting = await self._topic.last(self.number, stretch, records=self._records, size=self._size)
        if not self.waiting:
            self.next_below = self.begin
        elif len(self.waiting) < self._records:
            self._records = max(1, len(self.waiting))
        else:
            self._records = min(2 * self._records, PIECE_RECORDS)

    def take(self) -> ConsumerRecord:
        record = self.waiting.pop()
        # What is before the first record of a piece may be gone, but is not known to be.
        self.next_below = record.offset
        return record


def _below(stretches: Mapping[int, Stretch], cursor: Cursor) -> dict[int, Stretch]:
    """A partition that the cursor does not name has been searched."""
    offsets = dict(cursor.offsets)
    return {n: Stretch(s.begin, min(s.end, offsets[n])) for n, s in stretches.items() if n in offsets}


def _above(stretches: Mapping[int, Stretch], cursor: Cursor) -> dict[int, Stretch]:
    offsets = dict(cursor.offsets)
    return {n: Stretch(max(s.begin, offsets[n]), s.end) for n, s in stretches.items() if n in offsets}
