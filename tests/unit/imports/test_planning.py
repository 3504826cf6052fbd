"""Priorities, estimates and strata before an import runs."""

from __future__ import annotations

import pytest

from examples.imports.domain.planning import (
    MIB,
    Priority,
    estimated_completion_ms,
    estimated_duration_ms,
    priority_of,
    retry_delay_seconds,
    stratum_of,
)


@pytest.mark.parametrize(
    ("size", "records", "expected"),
    [
        (MIB - 1, 999, Priority.HIGH),
        (MIB, 999, Priority.NORMAL),
        (MIB - 1, 1_000, Priority.NORMAL),
        (10 * MIB - 1, 4_999, Priority.NORMAL),
        (10 * MIB, 4_999, Priority.LOW),
        (10 * MIB - 1, 5_000, Priority.LOW),
    ],
)
def test_priority_follows_size_and_records_with_exclusive_bounds(size: int, records: int, expected: Priority) -> None:
    assert priority_of(size=size, records=records) is expected


def test_high_priority_is_served_before_low() -> None:
    assert Priority.HIGH < Priority.NORMAL < Priority.LOW


def test_the_estimate_grows_with_records_and_with_size() -> None:
    small = estimated_duration_ms(size=1_000, records=100)
    assert small < estimated_duration_ms(size=1_000, records=200)
    assert small < estimated_duration_ms(size=5 * MIB, records=100)


@pytest.mark.parametrize(
    ("estimated_ms", "expected"),
    [(119_999, "short"), (120_000, "medium"), (300_000, "medium"), (300_001, "long")],
)
def test_strata_meet_at_two_and_five_minutes(estimated_ms: int, expected: str) -> None:
    assert stratum_of(estimated_ms) == expected


def test_the_estimated_completion_adds_the_wait_shared_by_the_workers() -> None:
    alone = estimated_completion_ms(1_000, waiting=0, workers=4, mean_job_ms=200)
    behind_eight = estimated_completion_ms(1_000, waiting=8, workers=4, mean_job_ms=200)
    assert (alone, behind_eight) == (1_000, 1_400)


def test_retries_wait_longer_each_time_up_to_a_bound() -> None:
    delays = [retry_delay_seconds(attempt) for attempt in range(1, 12)]
    assert delays == sorted(delays)
    assert delays[0] < delays[1] < delays[2]
    assert delays[-1] == 8.0
