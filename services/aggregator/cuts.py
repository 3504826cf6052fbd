"""What the API cuts units by: their variant, and a value that their earliest exposures bear."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

MAX_SEGMENTS = 1_000
"""Of each variant, those with the most units."""
EXPOSURES = "SELECT id, unit_kind FROM experiment_series WHERE organisation = $1 AND experiment = $2 AND metric = ''"
MEMORY = "SET LOCAL work_mem = '64MB'"
"""For what reads units' rows: holds a million units."""


class Cut(NamedTuple):
    """Units of one variant. `segment` is None where nothing is cut by, and of units that bear no value."""

    variant: str
    segment: str | None


def largest(sizes: Mapping[Cut, int]) -> list[Cut]:
    """By units, the largest of each variant; in order of variants and segments, units without one first."""
    taken, kept = Counter[str](), []
    for cut in sorted(sizes, key=lambda cut: (-sizes[cut], _order(cut))):
        taken[cut.variant] += 1
        if taken[cut.variant] <= MAX_SEGMENTS:
            kept.append(cut)
    return sorted(kept, key=_order)


def _order(cut: Cut) -> tuple[str, bool, str]:
    return cut.variant, cut.segment is not None, cut.segment or ""
