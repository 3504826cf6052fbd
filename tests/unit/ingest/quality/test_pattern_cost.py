"""What a pattern's look at a character counts as."""

from __future__ import annotations

import pytest

from services.ingest.domain.quality.pattern_cost import LEAST, pattern_cost


@pytest.mark.parametrize(
    "pattern",
    ["^[A-Z]{3}$", r"^[^@\s]+@[^@\s]+\.[^@\s]+$", r"^\d{4}-\d{2}-\d{2}$", r"^\p{L}{1,20}$", "^(x+x+)+y$", ""],
)
def test_ordinary_patterns_count_least(pattern: str) -> None:
    assert pattern_cost(pattern) == LEAST


@pytest.mark.parametrize(
    ("pattern", "places"),
    [
        ("a[ab]{500}", 501),
        ("a[ab]{2,500}c", 502),
        ("a[ab]{500,}", 501),
        ("((ab){10}c){20}", 420),
        (r"(?:\]|[(){5}\]]){100}", 400),
        (r"[ab]{0}\{[ab]{60}", 62),
        ("a){50}", 50),
    ],
)
def test_what_is_repeated_counts_as_often(pattern: str, places: int) -> None:
    assert pattern_cost(pattern) == max(LEAST, places // 5)


@pytest.mark.parametrize("pattern", ["(?ix)a b", "[[a]b]c", "[]a]", "[^]a]"])
def test_what_may_be_read_in_another_way_counts_as_the_worst(pattern: str) -> None:
    assert pattern_cost(pattern) == 400
