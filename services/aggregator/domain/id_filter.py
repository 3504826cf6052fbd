"""Tells digests that are surely not among many from those that may be, at some ten bits of memory each.

A Bloom filter of 64-bit words: a digest sets three bits in each of two words. So two look-ups decide, and the second
is only made for what passes the first. With ten bits a digest 1 % of all others pass.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from services.aggregator.domain.id_table import Words

Indices = npt.NDArray[np.intp]


class Marks:
    """Which words of a filter stand for each digest, and which bits of them; the same for filters of one size."""

    def __init__(self, high: Words, low: Words, words: int) -> None:
        """Of digests as `IdTable` takes them, in filters of `words` words, a power of two up to 2^24."""
        self._high, self._low, self._mask = high, low, np.uint64(words - 1)
        self.first = ((low >> np.uint64(16)) & self._mask).astype(np.int64)
        self.first_bits = _bits(high, 20)

    def second(self, which: Indices | slice) -> tuple[npt.NDArray[np.int64], Words]:
        """The second word of some, and its bits."""
        return ((self._low[which] >> np.uint64(40)) & self._mask).astype(np.int64), _bits(self._high[which], 32)


class IdFilter:
    def __init__(self, words: int) -> None:
        self._words = np.zeros(words, dtype=np.uint64)

    @property
    def memory_bytes(self) -> int:
        return self._words.nbytes

    def add(self, marks: Marks) -> None:
        np.bitwise_or.at(self._words, marks.first, marks.first_bits)
        np.bitwise_or.at(self._words, *marks.second(slice(None)))

    def possible(self, marks: Marks) -> Indices:
        """Which digests may have been added: all that were, and few others."""
        passed = np.flatnonzero((self._words.take(marks.first) & marks.first_bits) == marks.first_bits)
        words, bits = marks.second(passed)
        return passed.compress((self._words.take(words) & bits) == bits)


def _patterns() -> Words:
    """4,096 words of three bits each."""
    places = np.random.default_rng(0).permuted(np.tile(np.arange(64, dtype=np.uint64), (4096, 1)), axis=1)[:, :3]
    patterns: Words = np.bitwise_or.reduce(np.uint64(1) << places, axis=1)
    return patterns


_PATTERNS = _patterns()


def _bits(high: Words, begin: int) -> Words:
    """By twelve bits from `begin` on: the lowest place digests in the table, and the highest in runs."""
    return _PATTERNS.take(((high >> np.uint64(begin)) & np.uint64(0xFFF)).astype(np.int64))
