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
Columns = tuple[npt.NDArray[np.int16], npt.NDArray[np.int64]]
"""The same as ascending buckets, and the number of values in each."""

_FORMAT = b"\x01"
"""First byte of the encoding: names the buckets, which are the powers of 1.02 above. (See `distinct` for 2 and 3.)"""
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
    """A byte that names the format and ten a bucket, in bucket order: equal contents give equal bytes."""
    buckets = sorted(counts)
    sizes = [counts[bucket] for bucket in buckets]
    return encode_columns((np.array(buckets, dtype=np.int16), np.array(sizes, dtype=np.int64)))


def encode_columns(columns: Columns) -> bytes:
    """`encode` of columns. Buckets that are empty again, as values were taken back, are left out."""
    buckets, sizes = columns
    if not sizes.all():
        buckets, sizes = buckets[sizes != 0], sizes[sizes != 0]
    if not len(buckets):
        return b""
    record = np.empty(len(buckets), dtype=_RECORD)
    record["bucket"] = buckets
    record["count"] = sizes
    return _FORMAT + record.tobytes()


def is_encoded(raw: bytes) -> bool:
    """Whether these can be whole bytes of `encode`, or of the first release's."""
    rest = len(raw) % _RECORD.itemsize
    return not rest or (rest == len(_FORMAT) and raw.startswith(_FORMAT))


def decode(raw: bytes) -> Counts:
    """The counts behind `encode`'s bytes. What the first release wrote has no byte for its format."""
    buckets, sizes = decode_columns(raw)
    return dict(zip(buckets.tolist(), sizes.tolist(), strict=True))


def decode_columns(raw: bytes) -> Columns:
    """`decode` into columns."""
    record = np.frombuffer(raw, dtype=_RECORD, offset=len(raw) % _RECORD.itemsize)
    return record["bucket"], record["count"]


def joined(a: Columns, b: Columns) -> Columns:
    """Both together."""
    buckets = np.concatenate([a[0], b[0]])
    if not len(buckets):
        return a
    order = np.argsort(buckets, kind="stable")
    ordered = buckets[order]
    starts = np.concatenate([[0], np.flatnonzero(ordered[1:] != ordered[:-1]) + 1])
    return ordered[starts], np.add.reduceat(np.concatenate([a[1], b[1]])[order], starts)


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
