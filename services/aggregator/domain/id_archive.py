"""The digests that no longer fit into the table of recent ones: in files, with a filter in memory that knows them.

    table (recent) ──full──► run ──seven──► longer run ──seven──► one run       a generation: its runs share a filter

A digest that no filter knows was never seen, and that is decided in memory. What a filter takes for possible is
looked for in the runs: what was seen before, and up to 1 % of the rest for each generation. From the start the filter
is as large as it will ever be, so that neither memory nor time grow much with what comes; a generation that is
complete is followed by another one. Runs are dropped once all that they hold has left the window.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from services.aggregator.domain.id_filter import IdFilter, Indices, Marks
from services.aggregator.domain.id_runs import NewFile, Run, merged
from services.aggregator.domain.id_table import LOAD, Words

_MERGED = 7
"""Runs that are merged into one."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """Of the table, which makes runs of up to half its slots, and of a filter for 49 of those. Powers of two.

    A generation holds 6.4 million digests then, at 10.4 bits of the filter for each.
    """

    first_slots: int = 1 << 12
    table_slots: int = 1 << 18
    filter_words: int = 1 << 20

    @property
    def run(self) -> int:
        """Digests in the largest run that a table can make."""
        return int(LOAD * self.table_slots)


class _Generation:
    """Runs that share a filter."""

    def __init__(self, words: int) -> None:
        self._filter = IdFilter(words)
        self._merged: list[Run] = []
        self._recent: list[Run] = []
        self._taken = 0

    def __len__(self) -> int:
        return sum(map(len, self._runs))

    @property
    def memory_bytes(self) -> int:
        return self._filter.memory_bytes + sum(run.memory_bytes for run in self._runs)

    @property
    def is_complete(self) -> bool:
        """The filter is full, though many of its runs may be gone by now."""
        return self._taken == _MERGED**2

    def is_over(self, oldest: int) -> bool:
        """True if nothing of it was seen in `oldest` or later. Drops the runs of which that is true."""
        self._merged = [run for run in self._merged if run.newest >= oldest]
        self._recent = [run for run in self._recent if run.newest >= oldest]
        return not self._runs

    def take(self, run: Run, marks: Marks, new_file: NewFile, oldest: int) -> None:
        """What was last seen before `oldest` may be left out where runs are merged."""
        self._filter.add(marks)
        self._recent.append(run)
        self._taken += 1
        if self.is_complete:
            self._merged, self._recent = [merged(self._runs, new_file(), oldest)], []
        elif len(self._recent) == _MERGED:
            self._merged.append(merged(self._recent, new_file(), oldest))
            self._recent = []

    def mark(
        self, high: Words, low: Words, marks: Marks, since: npt.NDArray[np.int64], known: npt.NDArray[np.bool_]
    ) -> None:
        """Sets `known` for each digest that was seen in its minute of `since` or later."""
        asked: Indices = self._filter.possible(marks)
        for run in reversed(self._runs):
            asked = asked[~known[asked]]
            if len(asked):
                which, seen_at = run.find(high[asked], low[asked])
                found = asked[which]
                known[found[seen_at >= since[found]]] = True

    @property
    def _runs(self) -> list[Run]:
        """The oldest first."""
        return [*self._merged, *self._recent]


class IdArchive:
    def __init__(self, new_file: NewFile, sizes: Sizes) -> None:
        self._new_file = new_file
        self._sizes = sizes
        self._generations: list[_Generation] = []

    def __len__(self) -> int:
        """Digests in all runs; one that was seen again later may be in several."""
        return sum(map(len, self._generations))

    @property
    def memory_bytes(self) -> int:
        return sum(generation.memory_bytes for generation in self._generations)

    @property
    def disk_bytes(self) -> int:
        return 16 * len(self)

    def add(self, slots: Words, base: int, oldest: int) -> None:
        """Takes what a table held, `in_order`; what was last seen before `oldest` may be forgotten."""
        self._generations = [g for g in self._generations if not g.is_over(oldest)]
        if not len(slots):
            return
        if not self._generations or self._generations[-1].is_complete:
            self._generations.append(_Generation(self._sizes.filter_words))
        marks = Marks(slots[:, 0], slots[:, 1], self._sizes.filter_words)
        run = Run(self._new_file(), base, [slots], len(slots))
        self._generations[-1].take(run, marks, self._new_file, oldest)

    def mark(self, high: Words, low: Words, since: npt.NDArray[np.int64], known: npt.NDArray[np.bool_]) -> None:
        """Sets `known` for each digest that was seen in its minute of `since` or later. `low` without minutes."""
        if not self._generations:
            return
        marks = Marks(high, low, self._sizes.filter_words)
        for generation in reversed(self._generations):
            generation.mark(high, low, marks, since, known)
