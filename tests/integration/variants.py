"""Metrics of units, and a worker's part for one shard, to be cut by variant."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from services.aggregator.domain.batch import judge, read_batch
from services.aggregator.domain.fold import fold
from services.aggregator.domain.known import KnownUnits
from services.aggregator.domain.plan import Plan
from services.aggregator.domain.seen import SeenIds
from services.aggregator.store.series import SeriesIds
from services.aggregator.store.shards import ShardRow, create_shard, load_shard
from services.aggregator.store.transaction import apply_batch
from shared.messages import Experiment
from shared.postgres import RETRYABLE, Pool
from tests.unit.aggregator.builders import experiment, record

JOURNEY: dict[str, Any] = {
    "type": "journey",
    "unit": "job",
    "start": {"event": "started"},
    "complete": {"event": "ended", "filter": {"path": "properties.status", "value": "success"}},
    "dead": {"event": "ended", "filter": {"path": "properties.status", "value": "failed"}},
    "steps": [{"name": "seen", "event": "pageview"}, {"name": "mapped", "event": "mapped"}],
    "timeout": 7200,
    "outcomes": [
        {"name": "quick", "when": {"reached": "complete", "within": 600}},
        {"name": "completed", "when": {"all": [{"reached": "complete"}, {"timeout": True}]}},
        {"name": "failed", "when": {"reached": "dead"}},
        {"name": "abandoned", "when": {"timeout": True}},
    ],
    "durations": [
        {"name": "mapping", "from": "mapped", "to": "complete", "percentiles": ["p50", "p90"]},
        {"name": "look", "to": "seen"},
    ],
    "within": [{"name": "active", "step": "seen", "of": "complete", "within": 3600, "at_least": 2}],
    "correlate": [
        {"name": "ticket", "event": "ticket", "by": "user", "within": 86400, "distinct": "properties.id"},
        {"name": "engaged", "event": "pageview", "by": "user", "within": 7200, "at_least": 5},
    ],
    "first_attempt": {"by": "user"},
    "group_by": ["properties.plan"],
}
FUNNEL: dict[str, Any] = {
    "type": "funnel",
    "unit": "user",
    "stages": [{"name": n, "event": n} for n in ("pageview", "started", "mapped", "ended")],
    "window": 10_800,
    "drop_off": {"event": "ticket", "reason": "properties.id"},
}
STAGED: dict[str, Any] = {
    **{field: value for field, value in FUNNEL.items() if field != "drop_off"},
    "group_by": ["properties.plan"],
}
"""Its rows have no parts until they are settled."""
SPECS = {"journey": JOURNEY, "funnel": FUNNEL, "staged": STAGED}
SEGMENT = "context.net"


class Writer:
    """A worker's part for one shard; it remembers some of the units."""

    def __init__(self, pool: Pool, row: ShardRow, plan: Plan) -> None:
        self._pool = pool
        self._plan = plan
        self._ids = SeriesIds()
        self._known = KnownUnits(20)
        self.row = row

    @classmethod
    async def start(cls, pool: Pool, shard: int, plan: Plan) -> Writer:
        async with pool.acquire() as connection:
            await create_shard(connection, shard, 0, "test")
            row = await load_shard(connection, shard)
        assert row is not None
        return cls(pool, row, plan)

    async def tell(self, events: Sequence[dict[str, Any]]) -> None:
        first, newest = self.row.next_offset, max(e["time"] for e in events)
        batch = read_batch([record(first + i, one, newest) for i, one in enumerate(events)])
        verdicts = judge(batch, self.row.watermark, SeenIds())
        assert verdicts.counted.all()
        async with self._pool.acquire() as connection:
            await self._ids.register_windows(connection, self._plan.window_series())
        deltas = fold(batch, verdicts, self._plan, units=self._known)
        while True:
            try:
                applied = await apply_batch(self._pool, self.row, batch, verdicts, deltas, self._ids, [], now=newest)
                break
            except RETRYABLE:
                continue
        self._known.learn(applied.learned)
        self.row = applied.shard


def experiments_of(organisation: str, *metrics: str) -> list[Experiment]:
    return [
        experiment("x", organisation=organisation, segments=(SEGMENT,), metrics=metrics),
        experiment("s", organisation=organisation, segments=(SEGMENT,), metrics=metrics, unit="session"),
    ]
