"""The clock of rules and breakers: the moment up to which the whole aggregator has counted.

    min over shards of (heartbeat.time + time since it came, at most 2 s)

When the aggregator falls silent the clock stops with it: no time-out passes on figures that nobody keeps.
"""

from __future__ import annotations

from dataclasses import dataclass

from shared.clock import MINUTE, SECOND
from shared.messages import Heartbeat

EXTRAPOLATED = 2 * SECOND
AHEAD = MINUTE
"""How far the aggregator's clock may be ahead of ours. Whatever it says beyond is not believed: as this clock never
goes back, it would stand still for as long afterwards."""
_TOGETHER = 5 * SECOND
"""What stops the aggregator stops all its shards, but their last heartbeats came one after the other. Shards quiet
for almost as long as the first silent one are named with it: nobody should look for the fault in one shard alone."""


@dataclass(frozen=True, slots=True)
class _Heard:
    time: int
    at: int
    lag: int
    behind: int


class HeartbeatClock:
    """Times in microseconds; `elapsed` is a monotonic clock's. Guaranteed never to go back."""

    def __init__(self, *, elapsed: int) -> None:
        self._began = elapsed
        self._heard: dict[int, _Heard] = {}
        self._shards = 0
        self._latest = 0

    def hear(self, heartbeat: Heartbeat, *, now: int, elapsed: int) -> None:
        """`now` is the wall clock, only to tell how far the aggregator is behind, or too far ahead."""
        behind = max(0, now - heartbeat.time) if heartbeat.lag else 0
        time = min(heartbeat.time, now + AHEAD)
        self._heard[heartbeat.shard] = _Heard(time, elapsed, heartbeat.lag, behind)
        self._shards = max(self._shards, heartbeat.shards)

    def now(self, elapsed: int) -> int | None:
        """None until every shard has been heard of."""
        if not self._heard or len(self._heard) < self._shards:
            return None
        reached = min(h.time + min(max(0, elapsed - h.at), EXTRAPOLATED) for h in self._heard.values())
        self._latest = max(self._latest, reached)
        return self._latest

    def silent(self, elapsed: int, limit: int) -> tuple[int, ...]:
        """Empty until a shard was not heard of for `limit`; then that one and those that fell quiet with it.

        If none was ever heard of, shard 0 stands for all.
        """
        quiet = {
            shard: elapsed - (self._began if (heard := self._heard.get(shard)) is None else heard.at)
            for shard in range(max(1, self._shards))
        }
        if max(quiet.values()) < limit:
            return ()
        return tuple(shard for shard, since in quiet.items() if since >= limit - _TOGETHER)

    @property
    def lag_records(self) -> int:
        """Records that the brokers have and the aggregator has not counted."""
        return sum(h.lag for h in self._heard.values())

    @property
    def lag_ms(self) -> int:
        """How far the shard that is furthest behind was behind the wall clock, at its last heartbeat."""
        return max((h.behind for h in self._heard.values()), default=0) // 1_000
