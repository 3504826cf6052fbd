"""Folds events of a few shards straight into Postgres, as workers would, and reads metrics as the API does."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from services.aggregator.domain.batch import judge, read_batch
from services.aggregator.domain.caps import KnownGroups
from services.aggregator.domain.fold import fold
from services.aggregator.domain.metrics import Definition
from services.aggregator.domain.plan import Plan
from services.aggregator.domain.seen import SeenIds
from services.aggregator.queries import Queries
from services.aggregator.readings import read_items, span_of
from services.aggregator.store.groups import read_groups
from services.aggregator.store.series import SeriesIds
from services.aggregator.store.shards import ShardRow, create_shard, load_shard
from services.aggregator.store.transaction import apply_batch
from shared.postgres import Pool
from tests.unit.aggregator.builders import plan_of, record


class Ledger:
    """The shards `first` and up; each event goes to the next."""

    def __init__(self, pool: Pool, plan: Plan, rows: dict[int, ShardRow]) -> None:
        self._pool = pool
        self._plan = plan
        self._rows = rows
        self._ids = SeriesIds()
        self._groups = {shard: KnownGroups(stored=True) for shard in rows}
        self.rereads = 0

    @classmethod
    async def open(cls, pool: Pool, metrics: Iterable[Definition], *, first: int, shards: int = 2) -> Ledger:
        rows = {}
        async with pool.acquire() as connection:
            for shard in range(first, first + shards):
                await create_shard(connection, shard, 0, "test")
                row = await load_shard(connection, shard)
                assert row is not None
                rows[shard] = row
        return cls(pool, plan_of(*metrics), rows)

    async def restart(self) -> None:
        """Another worker takes over: it knows what Postgres knows."""
        self._groups = {shard: KnownGroups(stored=True) for shard in self._rows}

    async def tell(self, events: Sequence[dict[str, Any]], *, batch: int = 1_000) -> None:
        """Broker time is the event's, or the latest before it."""
        shards = list(self._rows)
        for place, shard in enumerate(shards):
            mine = events[place :: len(shards)]
            for begin in range(0, len(mine), batch):
                await self._store(shard, mine[begin : begin + batch])

    async def _store(self, shard: int, events: Sequence[dict[str, Any]]) -> None:
        row = self._rows[shard]
        newest = max(row.watermark, *(e["time"] for e in events))
        named = [{**e, "event_id": f"{shard}-{row.next_offset + i}"} for i, e in enumerate(events)]
        batch = read_batch([record(row.next_offset + i, e, newest) for i, e in enumerate(named)])
        verdicts = judge(batch, row.watermark, SeenIds())
        async with self._pool.acquire() as connection:
            await self._ids.register_windows(connection, self._plan.window_series())
        while True:
            deltas = fold(batch, verdicts, self._plan, self._groups[shard])
            if not deltas.groups.unread:
                break
            self.rereads += 1
            async with self._pool.acquire() as connection:
                await read_groups(connection, shard, deltas.groups.unread, self._groups[shard], self._ids)
        new = [self._ids.window(s) for s in self._plan.window_series()]
        applied = await apply_batch(self._pool, row, batch, verdicts, deltas, self._ids, new, now=newest)
        self._groups[shard].add(deltas.groups)
        self._rows[shard] = applied.shard


async def items_of(
    pool: Pool,
    metric: Definition,
    width: str,
    *,
    now: int,
    aggregation: str | None = None,
    begin: datetime | None = None,
    limit: int = 1_000,
) -> list[dict[str, Any]]:
    """As GET …/metrics answers at `now` (µs)."""
    return await read_items(Queries(pool), metric, span_of(now, width, begin, None, limit), aggregation)
