"""Digests in files: each run is ordered by the digests' first halves, and never changes.

What stays in memory is where each of a run's buckets begins; a bucket holds the digests whose first halves begin
alike. One look-up reads one bucket: some 50 digests of 16 bytes, laid out as in `IdTable`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from services.aggregator.domain.id_filter import Indices
from services.aggregator.domain.id_table import MINUTE, ORDERED_BITS, Words, in_order

_PER_BUCKET = 48
_AT_ONCE = 1 << 14
"""Digests that a look-up or a merge has in memory at a time, unless a single bucket holds more."""


class RunFile(Protocol):
    """Bytes that are written once and then read; gone as soon as nothing refers to the object.

    Whatever keeps it from working is no error that its user could handle.
    """

    def append(self, data: memoryview) -> None: ...

    def read(self, offsets: Sequence[int], sizes: Sequence[int]) -> bytes:
        """The spans one after the other; all lie within what was appended."""
        ...


NewFile = Callable[[], RunFile]


class MemoryFile:
    """Implements RunFile without a disk."""

    def __init__(self) -> None:
        self._bytes = bytearray()

    def append(self, data: memoryview) -> None:
        self._bytes += data

    def read(self, offsets: Sequence[int], sizes: Sequence[int]) -> bytes:
        return b"".join(self._bytes[o : o + size] for o, size in zip(offsets, sizes, strict=True))


class Run:
    """Digests as slots of two words; minutes count from `base`."""

    def __init__(self, file: RunFile, base: int, parts: Iterable[Words], expected: int) -> None:
        """Writes the parts, of about `expected` slots together, ordered by their first words throughout."""
        buckets = 1
        while buckets * _PER_BUCKET < expected and buckets < 1 << ORDERED_BITS:
            buckets *= 2
        self._file = file
        self._base = base
        self._shift = np.uint64(65 - buckets.bit_length())
        sizes = np.zeros(buckets, dtype=np.int64)
        newest = 0
        for part in parts:
            file.append(part.reshape(-1).view(np.uint8).data)
            sizes += np.bincount(self._bucket(part[:, 0]), minlength=buckets)
            newest = max(newest, int((part[:, 1] & MINUTE).max(initial=0)))
        self._starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.uint32)
        self.newest = base + newest
        """The latest minute in which any of them was seen."""

    def __len__(self) -> int:
        return int(self._starts[-1])

    @property
    def buckets(self) -> int:
        return len(self._starts) - 1

    @property
    def memory_bytes(self) -> int:
        return self._starts.nbytes

    def find(self, high: Words, low: Words) -> tuple[Indices, npt.NDArray[np.int64]]:
        """Which of the digests are here, and the minutes in which they were seen."""
        buckets = self._bucket(high)
        starts = self._starts.take(buckets).astype(np.int64)
        sizes = self._starts.take(buckets + 1).astype(np.int64) - starts
        which, seen_at = [], []
        for some in _cuts(sizes):
            slots = self._read(starts[some], sizes[some])
            owners = np.repeat(np.arange(some.start, some.stop), sizes[some])
            # Slots of one digest differ in their minutes only.
            equal = np.flatnonzero((slots[:, 1] ^ low.take(owners)) <= MINUTE)
            equal = equal[slots[equal, 0] == high.take(owners.take(equal))]
            which.append(owners.take(equal))
            seen_at.append((slots[equal, 1] & MINUTE).astype(np.int64) + self._base)
        return np.concatenate(which), np.concatenate(seen_at)

    def ranges(self, count: int, oldest: int, base: int) -> Iterator[Words]:
        """All that was seen in `oldest` or later, in so many ranges, with minutes counted from `base`."""
        bounds = self._starts[:: self.buckets // count].astype(np.int64)
        moved = np.uint64((self._base - base) % 2**64)
        for i in range(count):
            slots = self._read(bounds[i : i + 1], bounds[i + 1 : i + 2] - bounds[i])
            live = (slots[:, 1] & MINUTE).astype(np.int64) + self._base >= oldest
            kept = slots.take(np.flatnonzero(live), axis=0)
            kept[:, 1] += moved
            yield kept

    def _bucket(self, high: Words) -> npt.NDArray[np.int64]:
        return (high >> self._shift).astype(np.int64)

    def _read(self, starts: npt.NDArray[np.int64], sizes: npt.NDArray[np.int64]) -> Words:
        raw = self._file.read((starts * 16).tolist(), (sizes * 16).tolist())
        return np.frombuffer(raw, dtype=np.uint64).reshape(-1, 2)


def merged(runs: Sequence[Run], file: RunFile, oldest: int) -> Run:
    """One run of all that was seen in `oldest` or later."""
    base, total, count = oldest - 1, sum(map(len, runs)), 1
    while count * _AT_ONCE < total and count < min(run.buckets for run in runs):
        count *= 2
    by_range = zip(*(run.ranges(count, oldest, base) for run in runs), strict=True)
    return Run(file, base, map(_in_order, by_range), total)


def _in_order(parts: tuple[Words, ...]) -> Words:
    return in_order(np.concatenate([part[:, 0] for part in parts]), np.concatenate([part[:, 1] for part in parts]))


def _cuts(sizes: npt.NDArray[np.int64]) -> Iterator[slice]:
    """Consecutive slices that hold `_AT_ONCE` together, or one that holds more."""
    ends = np.cumsum(sizes)
    begin = 0
    while begin < len(sizes):
        before = ends[begin - 1] if begin else 0
        end = max(int(np.searchsorted(ends, before + _AT_ONCE, side="right")), begin + 1)
        yield slice(begin, end)
        begin = end
