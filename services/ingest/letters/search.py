"""Finding dead letters on their topic, in bounded time and memory: where a search stops, a cursor goes on."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass

import msgspec
from aiokafka import ConsumerRecord

from services.ingest.domain.letters.selection import Reference, Selection, Viewer
from shared.messages import DeadLetter
from shared.topic_reader import Stretch, Topic
from shared.topic_search import PER_TURN, PIECE_BYTES, PIECE_RECORDS, Bounds, Cursor, Page, Turns, newest
from shared.topics import DEAD_LETTERS

logger = logging.getLogger(__name__)


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


class LetterSearch:
    """`now` is a monotonic clock in seconds."""

    def __init__(self, topic: Topic, now: Callable[[], float]) -> None:
        self._topic = topic
        self.now = now
        self.turns = Turns()

    async def newest(self, wanted: Wanted, bounds: Bounds, cursor: Cursor | None = None) -> Page[Found]:
        """The newest letters below the cursor, newest first. Raises KafkaError or TimeoutError."""
        async with self.turns.one():
            stretches = await self._stretches(wanted)
            return await newest(
                self._topic,
                stretches,
                wanted.of,
                bounds,
                cursor,
                size_of=lambda found: len(found.letter.payload),
                now=self.now,
            )

    async def oldest(self, wanted: Wanted, cursor: Cursor | None = None) -> AsyncIterator[Page[Found]]:
        """All letters from the cursor on up to now, oldest first within a partition, a page at a time.

        Every page but the last has a cursor; whoever takes them without pause asks for a turn. Raises KafkaError or
        TimeoutError.
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
        if not number % PER_TURN:
            await asyncio.sleep(0)
    return found


def _above(stretches: Mapping[int, Stretch], cursor: Cursor) -> dict[int, Stretch]:
    offsets = dict(cursor.offsets)
    return {n: Stretch(max(s.begin, offsets[n]), s.end) for n, s in stretches.items() if n in offsets}
