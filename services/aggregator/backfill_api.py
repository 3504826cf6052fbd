"""The history of a metric, counted afterwards: /api/v1/admin/metrics/{key}/backfill."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query

from services.aggregator.admin_api import Key, metric_unknown
from services.aggregator.definitions import Definitions
from services.aggregator.domain.backfill import Placing, placing_of
from services.aggregator.domain.metrics import Definition
from services.aggregator.store import backfills
from services.aggregator.store.backfills import Progress, ShardProgress
from shared.clock import from_datetime, to_iso
from shared.http import Problem, StrictRoute, principal_of
from shared.keys import Principal
from shared.postgres import Pool

_Asker = Annotated[Principal, Depends(principal_of)]
_Since = Annotated[
    datetime | None,
    Query(description="Count what the brokers took from here on; by default all that the log still holds."),
]


def backfill_routes(definitions: Definitions, pool: Pool) -> APIRouter:
    routes = APIRouter(route_class=StrictRoute, prefix="/api/v1/admin/metrics/{key}/backfill", tags=["metrics"])

    async def known(asker: Principal, key: str) -> Definition:
        found = await definitions.get(asker.organisation, key)
        if found is None:
            raise metric_unknown(key)
        return found[0]

    async def progress_of(definition: Definition) -> Progress:
        names = definition.organisation, definition.key, definition.version
        async with pool.acquire() as connection:
            progress = await backfills.progress(connection, *names)
        if progress is None:
            raise Problem(
                404, "backfill_unknown", f"version {definition.version} of {definition.key} has no backfill"
            )
        return progress

    @routes.post("", status_code=202, summary="Count a metric's history")
    async def start_backfill(key: Key, asker: _Asker, since: _Since = None) -> dict[str, Any]:
        """Folds the events that came before the metric's version in force, in the background. Safe to repeat.

        `from` and `to` are the offsets of each partition that it counts, null until its worker has begun. Sums,
        ratios and streaks are shown when all of it is counted; journeys and the like as it grows.
        """
        definition = await known(asker, key)
        names = definition.organisation, definition.key, definition.version
        async with pool.acquire() as connection:
            await backfills.start(connection, *names, None if since is None else from_datetime(since))
        progress = await progress_of(definition)
        if since is not None and progress.since != from_datetime(since):
            raise Problem(409, "backfill_exists", "it began with another `since`: delete it first, or ask without")
        return _as_json(definition, progress)

    @routes.get("", summary="How far a metric's history is counted")
    async def get_backfill(key: Key, asker: _Asker) -> dict[str, Any]:
        """`state` is running, done, stopped or failed; a failed one has a `reason`."""
        definition = await known(asker, key)
        return _as_json(definition, await progress_of(definition))

    @routes.delete("", summary="Cancel a backfill")
    async def cancel_backfill(key: Key, asker: _Asker) -> dict[str, Any]:
        """Removes what it counted, also if it is done. What cannot be told apart any more (journeys) stays."""
        definition = await known(asker, key)
        placing = placing_of(definition.kind)
        names = definition.organisation, definition.key, definition.version
        async with pool.acquire() as connection:
            if not await backfills.cancel(connection, *names, placing):
                raise Problem(404, "backfill_unknown", f"version {definition.version} of {key} has no backfill")
        return {"metric": key, "version": definition.version, "removed": placing is Placing.APART}

    return routes


def _as_json(definition: Definition, progress: Progress) -> dict[str, Any]:
    return {
        "metric": definition.key,
        "version": progress.version,
        "state": progress.state.value,
        "reason": progress.reason,
        "shown": placing_of(definition.kind).value,
        "experiments": "not backfilled",
        "since": None if progress.since is None else to_iso(progress.since),
        "started_at": progress.started_at,
        "finished_at": progress.finished_at,
        "shards": [_shard(shard) for shard in progress.shards],
    }


def _shard(shard: ShardProgress) -> dict[str, Any]:
    return {"shard": shard.shard, "from": shard.counted_from, "to": shard.to, "next_offset": shard.next_offset}
