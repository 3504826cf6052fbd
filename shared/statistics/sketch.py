"""A mergeable histogram with logarithmic buckets: any quantile within 1 % of a value that was there.

Bucket k > 0 holds the scaled integers in (bound[k-1], bound[k]], where each bound is 1.02 times the one before
(rounded down, and at least one more): small integers have a bucket each, negative values mirror positive ones.
Bounds are integers, so every machine puts a value into the same bucket. The idea is DDSketch's (Masson, Rim and
Lee, "DDSketch: a fast and fully-mergeable quantile sketch", VLDB 2019), with a fixed table instead of a logarithm.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from decimal import Decimal

import numpy as np
import numpy.typing as npt

MAX_SCALED = 10**17
"""The largest magnitude of a scaled value: squares of 10,000 such values still fit 128 bits."""

Counts = dict[int, int]
"""Bucket → number of values in it."""

_RECORD = np.dtype([("bucket", "<i2"), ("count", "<i8")])


def _bounds() -> npt.NDArray[np.int64]:
    bounds = [0]
    while bounds[-1] < MAX_SCALED:
        bounds.append(max(bounds[-1] + 1, bounds[-1] * 102 // 100))
    return np.array(bounds, dtype=np.int64)


BOUNDS = _bounds()


def buckets_of(scaled: npt.NDArray[np.int64]) -> npt.NDArray[np.int16]:
    """The bucket of each scaled value, |value| ≤ MAX_SCALED."""
    magnitude = np.searchsorted(BOUNDS, np.abs(scaled), side="left")
    return np.where(scaled < 0, -magnitude, magnitude).astype(np.int16)


def encode(counts: Mapping[int, int]) -> bytes:
    """Ten bytes a bucket, in bucket order: equal contents give equal bytes."""
    record = np.empty(len(counts), dtype=_RECORD)
    if counts:
        buckets = sorted(counts)
        record["bucket"] = buckets
        record["count"] = [counts[bucket] for bucket in buckets]
    return record.tobytes()


def decode(raw: bytes) -> Counts:
    """The counts behind `encode`'s bytes."""
    record = np.frombuffer(raw, dtype=_RECORD)
    return dict(zip(record["bucket"].tolist(), record["count"].tolist(), strict=True))


def merge(into: Counts, more: Mapping[int, int]) -> Counts:
    """Adds `more` to `into`, in place, and returns it."""
    for bucket, count in more.items():
        into[bucket] = into.get(bucket, 0) + count
    return into


def quantile(counts: Mapping[int, int], q: float) -> float | None:
    """A scaled value within 1 % of the one at rank ⌈q·n⌉; None of nothing. 0 < q ≤ 1."""
    total = sum(counts.values())
    if not total:
        return None
    rank = max(1, math.ceil(Decimal(repr(q)) * total))  # in floats, 0.07 of 100 is a little more than 7
    seen = 0
    for bucket in sorted(counts):
        seen += counts[bucket]
        if seen >= rank:
            return _middle(bucket)
    raise AssertionError("a rank is never larger than the total")


def _middle(bucket: int) -> float:
    """The point with equal relative distance to both ends of the bucket."""
    k = abs(bucket)
    if k == 0:
        return 0.0
    low, high = int(BOUNDS[k - 1]) + 1, int(BOUNDS[k])
    middle = 2.0 * low * high / (low + high)
    return middle if bucket > 0 else -middle
