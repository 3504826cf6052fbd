"""Who gets which bucket: percentages, strata, and the splits that were in force before.

```
 bucket      0          500,000   600,000            1,000,000
 first split │ background │          realtime             │
 now         │ background            │     realtime       │
                          └─ moved ──┘
```

A unit in a bucket that always led to one variant needs no memory: its variant follows from the hash. Only a bucket
that led to different variants, because the split changed or because strata differ, is ambiguous: there the first
answer counts and must be looked up.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import accumulate, pairwise

from services.assignment.domain.bucketing import BUCKETS

_PER_PERCENT = BUCKETS // 100


def buckets_of(percentage: Decimal) -> int | None:
    """Exactly `percentage` % of the buckets; None if that is no whole number (more than four decimals)."""
    buckets = percentage * _PER_PERCENT
    return int(buckets) if buckets == buckets.to_integral_value() else None


def percentage_of(buckets: int) -> float:
    """The inverse, for people and JSON: 333,300 → 33.33."""
    return buckets / _PER_PERCENT


@dataclass(frozen=True, slots=True)
class Split:
    """Variants in order, each with the bucket behind its last: bucket b belongs to the first end > b."""

    variants: tuple[str, ...]
    ends: tuple[int, ...]

    @classmethod
    def of(cls, shares: Mapping[str, int]) -> Split:
        """Variant name → buckets, in order. Raises ValueError unless they add up to 1,000,000."""
        ends = tuple(accumulate(shares.values()))
        if not ends or ends[-1] != BUCKETS or min(shares.values()) < 0:
            raise ValueError(f"shares must be at least 0 and add up to {BUCKETS}: {dict(shares)}")
        return cls(tuple(shares), ends)

    def variant_of(self, bucket: int) -> str:
        return self.variants[bisect_right(self.ends, bucket)]


@dataclass(frozen=True, slots=True)
class StratumSplit:
    """The split of the units whose number is below `below` (and not below an earlier stratum's bound)."""

    name: str
    below: float | None
    split: Split


@dataclass(frozen=True, slots=True)
class Allocation:
    """The split in force at one time. `default` serves units without the number that picks a stratum."""

    default: Split
    strata: tuple[StratumSplit, ...] = ()

    def split_for(self, number: float | None) -> tuple[str | None, Split]:
        """(stratum, split) of a unit; (None, default) where nothing is stratified or no number is known."""
        if number is not None:
            for stratum in self.strata:
                if stratum.below is None or number < stratum.below:
                    return stratum.name, stratum.split
        return None, self.default

    def splits(self) -> tuple[Split, ...]:
        return (self.default, *(s.split for s in self.strata))


class Ambiguity:
    """The buckets that led to more than one variant under any of some splits."""

    def __init__(self, splits: Sequence[Split]) -> None:
        edges = sorted({0, BUCKETS, *(end for split in splits for end in split.ends)})
        self._starts: list[int] = []
        self._ends: list[int] = []
        for start, end in pairwise(edges):
            if len({split.variant_of(start) for split in splits}) > 1:
                if self._ends and self._ends[-1] == start:
                    self._ends[-1] = end
                else:
                    self._starts.append(start)
                    self._ends.append(end)

    def __contains__(self, bucket: int) -> bool:
        at = bisect_right(self._starts, bucket) - 1
        return at >= 0 and bucket < self._ends[at]

    @property
    def ranges(self) -> list[tuple[int, int]]:
        """Disjoint, ascending [from, to)."""
        return list(zip(self._starts, self._ends, strict=True))


def before_the_move(bucket: int, number: float | None, current: Allocation, earlier: Sequence[Allocation]) -> str:
    """What the unit would have got before its bucket last moved; today's variant if it never did.

    `earlier` is in order of time. This is the answer while nobody can look up what the unit really got.
    """
    now = current.split_for(number)[1].variant_of(bucket)
    for allocation in reversed(earlier):
        then = allocation.split_for(number)[1].variant_of(bucket)
        if then != now:
            return then
    return now
