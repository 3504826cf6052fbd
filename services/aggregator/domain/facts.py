"""What is known of a unit: sets of moments that only grow, cut down to those that can still matter.

    slot 0  (start)        ─●──────○──────────────►      ● kept   ○ can never matter again
    slot 1  (a step)       ─●──●───●───○──────────►
                            │  └── too early: counts if an earlier start comes
    the point "first step at or after the start"  ▲ is the third: later ones do not matter whatever comes

A point's moment never rises when events are added: sets grow, and what it is counted from never rises either. So a
moment later than the point will not be needed, whatever comes, in whatever order: facts are united, then cut, and
what is left is a function of the set of events. Proof for the bound on a slot: only a slot's MAX_KEPT earliest
entries count at all, which no order changes; what falls out takes everything later of its slot with it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

MAX_KEPT = 1_000
"""Entries of one slot of one unit that count: the earliest ones."""
EVER = (1 << 62) - 1
"""A time (µs) after everything."""

Entry = tuple[Any, ...]
"""A moment: its time in µs, then texts that tell moments of one instant apart, or say more of them."""
Facts = tuple[tuple[Entry, ...], ...]
"""By slot, each ascending and without doubles."""


@dataclass(frozen=True, slots=True)
class Point:
    """The `nth` event of a slot: ever, or at or after (`strictly`: after) the point of number `after`.

    With `within` (µs) it must come no later than that after the point of number `of`.
    """

    slot: int
    after: int | None = None
    strictly: bool = False
    nth: int = 1
    within: int | None = None
    of: int = 0


Moments = tuple[int | None, ...]
"""The time of each point in µs; None where it has not come."""


@dataclass(frozen=True, slots=True)
class Course:
    """Points over `slots` slots, each after the points that it refers to. Slot 0 holds starts: one matters."""

    slots: int
    points: tuple[Point, ...]
    max_kept: int = MAX_KEPT

    @property
    def nothing(self) -> Facts:
        return ((),) * self.slots

    def moments(self, facts: Facts) -> Moments:
        found: list[int | None] = []
        for point in self.points:
            found.append(_find(point, facts[point.slot], found))
        return tuple(found)

    def limits(self, facts: Facts, moments: Moments) -> list[int]:
        """By slot the last time (µs) that can still matter; EVER where every time can, or no point is."""
        limits = [-1] * self.slots
        for point, moment in zip(self.points, moments, strict=True):
            limit = moment
            if limit is None:
                root = None if point.within is None else moments[point.of]
                limit = EVER if root is None else root + (point.within or 0)
            limits[point.slot] = max(limits[point.slot], limit)
        for slot, limit in enumerate(limits):
            if limit < 0:
                limits[slot] = EVER
            elif len(facts[slot]) >= self.max_kept:
                limits[slot] = min(limit, facts[slot][self.max_kept - 1][0])
        return limits

    def needed_from(self, moments: Moments) -> list[int]:
        """By slot the time from which its entries make up a point; its first entry may be one too."""
        needed = [EVER] * self.slots
        for point in self.points:
            if point.after is not None and (anchor := moments[point.after]) is not None:
                needed[point.slot] = min(needed[point.slot], anchor)
        return needed


def _find(point: Point, entries: Sequence[Entry], found: Sequence[int | None]) -> int | None:
    first = 0
    if point.after is not None:
        anchor = found[point.after]
        if anchor is None:
            return None
        first = bisect_left(entries, (anchor + point.strictly,))
    place = first + point.nth - 1
    if place >= len(entries):
        return None
    time: int = entries[place][0]
    if point.within is not None:
        root = found[point.of]
        if root is None or time > root + point.within:
            return None
    return time


def cut(facts: Facts, limits: Sequence[int], max_kept: int) -> Facts:
    """Without entries after their slot's limit, and no more than the earliest `max_kept`; of slot 0 the first."""
    return tuple(_cut(entries, limits[slot], max_kept if slot else 1) for slot, entries in enumerate(facts))


def _cut(entries: tuple[Entry, ...], limit: int, most: int) -> tuple[Entry, ...]:
    if not entries or (len(entries) <= most and entries[-1][0] <= limit):
        return entries
    return entries[: min(most, bisect_left(entries, (limit + 1,)))]


def united(a: Facts, b: Facts) -> Facts:
    """Every moment of both."""
    return tuple(
        [x if not y or x == y else y if not x else tuple(sorted({*x, *y})) for x, y in zip(a, b, strict=True)]
    )


def forgotten(facts: Facts, before: int, needed_from: Sequence[int]) -> Facts:
    """Without entries before a time (µs) so long ago that no event from before it comes any more.

    They were kept for a point that a still earlier event could have made them: only what makes up points stays.
    """
    return tuple(
        entries
        if not entries or entries[0][0] >= before
        else tuple(e for i, e in enumerate(entries) if i == 0 or e[0] >= before or e[0] >= needed)
        for entries, needed in zip(facts, needed_from, strict=True)
    )


def encode(facts: Facts) -> bytes:
    return msgspec.msgpack.encode(facts)


_DECODER = msgspec.msgpack.Decoder(tuple[tuple[tuple[Any, ...], ...], ...])


def decode(raw: bytes) -> Facts:
    return _DECODER.decode(raw)
