"""Which event ids were seen lately: an open-addressing hash table of 128-bit digests in flat arrays.

An id is a duplicate if it was seen in the same partition at most `WINDOW_MINUTES` of broker time ago. Broker minutes,
not instants, decide, so the answer does not depend on how the log was cut into batches. A digest costs 16 bytes a
slot at a load of 0.3 to 0.6: about 27 to 53 bytes an id, and ids older than the window are dropped.
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

NEVER = -(2**31)
"""Stands for the latest minute before there is any."""

_Words = npt.NDArray[np.uint64]
_Places = tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]
_MINUTE_BITS = np.uint64(16)
_MINUTE = np.uint64(0xFFFF)
_LAST_MINUTE = 0xFFFF
_LOAD = 0.6
_PART = 1 << 16
"""Slots that are moved to a new table at a time: nothing else needs memory meanwhile."""


def digest(organisation: str, event_id: str) -> bytes:
    """16 bytes that stand for an event id. XXH3: ids are chosen by the organisation's own clients."""
    return xxhash.xxh3_128_digest(f"{organisation}\x00{event_id}".encode("utf-8", "surrogatepass"))


def digests_of(organisations: Sequence[str], event_ids: Sequence[str]) -> Digests:
    """The digest of each pair."""
    hashed = xxhash.xxh3_128_digest
    prefixes = {organisation: f"{organisation}\x00".encode() for organisation in set(organisations)}
    if len(prefixes) == 1:
        (prefix,) = prefixes.values()
        return as_array([hashed(prefix + event_id.encode()) for event_id in event_ids])
    pairs = zip(organisations, event_ids, strict=True)
    return as_array([hashed(prefixes[o] + event_id.encode()) for o, event_id in pairs])


def as_array(digests: Sequence[bytes]) -> Digests:
    """Digests of 16 bytes each as an (n, 2) array."""
    return from_bytes(b"".join(digests))


def from_bytes(raw: bytes) -> Digests:
    return np.frombuffer(raw, dtype="<u8").reshape(-1, 2)


class SeenIds:
    """Remembers digests by the latest broker minute in which they were seen.

    A slot is two words: the digest's first half; and 48 bits of its second half above 16 for the minute, counted from
    `_base` and never 0. So a digest is found by looking at one place in memory, and 112 bits tell it from others.
    """

    def __init__(self, slots: int = 1 << 12) -> None:
        self._base = 0
        self._asked: tuple[Digests, npt.NDArray[np.int64], npt.NDArray[np.bool_]] | None = None
        """What was looked up last, since when nothing was added: mostly it is added next."""
        self.latest_minute = NEVER
        self._allocate(slots)

    def __len__(self) -> int:
        return self._used

    @property
    def memory_bytes(self) -> int:
        return self._table.nbytes

    def is_duplicate(self, digests: Digests, minutes: npt.NDArray[np.int32]) -> npt.NDArray[np.bool_]:
        """Which digests were seen within the window before their minute, or earlier in this very sequence.

        `minutes` are broker minutes, one each; they fall within a partition only where a broker's clock is set back.
        """
        slots, found = self._look_up(np.ascontiguousarray(digests[:, 0]), digests[:, 1] << _MINUTE_BITS)
        self._asked, duplicate = (digests, slots, found), found.copy()
        if duplicate.any():
            seen_at = (self._table[slots[duplicate], 1] & _MINUTE).astype(np.int64) + self._base
            duplicate[duplicate] = minutes[duplicate] - seen_at <= WINDOW_MINUTES
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
        if self.latest_minute == NEVER:
            self._base = int(minutes.min()) - 1 - WINDOW_MINUTES  # brokers' clocks may be set back
        self.latest_minute = max(self.latest_minute, int(minutes.max()))
        full = (self._used + len(digests)) > _LOAD * len(self._table)
        if full or self.latest_minute - self._base > _LAST_MINUTE:
            self._rebuild(extra=len(digests))
        low = (digests[:, 1] << _MINUTE_BITS) | (minutes - self._base).clip(1).astype(np.uint64)
        asked, self._asked = self._asked, None
        known = asked[1:] if asked is not None and asked[0] is digests else None
        self._insert(np.ascontiguousarray(digests[:, 0]), low, known)

    def _allocate(self, slots: int) -> None:
        self._asked = None
        self._mask = np.uint64(slots - 1)
        self._table = np.zeros((slots, 2), dtype=np.uint64)
        self._whole = self._table.view(np.complex128).reshape(-1)
        """The same memory, a slot an element: numpy moves those several times faster than rows."""
        self._used = 0

    def _look_up(self, high: _Words, low: _Words) -> _Places:
        """Where each digest stands or, if it is not there, the free slot where its search ended; and which are."""
        slots = (high & self._mask).astype(np.int64)
        low = low >> _MINUTE_BITS
        held = self._table.take(slots, axis=0)
        found = (held[:, 0] == high) & ((held[:, 1] >> _MINUTE_BITS) == low) & (held[:, 1] != 0)
        searching = np.flatnonzero(~found & (held[:, 1] != 0))
        last = len(self._table) - 1
        while len(searching):
            at = (slots[searching] + 1) & last
            slots[searching] = at
            held = self._table.take(at, axis=0)
            occupied = held[:, 1] != 0
            equal = (held[:, 0] == high[searching]) & ((held[:, 1] >> _MINUTE_BITS) == low[searching]) & occupied
            found[searching[equal]] = True
            searching = searching[occupied & ~equal]
        return slots, found

    def _insert(self, high: _Words, low: _Words, places: _Places | None = None) -> None:
        """`low` with minutes. Words of one digest differ in their minutes only, so the later one is the larger."""
        while len(high):
            slots, found = self._look_up(high, low) if places is None else places
            places = None
            if found.any():
                np.maximum.at(self._table[:, 1], slots[found], low[found])
                high, low, slots = high[~found], low[~found], slots[~found]
            # Several new digests may want one free slot: the last write wins, the others search on.
            self._whole[slots] = _slots_of(high, low)
            self._used += _distinct(slots)
            held = self._table.take(slots, axis=0)
            # Who stands twice among the new ones may have won through its twin: then it is found in the next round.
            lost = (held[:, 0] != high) | (held[:, 1] != low)
            high, low = high[lost], low[lost]

    def _place(self, high: _Words, low: _Words) -> None:
        """`_insert` of what is not there, each once."""
        self._used += len(high)
        slots, last = (high & self._mask).astype(np.int64), len(self._table) - 1
        while len(high):
            free = self._table.take(slots, axis=0)[:, 1] == 0
            self._whole[slots[free]] = _slots_of(high[free], low[free])
            # Several may have wanted one slot: the last write won.
            held = self._table.take(slots, axis=0)
            lost = (held[:, 0] != high) | (held[:, 1] != low)
            high, low, slots = high[lost], low[lost], (slots[lost] + 1) & last

    def _rebuild(self, extra: int) -> None:
        """Drops what left the window, and grows if what stays needs it."""
        old, old_whole = self._table, self._whole
        oldest = self.latest_minute - WINDOW_MINUTES
        threshold = np.uint64(max(oldest - self._base, 1))
        parts = range(0, len(old), _PART)
        live = sum(int(np.count_nonzero((old[i : i + _PART, 1] & _MINUTE) >= threshold)) for i in parts)
        slots = 1 << 12
        while _LOAD * slots < 1.25 * (live + extra):
            slots *= 2
        self._allocate(slots)
        base = max(oldest - 1 - WINDOW_MINUTES, self._base)  # what is added next may be older than what is kept
        shift = np.uint64(base - self._base)
        self._base = base
        for i in parts:
            live_ones = (old[i : i + _PART, 1] & _MINUTE) >= threshold
            part = old_whole[i : i + _PART][live_ones].view(np.uint64).reshape(-1, 2)
            self._place(np.ascontiguousarray(part[:, 0]), part[:, 1] - shift)


def _slots_of(high: _Words, low: _Words) -> npt.NDArray[np.complex128]:
    """Both words of each slot as one element; only ever copied."""
    return np.stack((high, low), axis=1).view(np.complex128).reshape(-1)


def _distinct(slots: npt.NDArray[np.int64]) -> int:
    return int(np.count_nonzero(np.diff(np.sort(slots)))) + bool(len(slots))
