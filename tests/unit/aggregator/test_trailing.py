"""Any span of minutes is covered once, by as few rows as can be."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.aggregator.domain.trailing import cover, trailing_length
from shared.clock import DAY, HOUR, MINUTE, SECOND
from tests.unit.aggregator.builders import NOW, bounded


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("trailing:10m", 10 * MINUTE),
        ("trailing:2h", 2 * HOUR),
        ("trailing:3d", 3 * DAY),
        ("trailing:4320m", 3 * DAY),
        ("trailing:4d", None),
        ("trailing:0m", None),
        ("trailing:", None),
        ("trailing:2", None),
        ("trailing:2h ", None),
        ("2h", None),
        ("trailing:٢h", None),
    ],
)
def test_a_length_is_minutes_hours_or_days_up_to_three(text: str, length: int | None) -> None:
    assert trailing_length(text) == length


@bounded
@given(st.integers(0, 3 * 1440), st.integers(1, 4000))
def test_every_minute_is_covered_once(start: int, minutes: int) -> None:
    begin = NOW + start * MINUTE
    found = cover(begin, begin + minutes * MINUTE)
    covered = [t for s in found.rolls for t in range(s.begin, s.end, MINUTE)]
    if found.rolled is None:
        assert not covered
    else:
        assert sorted(covered) == list(range(*found.rolled, MINUTE))
    covered += [t for edge in found.edges for t in range(*edge, MINUTE)]
    assert sorted(covered) == list(range(begin, begin + minutes * MINUTE, MINUTE))
    assert all(s.begin % (s.width * SECOND) == 0 and s.end % (s.width * SECOND) == 0 for s in found.rolls)
    assert sum((end - begin) // MINUTE for begin, end in found.edges) <= 8 or found.rolled is None
    assert len(found.rolls) <= 5


def test_a_whole_day_is_one_row() -> None:
    day = NOW - NOW % DAY
    found = cover(day, day + DAY)
    assert [(s.width, s.begin, s.end) for s in found.rolls] == [(86_400, day, day + DAY)]
    assert found.edges == ()
