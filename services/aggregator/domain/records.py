"""Records of one partition as columns: a million of them cost no million objects."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
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
    """Consecutive records, at least one: the i-th has the offset first_offset + i."""

    first_offset: int
    broker_times: Times
    values: list[bytes | None]

    @classmethod
    def of(cls, records: Sequence[Record]) -> Records:
        """Offsets must follow each other without a gap."""
        first = records[0].offset
        assert [r.offset for r in records] == list(range(first, first + len(records)))
        times = np.array([r.broker_time for r in records], dtype=np.int64)
        return cls(first, times, [r.value for r in records])

    def __len__(self) -> int:
        return len(self.values)

    @property
    def next_offset(self) -> int:
        return self.first_offset + len(self.values)

    def record(self, index: int) -> Record:
        """The record at 0 ≤ index < len(self)."""
        return Record(self.first_offset + index, int(self.broker_times[index]), self.values[index])

    def part(self, start: int, stop: int) -> Records:
        return Records(self.first_offset + start, self.broker_times[start:stop], self.values[start:stop])

    def beginning_at(self, offset: int) -> Records | None:
        """What does not lie below the offset; None if nothing is left."""
        below = offset - self.first_offset
        if below <= 0:
            return self
        return self.part(below, len(self)) if below < len(self) else None


def batches(fetched: Iterable[Records], max_records: int, max_bytes: int) -> Iterator[Records]:
    """Cuts and joins what was fetched of a partition, in order: no batch exceeds either limit but one whose only
    record does, and none spans a gap.
    """
    for run in _runs(fetched):
        yield from _cut(run, max_records, max_bytes)


def _runs(fetched: Iterable[Records]) -> Iterator[Records]:
    """Joins what follows each other without a gap."""
    parts = list(fetched)
    gaps = [0, *(a.next_offset != b.first_offset for a, b in pairwise(parts))]
    numbered = zip(np.cumsum(gaps).tolist(), parts, strict=False)
    for _, group in groupby(numbered, key=lambda pair: pair[0]):
        run = [part for _, part in group]
        if len(run) == 1:
            yield run[0]
        else:
            times = np.concatenate([part.broker_times for part in run])
            yield Records(run[0].first_offset, times, [value for part in run for value in part.values])


def _cut(records: Records, max_records: int, max_bytes: int) -> Iterator[Records]:
    """As many records as fit, again and again."""
    values = records.values
    sizes = np.fromiter(
        (len(value or b"") for value in values) if None in values else map(len, cast("list[bytes]", values)),
        dtype=np.int64,
        count=len(values),
    )
    ends = np.cumsum(sizes)
    start = done = 0
    while start < len(values):
        fitting = int(np.searchsorted(ends, done + max_bytes, side="right"))
        stop = min(max(fitting, start + 1), start + max_records)
        yield records.part(start, stop) if stop - start < len(values) else records
        start, done = stop, int(ends[stop - 1])
