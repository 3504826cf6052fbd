"""Which event ids were seen lately, by digests of 128 bits.

An id is a duplicate if it was seen in the same partition at most `WINDOW_MINUTES` of broker time ago. Broker minutes,
not instants, decide, so the answer does not depend on how the log was cut into batches. The latest ids are in a table
of up to 4 MiB; the older ones are in files, at 16 bytes an id, behind filters in memory of 8 MiB for each 6 million.
Ids older than the window are dropped.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import xxhash

from services.aggregator.domain.id_archive import IdArchive, Sizes
from services.aggregator.domain.id_runs import MemoryFile, NewFile
from services.aggregator.domain.id_table import MINUTE_BITS, IdTable, Places, Words

WINDOW_MINUTES = 36
"""Clients retry for up to 30 minutes; the design asks for at least 35, and minutes are cut, not rounded."""

Digests = npt.NDArray[np.uint64]
"""Shape (n, 2): the two halves of each 128-bit digest."""

NEVER = -(2**31)
"""Stands for the latest minute before there is any."""

_SIZES = Sizes()


def digest(organisation: str, event_id: str) -> bytes:
    """16 bytes that stand for an event id. XXH3: ids are chosen by the organisation's own clients."""
    return xxhash.xxh3_128_digest(f"{organisation}\x00{event_id}".encode("utf-8", "surrogatepass"))


def digests_of(organisations: Sequence[str], event_ids: Sequence[str]) -> Digests:
    """The digest of each pair; in two thirds of the time where all are of one organisation, as most are."""
    different = set(organisations)
    if len(different) == 1:
        prefix = f"{different.pop()}\x00"
        lines = (prefix + f"\n{prefix}".join(event_ids)).encode("utf-8", "surrogatepass").split(b"\n")
        if len(lines) == len(event_ids):  # no name holds a line break
            return as_array([*map(xxhash.xxh3_128_digest, lines)])
    return as_array([digest(*pair) for pair in zip(organisations, event_ids, strict=True)])


def as_array(digests: Sequence[bytes]) -> Digests:
    """Digests of 16 bytes each as an (n, 2) array."""
    return from_bytes(b"".join(digests))


def from_bytes(raw: bytes) -> Digests:
    return np.frombuffer(raw, dtype="<u8").reshape(-1, 2)


class SeenIds:
    """Remembers digests by the latest broker minute in which they were seen.

    `new_file` makes what the older ones are kept in; whatever it raises comes out of `is_duplicate` and `add`, after
    which the object is of no use any more.
    """

    def __init__(self, new_file: NewFile = MemoryFile, sizes: Sizes = _SIZES) -> None:
        self._sizes = sizes
        self._table = IdTable(sizes.first_slots)
        self._archive = IdArchive(new_file, sizes)
        self._asked: tuple[Digests, Places, bool] | None = None
        """What was looked up last, and if none stands twice. Nothing was added since: mostly it is added next."""
        self.latest_minute = NEVER

    def __len__(self) -> int:
        """Ids remembered; one that was seen again after it went to a file counts twice."""
        return len(self._table) + len(self._archive)

    @property
    def memory_bytes(self) -> int:
        return self._table.memory_bytes + self._archive.memory_bytes

    @property
    def disk_bytes(self) -> int:
        return self._archive.disk_bytes

    def is_duplicate(self, digests: Digests, minutes: npt.NDArray[np.int32]) -> npt.NDArray[np.bool_]:
        """Which digests were seen within the window before their minute, or earlier in this very sequence.

        `minutes` are broker minutes, one each; they fall within a partition only where a broker's clock is set back.
        """
        high, low = _halves(digests)
        places = self._table.look_up(high, low)
        duplicate = places[1].copy()
        since = minutes.astype(np.int64) - WINDOW_MINUTES
        if duplicate.any():
            duplicate[duplicate] = self._table.seen_at(places[0][duplicate]) >= since[duplicate]
        self._archive.mark(high, low, since, duplicate)
        halves = np.sort(high)
        distinct = not (halves[1:] == halves[:-1]).any()
        self._asked = (digests, places, distinct)
        if distinct:
            return duplicate
        order = np.lexsort((digests[:, 1], digests[:, 0]))
        ordered = digests[order]
        repeats = np.flatnonzero((ordered[1:] == ordered[:-1]).all(axis=1)) + 1
        latest = minutes.copy()
        for at in repeats:  # lexsort is stable: the earlier record stands before the later one
            later, earlier = order[at], order[at - 1]
            duplicate[later] |= minutes[later] - latest[earlier] <= WINDOW_MINUTES
            latest[later] = max(latest[later], latest[earlier])  # as `add` keeps it: a clock may be set back
        return duplicate

    def add(self, digests: Digests, minutes: npt.NDArray[np.int32]) -> None:
        """Marks digests as seen; a digest seen before takes the later minute."""
        asked, self._asked = self._asked, None
        if asked is not None and asked[0] is digests and len(digests) <= self._sizes.run:
            self._add(digests, minutes, asked[1], distinct=asked[2])
            return
        for i in range(0, len(digests), self._sizes.run):
            self._add(digests[i : i + self._sizes.run], minutes[i : i + self._sizes.run])

    def _add(
        self,
        digests: Digests,
        minutes: npt.NDArray[np.int32],
        places: Places | None = None,
        *,
        distinct: bool = False,
    ) -> None:
        if not len(digests):
            return
        if self.latest_minute == NEVER:
            self._table.begin_at(int(minutes.min()) - 1 - WINDOW_MINUTES)  # brokers' clocks may be set back
        self.latest_minute = max(self.latest_minute, int(minutes.max()))
        if not self._table.has_room(len(digests), self.latest_minute):
            places = None
            self._make_room(len(digests))
        self._table.insert(*_halves(digests), minutes, places, distinct=distinct)

    def _make_room(self, extra: int) -> None:
        """Drops what left the window; what stays gets a larger table or, where that would be too large, a file."""
        oldest = self.latest_minute - WINDOW_MINUTES
        base = max(oldest - 1 - WINDOW_MINUTES, self._table.base)  # what is added next may be older than what is kept
        slots = self._table.slots_for(extra, oldest)
        if slots <= self._sizes.table_slots:
            self._table.rebuild(slots, oldest, base)
            return
        self._archive.add(self._table.drain(self._sizes.table_slots, oldest), self._table.base, oldest)
        self._table.begin_at(base)


def _halves(digests: Digests) -> tuple[Words, Words]:
    """As the table takes them: without the 16 bits whose place the minute has."""
    return np.ascontiguousarray(digests[:, 0]), digests[:, 1] << MINUTE_BITS
