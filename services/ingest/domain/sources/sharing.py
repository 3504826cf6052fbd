"""Who of several processes runs which sources, by their ids."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Share:
    """What a process should let go of, and how many more it may take."""

    release: tuple[int, ...]
    room: int


def fair_share(wanted: Collection[int], mine: Collection[int], processes: int) -> Share:
    """Every process holds at most its share of what is wanted, rounded up.

    `processes` are those alive, this one included. What is not wanted any more is let go of, and what is over the
    share; which one does not matter, as long as it is always the same.
    """
    unwanted = sorted(set(mine) - set(wanted))
    kept = sorted(set(mine) & set(wanted))
    most = -(-len(wanted) // max(1, processes))
    return Share(tuple(unwanted + kept[most:]), max(0, most - len(kept)))
