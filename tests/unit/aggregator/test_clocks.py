"""How far shards have come, and which minutes that closes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from services.aggregator.domain.clocks import closed_through, shard_clock
from shared.clock import MINUTE, SECOND

NOON = 1_767_225_600_000_000


def test_the_clock_of_a_shard_that_has_something_to_fold_is_its_watermark() -> None:
    assert shard_clock(NOON, None) == NOON


def test_the_clock_of_an_emptied_shard_follows_the_brokers_a_second_behind() -> None:
    assert shard_clock(NOON, NOON + MINUTE) == NOON + 59 * SECOND


def test_a_clock_is_never_behind_its_watermark() -> None:
    assert shard_clock(NOON, NOON) == NOON


def test_minutes_close_by_the_shard_that_is_furthest_behind() -> None:
    assert closed_through([NOON + 3 * MINUTE + 1, NOON + 2 * MINUTE - 1, NOON + 9 * MINUTE], 3) == NOON + MINUTE


def test_a_minute_is_closed_at_the_very_moment_of_its_end() -> None:
    assert closed_through([NOON + MINUTE], 1) == NOON + MINUTE


def test_a_partition_without_a_clock_holds_everything_back() -> None:
    assert closed_through([NOON, NOON], 3) == 0
    assert closed_through([NOON, 0, NOON], 3) == 0
    assert closed_through([], 0) == 0


@given(st.lists(st.integers(0, NOON), min_size=1, max_size=8))
def test_closed_minutes_are_whole_and_passed_by_everyone(clocks: list[int]) -> None:
    closed = closed_through(clocks, len(clocks))
    assert closed % MINUTE == 0
    assert closed <= min(clocks) < closed + MINUTE
