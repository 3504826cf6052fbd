"""Records of one partition as columns: a million of them cost no million objects."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import cast

import msgspec
import numpy as np
import numpy.typing as npt

Times = npt.NDArray[np.int64]
"""µs since the epoch."""


class Record(msgspec.Struct, frozen=True, gc=False):
    """One Kafka record: `broker_time` in µs since the epoch (LogAppendTime)."""

    offset: int
    broker_time: int
    value: bytes | None


@dataclass(frozen=True, slots=True, eq=False)
class Records:
    """Consecutive records, at least one: the i-th has the offset first_offset + i. Their values have `size` bytes."""

    first_offset: int
    broker_times: Times
    values: list[bytes | None]
    size: int

    @classmethod
    def of(cls, records: Sequence[Record]) -> Records:
        """Offsets must follow each other without a gap."""
        first = records[0].offset
        assert [r.offset for r in records] == list(range(first, first + len(records)))
        times = np.array([r.broker_time for r in records], dtype=np.int64)
        return cls.made_of(first, times, [r.value for r in records])

    @classmethod
    def made_of(cls, first_offset: int, broker_times: Times, values: list[bytes | None]) -> Records:
        return cls(first_offset, broker_times, values, sum(sizes_of(values)))

    @classmethod
    def joined(cls, parts: Sequence[Records]) -> Records:
        """Of parts that follow each other without a gap."""
        if len(parts) == 1:
            return parts[0]
        values: list[bytes | None] = []
        for part in parts:
            values += part.values
        times = np.concatenate([part.broker_times for part in parts])
        return cls(parts[0].first_offset, times, values, sum(part.size for part in parts))

    def __len__(self) -> int:
        return len(self.values)

    @property
    def next_offset(self) -> int:
        return self.first_offset + len(self.values)

    def record(self, index: int) -> Record:
        """The record at 0 ≤ index < len(self)."""
        return Record(self.first_offset + index, int(self.broker_times[index]), self.values[index])

    def part(self, start: int, stop: int) -> Records:
        times, values = self.broker_times[start:stop], self.values[start:stop]
        return Records.made_of(self.first_offset + start, times, values)

    def beginning_at(self, offset: int) -> Records | None:
        """What does not lie below the offset; None if nothing is left."""
        below = offset - self.first_offset
        if below <= 0:
            return self
        return self.part(below, len(self)) if below < len(self) else None


def sizes_of(values: Sequence[bytes | None]) -> Iterator[int]:
    """Bytes of each value."""
    if all(values):
        return map(len, cast("Sequence[bytes]", values))
    return (len(value or b"") for value in values)


def batches(fetched: Iterable[Records], max_records: int, max_bytes: int) -> Iterator[Records]:
    """Cuts and joins what was fetched of a partition, in order: no batch exceeds either limit but one whose only
    record does, and none spans a gap. What fits is not looked into.
    """
    waiting: list[Records] = []
    count = size = 0
    for part in chain.from_iterable(_cut(part, max_records, max_bytes) for part in fetched):
        fits = count + len(part) <= max_records and size + part.size <= max_bytes
        if waiting and not (fits and waiting[-1].next_offset == part.first_offset):
            yield Records.joined(waiting)
            waiting, count, size = [], 0, 0
        waiting.append(part)
        count, size = count + len(part), size + part.size
    if waiting:
        yield Records.joined(waiting)


def _cut(records: Records, max_records: int, max_bytes: int) -> Iterator[Records]:
    """As many records as fit, again and again."""
    if len(records) <= max_records and records.size <= max_bytes:
        yield records
        return
    ends = np.cumsum(np.fromiter(sizes_of(records.values), dtype=np.int64, count=len(records)))
    start = done = 0
    while start < len(records):
        fitting = int(np.searchsorted(ends, done + max_bytes, side="right"))
        stop = min(max(fitting, start + 1), start + max_records)
        yield records.part(start, stop) if stop - start < len(records) else records
        start, done = stop, int(ends[stop - 1])
