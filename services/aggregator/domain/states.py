"""What a cell of a window holds beside its sums: states that merge in any order; equal contents give equal bytes."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np

from services.aggregator.domain.runs import Run, joined
from shared.statistics import distinct, sketch


class State(Protocol):
    def merge(self, other: Self) -> None:
        """Adds what the other holds, in place."""

    def encode(self) -> bytes:
        """Canonical: a function of the contents alone. The first byte names the kind and its parameters."""


class Histogram:
    """Counts by logarithmic bucket (`shared.statistics.sketch`), for percentiles.

    Kept as columns, ascending buckets and the number of values in each, until somebody asks for counts.
    """

    __slots__ = ("_columns", "_counts")

    def __init__(self, counts: sketch.Counts | None = None) -> None:
        self._columns: sketch.Columns | None = None
        self._counts: sketch.Counts = counts or {}

    @classmethod
    def of(cls, columns: sketch.Columns) -> Histogram:
        histogram = cls()
        histogram._columns = columns
        return histogram

    def __deepcopy__(self, memo: object) -> Histogram:
        """Columns are never changed, only replaced."""
        return Histogram(dict(self._counts)) if self._columns is None else Histogram.of(self._columns)

    @property
    def counts(self) -> sketch.Counts:
        """May be changed."""
        if self._columns is not None:
            buckets, sizes = self._columns
            self._counts, self._columns = dict(zip(buckets.tolist(), sizes.tolist(), strict=True)), None
        return self._counts

    def merge(self, other: Self) -> None:
        if self._columns is not None and other._columns is not None:
            self._columns = sketch.joined(self._columns, other._columns)
        else:
            sketch.merge(self.counts, other.counts)

    def encode(self) -> bytes:
        return sketch.encode(self._counts) if self._columns is None else sketch.encode_columns(self._columns)


@dataclass(slots=True)
class DistinctSet:
    """Which values there were (`shared.statistics.distinct`), for counts of different ones."""

    values: distinct.Distinct

    def merge(self, other: Self) -> None:
        self.values = self.values.union(other.values)

    def encode(self) -> bytes:
        return self.values.encode()


@dataclass(slots=True)
class LatestRun:
    """Failures after the latest success, for streaks: of so many at most. How many events there were is not kept."""

    run: Run
    length: int

    def merge(self, other: Self) -> None:
        self.run = joined([self.run, other.run], self.length)

    def encode(self) -> bytes:
        times = np.array([self.run.latest_success, *self.run.failures], dtype="<i8")
        return _RUN_HEADER.pack(_RUN, self.length) + times.tobytes()

    @staticmethod
    def is_encoded(raw: bytes) -> bool:
        """Whether these are bytes of `encode`: histograms of the first release begin with any byte."""
        return len(raw) % _RUN_TIME == _RUN_HEADER.size and raw[0] == _RUN

    @classmethod
    def decode(cls, raw: bytes) -> LatestRun:
        success, *failures = np.frombuffer(raw, dtype="<i8", offset=_RUN_HEADER.size).tolist()
        return cls(Run(success, tuple(failures)), _RUN_HEADER.unpack_from(raw)[1])


_RUN = 4
"""First byte; `distinct` and `sketch` have 1 to 3."""
_RUN_HEADER = struct.Struct("<BH")
_RUN_TIME = 8
"""Bytes. With its odd header a run is never as long as ten bytes a bucket."""

AnyState = Histogram | DistinctSet | LatestRun


def decode(raw: bytes) -> AnyState | None:
    """The state behind stored bytes; None of none."""
    if distinct.is_encoded(raw):
        return DistinctSet(distinct.Distinct.decode(raw))
    if LatestRun.is_encoded(raw):
        return LatestRun.decode(raw)
    return Histogram.of(sketch.decode_columns(raw)) if raw else None


def merged(a: AnyState | None, b: AnyState | None) -> AnyState | None:
    """Both together, which are of one kind. May change and return `a`."""
    if a is None or b is None:
        return b if a is None else a
    if isinstance(a, DistinctSet):
        assert isinstance(b, DistinctSet), "a series has states of one kind"
        a.merge(b)
    elif isinstance(a, LatestRun):
        assert isinstance(b, LatestRun), "a series has states of one kind"
        a.merge(b)
    else:
        assert isinstance(b, Histogram), "a series has states of one kind"
        a.merge(b)
    return a
