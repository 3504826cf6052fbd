"""What became of each dead letter, as the marks on their topic tell in their order.

    open ──claimed──► replaying ──replayed──► replayed        discarded letters may still be claimed
      ▲                   │
      └─────released──────┘

Every process reads the same marks and so knows the same: of several claims to a letter the first one holds, until one
to the same event takes over what that has left behind.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from shared.clock import SECOND
from shared.messages import DeadLetterMark

ALIVE = 15 * SECOND
"""So long after a claim its process may still be about to store the event: the producer gives up after 10 seconds."""
RECENT = 50_000
"""Settled letters of which all is known; of older ones only the state is (9 bytes each)."""


class State(Enum):
    """The value is what answers show."""

    OPEN = "open"
    CLAIMED = "replaying"
    """Its event may be stored or not: somebody is about to replay it, or died while doing so."""
    REPLAYED = "replayed"
    DISCARDED = "discarded"


@dataclass(frozen=True, slots=True)
class Claim:
    """Times are in microseconds UTC by the clocks of who claimed."""

    attempt: str
    event_id: str
    event_key: str
    event_digest: str
    since: int
    """When this event was claimed first: it may be stored since then."""
    renewed: int
    """When `attempt` claimed it."""


class Ledger:
    """Hand it every mark in the order of the log."""

    def __init__(self, *, recent: int = RECENT) -> None:
        self._limit = recent
        self._claims: dict[str, Claim] = {}
        self._recent: dict[int, DeadLetterMark] = {}
        self._digests: NDArray[np.uint64] = np.empty(0, dtype=np.uint64)
        self._replayed: NDArray[np.bool_] = np.empty(0, dtype=np.bool_)

    def apply(self, mark: DeadLetterMark) -> None:
        state = self.state(mark.letter)
        if mark.mark == "claimed":
            held = self._claims.get(mark.letter)
            if state in (State.OPEN, State.DISCARDED):
                self._claims[mark.letter] = _claim_of(mark, since=mark.marked_at)
            elif held is not None and _takes_over(mark, held):
                self._claims[mark.letter] = _claim_of(mark, since=held.since)
        elif mark.mark == "released":
            claim = self._claims.get(mark.letter)
            if claim is not None and claim.attempt == mark.attempt:
                del self._claims[mark.letter]
        elif mark.mark == "replayed":
            self._claims.pop(mark.letter, None)
            self._settle(mark)
        elif state is State.OPEN:
            self._settle(mark)

    def state(self, letter: str) -> State:
        digest = _digest(letter)
        settled = self._settled(digest)
        if settled is not State.REPLAYED and letter in self._claims:
            return State.CLAIMED
        return settled

    def claim(self, letter: str) -> Claim | None:
        """Who is replaying it."""
        return self._claims.get(letter)

    def settled_by(self, letter: str) -> DeadLetterMark | None:
        """The mark that settled it, unless that was long ago."""
        return self._recent.get(_digest(letter))

    def _settled(self, digest: int) -> State:
        mark = self._recent.get(digest)
        if mark is not None:
            return State.REPLAYED if mark.mark == "replayed" else State.DISCARDED
        place = int(np.searchsorted(self._digests, np.uint64(digest)))
        if place < len(self._digests) and int(self._digests[place]) == digest:
            return State.REPLAYED if self._replayed[place] else State.DISCARDED
        return State.OPEN

    def _settle(self, mark: DeadLetterMark) -> None:
        digest = _digest(mark.letter)
        self._recent.pop(digest, None)
        self._recent[digest] = mark
        if len(self._recent) > self._limit:
            self._pack(len(self._recent) - self._limit // 2)

    def _pack(self, count: int) -> None:
        """Keeps only the state of the `count` that were settled first."""
        oldest = [digest for digest, _ in zip(self._recent, range(count), strict=False)]
        replayed = [self._recent.pop(digest).mark == "replayed" for digest in oldest]
        digests = np.concatenate([np.array(oldest, dtype=np.uint64), self._digests])
        states = np.concatenate([np.array(replayed, dtype=np.bool_), self._replayed])
        # Of equal digests `unique` takes the first: the newer.
        self._digests, first = np.unique(digests, return_index=True)
        self._replayed = states[first]


def _claim_of(mark: DeadLetterMark, *, since: int) -> Claim:
    return Claim(
        attempt=mark.attempt,
        event_id=mark.event_id or "",
        event_key=mark.event_key or "",
        event_digest=mark.event_digest or "",
        since=since,
        renewed=mark.marked_at,
    )


def _takes_over(mark: DeadLetterMark, held: Claim) -> bool:  # a comparison of values
    """Whether it claims the same event, and so late that who claimed it before is dead or has given up."""
    return mark.event_digest == held.event_digest and mark.marked_at - held.renewed >= ALIVE


def _digest(letter: str) -> int:
    """64 bits: among a million settled letters one of a million others is taken for one of them with p = 5e-8."""
    return int.from_bytes(hashlib.blake2b(letter.encode("utf-8", "surrogatepass"), digest_size=8).digest())
