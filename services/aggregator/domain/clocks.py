"""How far each shard has come in time, and which minutes are closed by it.

shard 0, busy  ─────────────● watermark
shard 1, idle  ───────● watermark ┄┄┄┄┄┄┄┄┄┄┄● brokers' time − 1 s
closed through          ─── ▲ the last whole minute before the lowest of them
"""

from __future__ import annotations

from collections.abc import Collection

from shared.clock import MINUTE, SECOND

MARGIN = SECOND
"""How far behind our clock an idle shard's time passes: events may be on their way to the brokers."""


def shard_clock(watermark: int, emptied_at: int | None) -> int:
    """µs. `emptied_at`: when the brokers had nothing that was not folded; None while something is left."""
    return watermark if emptied_at is None else max(watermark, emptied_at - MARGIN)


def closed_through(clocks: Collection[int], partitions: int) -> int:
    """The end of the last closed minute (µs); 0 while some partition has no clock."""
    if not clocks or len(clocks) < partitions:
        return 0
    lowest = min(clocks)
    return lowest - lowest % MINUTE
