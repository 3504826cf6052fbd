"""Bucket v1: where a unit falls, by a published algorithm that any language can repeat."""

from __future__ import annotations

import xxhash

ALGORITHM = "bucket-v1"
BUCKETS = 1_000_000


def bucket_of(salt: str, unit: str) -> int:
    """The unit's bucket in 0…999,999: (XXH64(utf8(salt + ":" + unit), seed 0) × 1,000,000) >> 64.

    Multiply and shift, on integers only: every bucket gets the same share of the hash's range to within 2⁻⁴⁴, so
    there is no modulo bias and no rounding that two machines could do differently. Neither string may hold lone
    surrogates (they have no UTF-8): UnicodeEncodeError.
    """
    return (xxhash.xxh64_intdigest(f"{salt}:{unit}".encode(), seed=0) * BUCKETS) >> 64
