"""What is left of each key's bucket: in this process alone, or in a file that all processes behind one port map.

The kernel spreads connections unevenly, and a client may have only one: were each process to grant its share of a
limit, most of it could not be used. In a file what one process grants is gone for all of them.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from services.ingest.domain.rate_limit import Balance

Change = Callable[[Balance | None], Balance | None]
"""What becomes of a balance, the first being None; None leaves it as it is."""


class Balances(Protocol):
    """By key prefix."""

    def change(self, key: str, change: Change) -> None:
        """Nobody else changes it meanwhile. `change` must be quick and not wait."""


class OwnBalances:
    """Of this process."""

    def __init__(self) -> None:
        self._held: dict[str, Balance] = {}

    def change(self, key: str, change: Change) -> None:
        new = change(self._held.get(key))
        if new is not None:
            self._held[key] = new


class SharedBalances:
    """In `file`, which all processes give. Linux's monotonic clock, the same for all of them, must date balances.

    A hash table that only grows: a slot is a key's for as long as the file lasts. A change takes some microseconds.
    Call `close` in the end.
    """

    def __init__(self, file: Path, slots: int = 16_384) -> None:
        self._slots = slots
        self._file = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        os.ftruncate(self._file, slots * _SLOT.size)
        self._table = mmap.mmap(self._file, slots * _SLOT.size)
        self._places: dict[str, int] = {}
        self._homeless = OwnBalances()
        """For keys that find no slot: more than any installation has."""

    def close(self) -> None:
        self._table.close()
        os.close(self._file)

    def change(self, key: str, change: Change) -> None:
        fcntl.flock(self._file, fcntl.LOCK_EX)
        try:
            place = self._places.get(key)
            if place is None:
                place = self._find(key.encode())
                if place is None:
                    self._homeless.change(key, change)
                    return
                self._places[key] = place
            name, events, at = _SLOT.unpack_from(self._table, place)
            new = change(Balance(events, at) if name[0] else None)
            if new is not None:
                _SLOT.pack_into(self._table, place, key.encode(), new.events, new.at)
        finally:
            fcntl.flock(self._file, fcntl.LOCK_UN)

    def _find(self, key: bytes) -> int | None:
        """Where the key's slot is, or the free one that it gets."""
        first = int.from_bytes(key, "big") % self._slots
        for step in range(self._slots):
            place = (first + step) % self._slots * _SLOT.size
            name = _SLOT.unpack_from(self._table, place)[0].rstrip(b"\0")
            if name in (b"", key):
                return place
        return None


_SLOT = struct.Struct("<16sdd")
"""A key's prefix, padded with zeros, and its balance."""
