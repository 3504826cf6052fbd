"""When the faults of the second act come."""

from __future__ import annotations

import pytest

from examples.imports.domain.schedule import Next, schedule_of


@pytest.mark.parametrize(("seconds", "openings"), [(8, 1), (45, 1), (60, 5), (600, 5)])
def test_only_a_long_run_has_to_see_five_openings(seconds: float, openings: int) -> None:
    schedule = schedule_of(seconds)
    assert schedule.openings == openings
    assert schedule.first == seconds / 4


def test_what_is_wanted_comes_even_after_the_end_but_not_for_ever() -> None:
    schedule = schedule_of(60)
    assert schedule.next(64, openings=4, longest_cycle=12) is Next.FAULT
    assert schedule.next(95, openings=4, longest_cycle=12) is Next.OUT_OF_TIME


def test_with_enough_seen_another_fault_comes_only_if_it_can_end_in_time() -> None:
    schedule = schedule_of(60)
    assert schedule.next(51, openings=5, longest_cycle=8) is Next.FAULT
    assert schedule.next(53, openings=5, longest_cycle=8) is Next.ENOUGH


def test_the_shortest_run_sees_one_fault() -> None:
    schedule = schedule_of(5)
    assert schedule.next(schedule.first, openings=0, longest_cycle=None) is Next.FAULT
    assert schedule.next(9, openings=1, longest_cycle=8) is Next.ENOUGH
