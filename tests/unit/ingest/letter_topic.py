"""The topics of dead letters and of their marks, in memory. Passes the suite of the real reader (`topic_suite`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from aiokafka import ConsumerRecord

from services.ingest.domain.letters.ledger import Ledger
from services.ingest.event_log import Record
from shared.kafka import partition_of
from shared.topic_reader import Stretch
from shared.topics import DEAD_LETTER_MARKS, DEAD_LETTERS
from tests.unit.ingest.fakes import PARTITIONS, MemoryLog


class LetterTopic(MemoryLog):
    """A log that can be read as a `Topic`; `now` (µs) is when Kafka takes what is appended, to the millisecond."""

    def __init__(self, now: int = 0) -> None:
        super().__init__()
        self.now = now
        self.unreachable = False
        self._records: list[list[ConsumerRecord]] = [[] for _ in range(PARTITIONS)]

    async def append(self, records: Sequence[Record]) -> None:
        await super().append(records)
        for key, value in records:
            partition = partition_of(key, PARTITIONS)
            offset = len(self._records[partition])
            self._records[partition].append(
                ConsumerRecord(
                    DEAD_LETTERS.name, partition, offset, self.now // 1_000, 1, key.encode(), value, None, 0, 0, ()
                )
            )
            self.now += 1_000

    async def stretches(self, since: int | None = None, until: int | None = None) -> Mapping[int, Stretch]:
        if self.unreachable:
            raise TimeoutError
        return {
            n: Stretch(
                sum(r.timestamp * 1_000 < (since or 0) for r in records),
                sum(until is None or r.timestamp * 1_000 < until for r in records),
            )
            for n, records in enumerate(self._records)
        }

    async def first(self, partition: int, stretch: Stretch, *, records: int, size: int) -> list[ConsumerRecord]:
        found: list[ConsumerRecord] = []
        for record in self._records[partition][stretch.begin : stretch.end][:records]:
            if found and sum(len(r.value) for r in found) >= size:
                break
            found.append(record)
        return found

    async def last(self, partition: int, stretch: Stretch, *, records: int, size: int) -> list[ConsumerRecord]:
        found = self._records[partition][stretch.begin : stretch.end][-records:]
        while len(found) > 1 and sum(len(r.value) for r in found) > size:
            found.pop(0)
        return found


class MarkTopic(MemoryLog):
    """A log of marks whose ledger reads along."""

    def __init__(self, ledger: Ledger) -> None:
        super().__init__()
        self._ledger = ledger

    async def append(self, records: Sequence[Record]) -> None:
        await super().append(records)
        for _, value in records:
            self._ledger.apply(DEAD_LETTER_MARKS.decode(value))


class StoredEvents:
    """An `EventFinder` that knows what it is told."""

    def __init__(self) -> None:
        self.ids: set[str] = set()
        self.asked: list[tuple[int, int]] = []

    async def stored(self, keys: Mapping[str, str], since: int, until: int) -> frozenset[str]:
        self.asked.append((since, until))
        return frozenset(self.ids & keys.keys())
