"""What a cell of a window holds beside its sums: states that merge in any order; equal contents give equal bytes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol, Self

from shared.statistics import sketch


class State(Protocol):
    def merge(self, other: Self) -> None:
        """Adds what the other holds, in place."""

    def encode(self) -> bytes:
        """Canonical: a function of the contents alone."""


@dataclass(slots=True)
class Histogram:
    """Counts by logarithmic bucket (`shared.statistics.sketch`), for percentiles."""

    counts: sketch.Counts = field(default_factory=dict)

    def merge(self, other: Self) -> None:
        sketch.merge(self.counts, other.counts)

    def encode(self) -> bytes:
        return sketch.encode(self.counts)


AnyState = Histogram


def decode(raw: bytes) -> AnyState | None:
    """The state behind stored bytes; None of none."""
    return Histogram(sketch.decode(raw)) if raw else None


def merged(a: AnyState | None, b: AnyState | None) -> AnyState | None:
    """Both together. May change and return `a`."""
    if a is None or b is None:
        return b if a is None else a
    a.merge(b)
    return a
