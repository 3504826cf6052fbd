"""An open-addressing hash table of 128-bit digests and the minutes in which they were seen, in flat arrays.

A digest takes two words: its first half; and 48 bits of its second half above 16 for the minute, counted from a base
and never 0. So 112 bits tell digests apart, and the second words alone do for almost all that is looked up.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Words = npt.NDArray[np.uint64]
"""Of digests: their first or second words, or both with shape (n, 2)."""
Places = tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]
"""For each digest where it stands or, if it is not there, the free slot where its search ended; and which are."""

MINUTE_BITS = np.uint64(16)
MINUTE = np.uint64(0xFFFF)
"""Second words of one digest differ in these bits only, and 0 is no minute."""
LOAD = 0.5
"""Share of the slots that may be taken."""

ORDERED_BITS = 16
_NOT_ORDERED = np.uint64(64 - ORDERED_BITS)
_LAST_MINUTE = 0xFFFF
_NONE = 2**31 - 1
_SPARE = 1.25
"""What a table that is rebuilt must have room for, by what it holds: or it would be rebuilt again at once."""
_PART = 1 << 16
"""Slots that are moved to a new table at a time: nothing else needs memory meanwhile."""


class IdTable:
    """Whoever adds to it must see to it that there is room."""

    def __init__(self, slots: int) -> None:
        """With at least `slots`, a power of two."""
        self._least = slots
        self._base = 0
        self._used = 0
        self._oldest = _NONE
        """No digest was last seen earlier; lower than need be where some were dropped or renewed."""
        self._allocate(slots)

    def __len__(self) -> int:
        return self._used

    @property
    def memory_bytes(self) -> int:
        return self._high.nbytes + self._low.nbytes

    @property
    def base(self) -> int:
        """The minute before the first that can be told."""
        return self._base

    def begin_at(self, base: int) -> None:
        """Of an empty table: counts minutes from here on."""
        self._base = base

    def has_room(self, extra: int, latest_minute: int) -> bool:
        return self._used + extra <= LOAD * len(self._low) and latest_minute - self._base <= _LAST_MINUTE

    def slots_for(self, extra: int, oldest: int) -> int:
        """How many slots would do for what was seen in `oldest` or later, and `extra` more."""
        slots = self._least
        while LOAD * slots < _SPARE * (self._count(oldest) + extra):
            slots *= 2
        return slots

    def look_up(self, high: Words, low: Words) -> Places:
        """`low` without minutes."""
        slots = (high & self._mask).astype(np.int64)
        occupied, found = self._compare(slots, high, low)
        searching = np.flatnonzero(occupied & ~found)
        last = len(self._low) - 1
        while len(searching):
            at = (slots[searching] + 1) & last
            slots[searching] = at
            occupied, equal = self._compare(at, high, low, searching)
            found[searching[equal]] = True
            searching = searching[occupied & ~equal]
        return slots, found

    def seen_at(self, slots: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """The minutes of slots that hold a digest."""
        return (self._low[slots] & MINUTE).astype(np.int64) + self._base

    def insert(
        self,
        high: Words,
        low: Words,
        minutes: npt.NDArray[np.int32],
        places: Places | None = None,
        *,
        distinct: bool = False,
    ) -> None:
        """A digest that is there takes the later minute.

        `low` without minutes, `places` if they were looked up since the last change, `distinct` if none stands twice.
        """
        unnoted, low = low, low | (minutes - self._base).clip(1).astype(np.uint64)
        self._oldest = min(self._oldest, max(int(minutes.min(initial=self._oldest)), self._base + 1))
        while len(high):
            slots, found = self.look_up(high, unnoted) if places is None else places
            places = None
            if found.any():
                np.maximum.at(self._low, slots[found], low[found])
                new = np.flatnonzero(~found)
                high, low, unnoted, slots = high.take(new), low.take(new), unnoted.take(new), slots.take(new)
            # Several new digests may want one free slot: the last write wins, the others search on. Who stands twice
            # among the new ones may have won through its twin: then it is found in the next round.
            lost = self._write(slots, high, low)
            self._used += len(high) - len(lost) if distinct else _distinct(slots)
            high, low, unnoted = high.take(lost), low.take(lost), unnoted.take(lost)

    def rebuild(self, slots: int, oldest: int, base: int) -> None:
        """Keeps what was seen in `oldest` or later; minutes are counted from `base`, which is earlier."""
        old_high, old_low = self._high, self._low
        threshold = self._threshold(oldest)
        shift = np.uint64(base - self._base)
        self._base = base
        self._allocate(slots)
        self._oldest = oldest
        for i in range(0, len(old_low), _PART):
            live = np.flatnonzero((old_low[i : i + _PART] & MINUTE) >= threshold) + i
            self._place(old_high.take(live), old_low.take(live) - shift)

    def drain(self, slots: int, oldest: int) -> Words:
        """What was seen in `oldest` or later, `in_order`; afterwards the table is empty, and of this size."""
        live = np.flatnonzero((self._low & MINUTE) >= self._threshold(oldest))
        drained = in_order(self._high.take(live), self._low.take(live))
        if len(self._low) == slots:
            self._low.fill(0)
            self._clear()
        else:
            self._allocate(slots)
        return drained

    def _allocate(self, slots: int) -> None:
        self._mask = np.uint64(slots - 1)
        self._high = np.zeros(slots, dtype=np.uint64)
        self._low = np.zeros(slots, dtype=np.uint64)
        """0 where a slot is free: then what `_high` holds there says nothing."""
        self._clear()

    def _clear(self) -> None:
        self._used = 0
        self._oldest = _NONE

    def _compare(
        self,
        slots: npt.NDArray[np.int64],
        high: Words,
        low: Words,
        which: npt.NDArray[np.intp] | None = None,
    ) -> Places:
        """Which slots are taken, and which of them by the digest that is looked for."""
        held = self._low.take(slots)
        occupied = held != 0
        equal = occupied & ((held ^ (low if which is None else low.take(which))) <= MINUTE)
        if equal.any():
            equal &= self._high.take(slots) == (high if which is None else high.take(which))
        return occupied, equal

    def _write(self, slots: npt.NDArray[np.int64], high: Words, low: Words) -> npt.NDArray[np.intp]:
        """To free slots. Returns which of them others have overwritten."""
        self._high[slots] = high
        self._low[slots] = low
        return np.flatnonzero((self._low.take(slots) != low) | (self._high.take(slots) != high))

    def _place(self, high: Words, low: Words) -> None:
        """`insert` of what is not there, each once."""
        self._used += len(high)
        slots, last = (high & self._mask).astype(np.int64), len(self._low) - 1
        while len(high):
            free = np.flatnonzero(self._low.take(slots) == 0)
            placed = np.zeros(len(high), dtype=np.bool_)
            placed[free] = True
            placed[free.take(self._write(slots.take(free), high.take(free), low.take(free)))] = False
            lost = np.flatnonzero(~placed)
            high, low, slots = high.take(lost), low.take(lost), (slots.take(lost) + 1) & last

    def _threshold(self, oldest: int) -> np.uint64:
        """The least minute that is not before `oldest`, as it stands in a slot."""
        return np.uint64(min(max(oldest - self._base, 1), _LAST_MINUTE + 1))

    def _count(self, oldest: int) -> int:
        """How many were seen in `oldest` or later."""
        if self._oldest >= oldest:
            return self._used
        threshold = self._threshold(oldest)
        parts = range(0, len(self._low), _PART)
        return sum(int(np.count_nonzero((self._low[i : i + _PART] & MINUTE) >= threshold)) for i in parts)


def in_order(high: Words, low: Words) -> Words:
    """Both words of each digest, shape (n, 2), ordered by the highest 16 bits of the first: those sort fast."""
    order = np.argsort((high >> _NOT_ORDERED).astype(np.uint16), kind="stable")
    ordered = np.empty((len(high), 2), dtype=np.uint64)
    ordered[:, 0] = high.take(order)
    ordered[:, 1] = low.take(order)
    return ordered


def _distinct(slots: npt.NDArray[np.int64]) -> int:
    return int(np.count_nonzero(np.diff(np.sort(slots)))) + bool(len(slots))
