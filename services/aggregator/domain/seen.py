"""Which event ids were seen lately: an open-addressing hash table of 128-bit digests in flat arrays.

An id is a duplicate if it was seen in the same partition at most `WINDOW_MINUTES` of broker time ago. Broker minutes,
not instants, decide, so the answer does not depend on how the log was cut into batches. A digest costs 20 bytes a
slot at a load of at most one half: about 40 to 80 bytes an id, and ids older than the window are dropped.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import xxhash

WINDOW_MINUTES = 36
"""Clients retry for up to 30 minutes; the design asks for at least 35, and minutes are cut, not rounded."""

Digests = npt.NDArray[np.uint64]
"""Shape (n, 2): the two halves of each 128-bit digest."""

_EMPTY = np.int32(-(2**31))


def digest(organisation: str, event_id: str) -> bytes:
    """16 bytes that stand for an event id. XXH3: ids are chosen by the organisation's own clients."""
    return xxhash.xxh3_128_digest(f"{organisation}\x00{event_id}".encode("utf-8", "surrogatepass"))


def as_array(digests: Sequence[bytes]) -> Digests:
    """Digests of 16 bytes each as an (n, 2) array."""
    return from_bytes(b"".join(digests))


def from_bytes(raw: bytes) -> Digests:
    return np.frombuffer(raw, dtype="<u8").reshape(-1, 2)


class SeenIds:
    """Remembers digests by the latest broker minute in which they were seen."""

    def __init__(self, slots: int = 1 << 12) -> None:
        self._allocate(slots)
        self.latest_minute = int(_EMPTY)

    def __len__(self) -> int:
        return self._used

    @property
    def memory_bytes(self) -> int:
        return self._high.nbytes + self._low.nbytes + self._minute.nbytes

    def is_duplicate(self, digests: Digests, minutes: npt.NDArray[np.int32]) -> npt.NDArray[np.bool_]:
        """Which digests were seen within the window before their minute, or earlier in this very sequence.

        `minutes` are broker minutes, one each; they never fall within a partition.
        """
        slots, found = self._find(digests)
        duplicate = found.copy()
        duplicate[found] = minutes[found] - self._minute[slots[found]] <= WINDOW_MINUTES
        halves = np.sort(digests[:, 0])
        if not (halves[1:] == halves[:-1]).any():
            return duplicate
        order = np.lexsort((digests[:, 1], digests[:, 0]))
        ordered = digests[order]
        repeats = np.flatnonzero((ordered[1:] == ordered[:-1]).all(axis=1)) + 1
        for at in repeats:  # lexsort is stable: the earlier record stands before the later one
            later, earlier = order[at], order[at - 1]
            duplicate[later] = minutes[later] - minutes[earlier] <= WINDOW_MINUTES
        return duplicate

    def add(self, digests: Digests, minutes: npt.NDArray[np.int32]) -> None:
        """Marks digests as seen; a digest seen before takes the later minute."""
        if not len(digests):
            return
        self.latest_minute = max(self.latest_minute, int(minutes.max()))
        if 2 * (self._used + len(digests)) > len(self._minute):
            self._rebuild(extra=len(digests))
        self._insert(digests, minutes)

    def _allocate(self, slots: int) -> None:
        self._mask = np.uint64(slots - 1)
        self._high = np.zeros(slots, dtype=np.uint64)
        self._low = np.zeros(slots, dtype=np.uint64)
        self._minute = np.full(slots, _EMPTY, dtype=np.int32)
        self._used = 0

    def _find(self, digests: Digests) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        """Slot of each digest that is there, and which are there."""
        n = len(digests)
        slots = (digests[:, 0] & self._mask).astype(np.int64)
        found = np.zeros(n, dtype=np.bool_)
        searching = np.arange(n)
        last = len(self._minute) - 1
        while len(searching):
            at = slots[searching]
            occupied = self._minute[at] != _EMPTY
            equal = occupied & (self._high[at] == digests[searching, 0]) & (self._low[at] == digests[searching, 1])
            found[searching[equal]] = True
            searching = searching[occupied & ~equal]
            slots[searching] = (slots[searching] + 1) & last
        return slots, found

    def _insert(self, digests: Digests, minutes: npt.NDArray[np.int32]) -> None:
        pending = np.arange(len(digests))
        while len(pending):
            slots, found = self._find(digests[pending])
            known = slots[found]
            np.maximum.at(self._minute, known, minutes[pending[found]])
            # Several new digests may want one free slot: the last write wins, the others search on.
            new = pending[~found]
            wanted = slots[~found]
            self._high[wanted] = digests[new, 0]
            self._low[wanted] = digests[new, 1]
            self._minute[wanted] = minutes[new]
            won = (self._high[wanted] == digests[new, 0]) & (self._low[wanted] == digests[new, 1])
            self._used += len(np.unique(wanted))
            losers = new[~won]
            # A digest that stands twice among the new ones has won through its twin: keep the later minute.
            np.maximum.at(self._minute, wanted[won], minutes[new[won]])
            pending = losers

    def _rebuild(self, extra: int) -> None:
        """Drops what left the window, and grows if what stays needs it."""
        live = self._minute >= self.latest_minute - WINDOW_MINUTES
        high, low, minute = self._high[live], self._low[live], self._minute[live]
        slots = 1 << 12
        while slots < 4 * (len(minute) + extra):
            slots *= 2
        self._allocate(slots)
        self._insert(np.stack([high, low], axis=1), minute)
