"""W1's result as the Python peers keep it: what happened in each minute, by event type and variant."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from bench.aggregator.peers.protocol import GroupTotal, Summary

MINUTE = 60_000_000

Place = tuple[int, str, str]
"""Minutes since the epoch, event type, variant."""


@dataclass(slots=True)
class Window:
    """Count, sum and extremes of the durations that were added."""

    n: int = 0
    sum: float = 0
    min: float = math.inf
    max: float = -math.inf

    def add(self, value: float) -> None:
        self.n += 1
        self.sum += value
        if value < self.min:
            self.min = value
        if value > self.max:
            self.max = value

    def merge(self, other: Window) -> None:
        self.n += other.n
        self.sum += other.sum
        self.min = min(self.min, other.min)
        self.max = max(self.max, other.max)

    def summary(self) -> Summary:
        return Summary(self.n, self.sum, self.min, self.max)


def totals_of(windows: Iterable[tuple[Place, Window]]) -> tuple[GroupTotal, ...]:
    """All minutes of each event type and variant added up."""
    groups: defaultdict[tuple[str, str], Window] = defaultdict(Window)
    for (_, kind, variant), window in windows:
        groups[kind, variant].merge(window)
    return tuple(GroupTotal(kind, variant, window.summary()) for (kind, variant), window in sorted(groups.items()))
