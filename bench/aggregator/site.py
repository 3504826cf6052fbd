"""What the systems find when they are started, and what running one gives."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.aggregator.peers.protocol import GroupTotal
from bench.progress import Completed


@dataclass(frozen=True, slots=True)
class Site:
    """What stands ready before any system starts: the topic with all events, the migrated database, a core."""

    kafka: str
    postgres: str
    topic: str
    ends: dict[int, int]
    """Partition → offset after its last record; the first one is 0."""
    core: int | None
    directory: Path
    cache: Path

    @property
    def events(self) -> int:
        return sum(self.ends.values())


@dataclass(frozen=True, slots=True)
class Run:
    """`events` took `seconds`, in which the process used `cpu_seconds`; `peak_memory` (bytes) is since its start.

    `warm_up` is how many events it had folded before. `totals` are what a peer said that its windows come to; empty
    of what cannot be asked like that.
    """

    events: int
    seconds: float
    cpu_seconds: float
    peak_memory: int
    totals: tuple[GroupTotal, ...] = ()
    warm_up: int = 0


Runner = Callable[[Site, int, Completed], Awaitable[Sequence[Run]]]
"""Runs a system on so many of the site's events, once or more in one process."""
