"""The filter in front of the ids on disk: it may take a stranger for known, and never the reverse."""

from __future__ import annotations

import numpy as np
import pytest

from services.aggregator.domain.id_archive import Sizes
from services.aggregator.domain.id_filter import IdFilter, Marks
from services.aggregator.domain.id_table import Words

_MINUTE = np.uint64(0xFFFF)


def drawn(seed: int, count: int) -> tuple[Words, Words]:
    words = np.random.default_rng(seed).integers(0, 2**64, size=(2, count), dtype=np.uint64)
    return words[0], words[1]


@pytest.mark.parametrize("words", [1, 4, 1 << 10])
def test_what_was_added_is_always_possible_whatever_its_minute(words: int) -> None:
    high, low = drawn(1, 5_000)
    found = IdFilter(words)
    found.add(Marks(high, low, words))
    assert found.possible(Marks(high, low & ~_MINUTE, words)).tolist() == [*range(5_000)]


def test_an_empty_filter_knows_nothing() -> None:
    assert len(IdFilter(8).possible(Marks(*drawn(1, 1_000), 8))) == 0


def test_of_a_full_generation_one_stranger_in_fifty_passes_at_most() -> None:
    sizes = Sizes()
    words = sizes.filter_words // 64
    found = IdFilter(words)
    found.add(Marks(*drawn(1, 49 * sizes.run // 64), words))
    passed = len(found.possible(Marks(*drawn(2, 100_000), words)))
    assert 500 <= passed <= 2_000


def test_digests_that_share_a_half_are_told_apart() -> None:
    (high, low), (other_high, other_low) = drawn(1, 1_000), drawn(2, 1_000)
    found = IdFilter(1 << 12)
    found.add(Marks(high, low, 1 << 12))
    assert len(found.possible(Marks(high, other_low, 1 << 12))) < 50
    assert len(found.possible(Marks(other_high, low, 1 << 12))) < 50
