"""Where a key's records go: exactly where every other Kafka client puts them."""

from __future__ import annotations

import pytest
from aiokafka.partitioner import murmur2
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.kafka import partition_of

VECTORS = {
    "21": -973932308,
    "foobar": -790332482,
    "a-little-bit-long-string": -985981536,
    "a-little-bit-longer-string": -1486304829,
    "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    "abc": 479470107,
}
"""From Kafka's own test of `Utils.murmur2`."""


@pytest.mark.parametrize(("key", "signed"), VECTORS.items())
def test_keys_land_where_kafkas_own_partitioner_puts_them(key: str, signed: int) -> None:
    for partitions in (1, 4, 50, 2**31 - 1):
        assert partition_of(key, partitions) == (signed & 0x7FFFFFFF) % partitions


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=60).filter(lambda t: not any("\ud800" <= c <= "\udfff" for c in t)), st.integers(1, 1000))
def test_any_key_lands_where_another_implementation_puts_it(key: str, partitions: int) -> None:
    assert partition_of(key, partitions) == (murmur2(key.encode()) & 0x7FFFFFFF) % partitions


def test_many_keys_spread_evenly() -> None:
    counts = [0] * 4
    for i in range(8_000):
        counts[partition_of(f"user-{i}", 4)] += 1
    assert all(1_850 < count < 2_150 for count in counts)
