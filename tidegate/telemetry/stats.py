"""What became of the events: each is sooner or later accepted, invalid, set aside or dropped."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum


class Drop(Enum):
    """Why an event was not delivered."""

    FULL = "full"
    """So many waited that there was no room."""
    UNUSABLE = "unusable"
    """It was no JSON, or the call was wrong."""
    REFUSED = "refused"
    """The platform would not take the request; sending it again would not help."""
    EXPIRED = "expired"
    """The platform was away for too long."""
    UNSENT = "unsent"
    """The process ended first."""


@dataclass(frozen=True, slots=True)
class Stats:
    """Events by what became of them. `waiting` may still be delivered; the platform's rules kept `set_aside` away."""

    recorded: int
    waiting: int
    accepted: int
    invalid: int
    set_aside: int
    dropped: Mapping[Drop, int]


class Tally:
    """Counts for several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._recorded = 0
        self._accepted = 0
        self._invalid = 0
        self._set_aside = 0
        self._dropped: Counter[Drop] = Counter()

    def record(self) -> None:
        with self._lock:
            self._recorded += 1

    def deliver(self, accepted: int, invalid: int, set_aside: int) -> None:
        with self._lock:
            self._accepted += accepted
            self._invalid += invalid
            self._set_aside += set_aside

    def drop(self, why: Drop, events: int = 1) -> int:
        """Returns how many have been dropped for this reason, these included."""
        with self._lock:
            self._dropped[why] += events
            return self._dropped[why]

    def stats(self, noted: int) -> Stats:
        """With so many that have been noted and not yet been recorded here."""
        with self._lock:
            recorded = self._recorded + noted
            settled = self._accepted + self._invalid + self._set_aside + self._dropped.total()
            dropped = dict(+self._dropped)
            return Stats(recorded, recorded - settled, self._accepted, self._invalid, self._set_aside, dropped)
