"""Consecutive failures over all shards: those after the latest success of any shard.

Updates commute: each shard's newest counts, so order, repeats and splits do not change the result.
"""

from __future__ import annotations

from dataclasses import dataclass

from services.alerting.domain.window import MAX_GROUPS, Group
from shared.messages import MetricUpdate


@dataclass(frozen=True, slots=True)
class Streak:
    """Event times in microseconds UTC. `failures` are later than `latest_success`, ascending."""

    latest_success: int = 0
    failures: tuple[int, ...] = ()
    n: int = 0
    """Events counted by the metric, of all time."""

    def failures_after(self, moment: int) -> int:
        return sum(1 for failure in self.failures if failure > moment)

    @property
    def latest(self) -> int:
        """When the newest event known happened."""
        return max(self.latest_success, self.failures[-1] if self.failures else 0)


class Streaks:
    """The newest update of each group and shard. Guaranteed: at most `MAX_GROUPS` groups."""

    def __init__(self) -> None:
        self._updates: dict[Group, dict[int, MetricUpdate]] = {}

    def put(self, group: Group, update: MetricUpdate) -> bool:
        """Whether the update is newer than what its shard said before."""
        if group not in self._updates and len(self._updates) >= MAX_GROUPS:
            return False
        shards = self._updates.setdefault(group, {})
        known = shards.get(update.shard)
        if known is not None and known.revision >= update.revision:
            return False
        shards[update.shard] = update
        return True

    def merged(self) -> Streak:
        """Over all shards and groups."""
        updates = [update for shards in self._updates.values() for update in shards.values()]
        success = max((u.latest_success for u in updates), default=0)
        failures = sorted(failure for u in updates for failure in u.failures if failure > success)
        return Streak(success, tuple(failures), sum(u.n for u in updates))
