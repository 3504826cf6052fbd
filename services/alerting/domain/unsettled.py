"""Groups of which half a commit is known: to decide on them now would be to decide on figures that never were.

    numerator +9 ─► unsettled ─► denominator +100 ─► settled: decide        (or SETTLES later, if no other half comes)

An aggregator's commit reaches us as several updates, one a series. A ratio's numerator leaves before its denominator,
which settles it. A journey moves between outcomes without a last one: it settles by time alone.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

from services.alerting.domain.window import Group
from shared.clock import SECOND

SETTLES = SECOND // 10
"""Microseconds after which the other half is not waited for any more: there may be none."""


@dataclass(frozen=True, slots=True)
class _Mark:
    published_at: int
    elapsed: int


class Unsettled:
    """What is waited for, by group. `part` names a half whose other half is to come: a series' window and shard.

    Live, time is a monotonic clock's (`elapsed`, µs). While what was missed is read it is the time at which updates
    were published: so the same is decided however often it is read.
    """

    def __init__(self) -> None:
        self._marks: dict[Group, dict[Hashable, _Mark]] = {}

    def __contains__(self, group: Group) -> bool:
        return group in self._marks

    def mark(self, group: Group, part: Hashable, *, published_at: int, elapsed: int) -> None:
        """The first time counts: a part that is updated all the time must not be waited for for ever."""
        self._marks.setdefault(group, {}).setdefault(part, _Mark(published_at, elapsed))

    def settle(self, group: Group, part: Hashable) -> None:
        """The other half has come."""
        marks = self._marks.get(group, {})
        marks.pop(part, None)
        if not marks:
            self._marks.pop(group, None)

    def overtaken(self, published_at: int) -> list[Group]:
        """Groups that something has waited in since long before `published_at`; they are settled by that."""
        return self._take([g for g, m in self._marks.items() if _first(m).published_at <= published_at - SETTLES])

    def overdue(self, elapsed: int) -> list[Group]:
        """Groups that something has waited in for long; they are settled by that."""
        return self._take([g for g, m in self._marks.items() if _first(m).elapsed <= elapsed - SETTLES])

    def clear(self) -> None:
        self._marks.clear()

    def _take(self, groups: list[Group]) -> list[Group]:
        for group in groups:
            del self._marks[group]
        return groups


def _first(marks: dict[Hashable, _Mark]) -> _Mark:
    return next(iter(marks.values()))
