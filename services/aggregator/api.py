"""The aggregator's REST process: metrics, recent events and the dashboard's numbers. Reads only what is committed."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

from fastapi import Depends, FastAPI, Query
from prometheus_client import CollectorRegistry

from services.aggregator.admin_api import Key, metric_routes, metric_unknown
from services.aggregator.definitions import Definitions
from services.aggregator.domain.event import EARLIEST
from services.aggregator.domain.kinds.kind import Reading, percentile_of
from services.aggregator.domain.kinds.measured import Value
from services.aggregator.domain.kinds.streak import Streak
from services.aggregator.domain.metrics import Definition
from services.aggregator.queries import TOTAL, WIDTHS, Queries
from services.aggregator.recent_events import RecentEvents
from shared import topics
from shared.clock import SECOND, Clock, from_datetime, to_datetime, to_iso
from shared.http import Problem, Server, new_api, principal_of, service_app
from shared.kafka import Publisher, Replica, Tail
from shared.keys import KeyRing, Principal
from shared.messages import Scope
from shared.postgres import create_pool, wait_until_ready
from shared.settings import Settings

Asker = Annotated[Principal, Depends(principal_of)]
Width = Literal["1m", "5m", "15m", "1h", "1d", "total"]

_PREFIX = "/api/v1/streaming-analytics"
_MAX_WINDOWS = 1_000
_EARLIEST = EARLIEST // SECOND


def needed_scope(method: str, path: str) -> Scope | None:
    if path.startswith("/api/v1/openapi/"):
        return None
    return "admin" if path.startswith("/api/v1/admin/") else "read"


def new_routes(definitions: Definitions, queries: Queries, recent: RecentEvents, clock: Clock) -> FastAPI:
    api = new_api("Tidegate aggregator", "aggregator", "Windowed metrics, recent events and the dashboard's numbers.")

    api.include_router(metric_routes(definitions))

    @api.get(_PREFIX + "/metrics", tags=["metrics"])
    async def get_metrics(
        asker: Asker,
        metric_name: Annotated[str | None, Query(max_length=128)] = None,
        time_window: Width | None = None,
        aggregation_type: Annotated[str | None, Query(max_length=80)] = None,
        start: Annotated[datetime | None, Query(alias="from")] = None,
        end: Annotated[datetime | None, Query(alias="to")] = None,
        limit: Annotated[int, Query(ge=1, le=_MAX_WINDOWS)] = 60,
    ) -> list[dict[str, Any]]:
        """Windows of one metric, or of all that have the aggregation, newest first.

        By default the last `limit` windows of a minute up to now, else those that start at or after `from` and before
        `to`. A streak is no sum over a time: it has `total` only, which is what stands now.
        """
        width = time_window or "1m"
        begin, until = _range(clock, width, start, end, limit)
        if metric_name is not None:
            wanted = [(await _known(definitions, asker, metric_name))[0]]
            if not _has_windows(wanted[0], time_window):
                raise Problem(422, "window_unknown", f"{metric_name} is a streak: its time_window is {TOTAL}")
        else:
            wanted = [d for d in await definitions.all(asker.organisation) if _has_windows(d, time_window)]
            if aggregation_type is not None:
                wanted = [d for d in wanted if d.kind.can_read(aggregation_type)]
        return [
            item
            for definition in wanted
            for item in await _windows(queries, definition, width, aggregation_type, begin, until, limit)
        ]

    @api.get(_PREFIX + "/metrics/{key}", tags=["metrics"])
    async def get_metric(key: Key, asker: Asker) -> dict[str, Any]:
        """A definition, and how many of the events that match it were counted, late, duplicates or invalid."""
        definition, spec = await _known(definitions, asker, key)
        components = await queries.series_totals(definition)
        totals = next(iter(components.values()))
        return {
            "metric_name": key,
            "version": definition.version,
            "spec": spec,
            "totals": totals,
            "components": components,
        }

    @api.get(_PREFIX + "/events", tags=["events"])
    async def get_events(
        asker: Asker,
        event_type: Annotated[str | None, Query(max_length=200)] = None,
        data_source_id: int | None = None,
        processed: bool | None = None,
        limit: Annotated[int, Query(ge=1, le=1_000)] = 100,
    ) -> list[dict[str, Any]]:
        """The newest events as they stand in Kafka; `processed` says whether Postgres has counted them."""
        events = await recent.read(asker.organisation, limit)
        return [
            e
            for e in events
            if (event_type is None or e["event_type"] == event_type)
            and (data_source_id is None or e["data_source_id"] == data_source_id)
            and (processed is None or e["processed"] is processed)
        ][:limit]

    @api.get(_PREFIX + "/dashboard", tags=["dashboard"])
    async def get_dashboard(asker: Asker) -> dict[str, Any]:
        """Events by verdict, each metric's last hour (of a streak: what stands), how far each partition is behind."""
        totals, shards, ends = await asyncio.gather(
            queries.organisation_totals(asker.organisation), queries.shards(), recent.end_offsets()
        )
        by_shard = {s["shard"]: s for s in shards}
        # Up to now: clocks that are ahead must not put a future hour in place of the present one.
        begin, until = _range(clock, "1h", None, to_datetime(clock()), 1)
        metrics = [
            item
            for definition in await definitions.all(asker.organisation)
            for item in await _windows(queries, definition, "1h", None, begin, until, 1)
        ]
        return {
            "generated_at": to_iso(clock()),
            "events": totals,
            "metrics": metrics,
            "pipeline": [_pipeline(number, end, by_shard.get(number)) for number, end in sorted(ends.items())],
        }

    return api


async def _known(definitions: Definitions, asker: Principal, key: str) -> tuple[Definition, dict[str, Any]]:
    found = await definitions.get(asker.organisation, key)
    if found is None:
        raise metric_unknown(key)
    return found


def _range(
    clock: Clock, width: str, start: datetime | None, end: datetime | None, limit: int
) -> tuple[datetime, datetime]:
    """[begin, until) of the windows to read: given, or the last `limit` windows and a day ahead (early clocks)."""
    now = to_datetime(clock())
    until = _utc(end) if end else now + timedelta(days=2)
    if start is not None:
        return _utc(start), until
    if width == TOTAL:
        return datetime(2000, 1, 1, tzinfo=UTC), until
    seconds = WIDTHS[width]
    newest = (min(from_datetime(now), from_datetime(until) - 1)) // SECOND
    return to_datetime(max(_EARLIEST, newest - newest % seconds - seconds * (limit - 1)) * SECOND), until


def _utc(moment: datetime) -> datetime:
    try:
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except OverflowError:
        raise Problem(422, "time_out_of_range", "`from` and `to` must lie between the years 1 and 9999") from None


async def _windows(
    queries: Queries,
    definition: Definition,
    width: str,
    aggregation: str | None,
    begin: datetime,
    until: datetime,
    limit: int,
) -> list[dict[str, Any]]:
    wanted, kind = _wanted(definition, aggregation), definition.kind
    if isinstance(kind, Streak):
        return [
            item
            for group, run in await queries.streaks(definition, kind)
            for item in _items(definition, TOTAL, None, group, kind.read(run, wanted))
        ]
    items: list[dict[str, Any]] = []
    starts: set[datetime | None] = set()
    for window in await queries.windows(definition, width, begin, until):
        starts.add(window.start)
        if len(starts) > limit:
            break
        items.extend(_items(definition, width, window.start, window.group, kind.read(window.cells, wanted)))
    return items


def _items(
    definition: Definition,
    width: str,
    start: datetime | None,
    group: tuple[str | None, ...],
    readings: list[Reading],
) -> list[dict[str, Any]]:
    return [
        {
            "metric_name": definition.key,
            "time_window": width,
            "window_start": start,
            "window_end": None if start is None else start + timedelta(seconds=WIDTHS[width]),
            "aggregation_type": reading.aggregation,
            "metric_value": reading.value,
            "count": reading.count,
            "group": {str(path): value for path, value in zip(definition.group_by, group, strict=True)},
        }
        for reading in readings
    ]


def _wanted(definition: Definition, aggregation: str | None) -> tuple[str, ...]:
    kind = definition.kind
    if aggregation is None:
        return kind.aggregations
    if not kind.can_read(aggregation):
        if percentile_of(aggregation) is not None and isinstance(kind, Value):
            hint = "percentiles need a histogram: add one to the metric's aggregations"
        else:
            hint = f"it has {', '.join(kind.readable)}"
        raise Problem(422, "aggregation_unknown", f"{definition.key} has no aggregation {aggregation!r}; {hint}")
    return (aggregation,)


def _has_windows(definition: Definition, width: str | None) -> bool:
    """A streak has the one of all time."""
    return not isinstance(definition.kind, Streak) or width in (None, TOTAL)


def _pipeline(number: int, end: int, shard: dict[str, Any] | None) -> dict[str, Any]:
    next_offset = shard["next_offset"] if shard else 0
    watermark = shard["watermark"] if shard else 0
    return {
        "partition": number,
        "next_offset": next_offset,
        "end_offset": end,
        "lag": max(0, end - next_offset),
        "watermark": to_iso(watermark) if watermark else None,
        "dead_letters": shard["dead_letters"] if shard else 0,
    }


async def run_api(settings: Settings, clock: Clock) -> None:
    """Runs until a signal asks it to stop."""
    registry = CollectorRegistry()
    keys = KeyRing()
    waiting_for: list[str] = ["Postgres and Kafka"]
    async with AsyncExitStack() as stack:
        pool = await create_pool(settings.postgres, name="aggregator-api", size=6, schema="aggregator")
        stack.push_async_callback(pool.close)
        publisher = Publisher(settings.kafka)
        tail = Tail(settings.kafka, topics.EVENTS.name)
        replica = Replica(settings.kafka, topics.KEYS, keys.learn, clock=clock)
        definitions, queries = Definitions(pool, publisher), Queries(pool)
        routes = new_routes(definitions, queries, RecentEvents(tail, queries), clock)

        app = service_app(
            routes,
            keys=keys,
            needed=needed_scope,
            ready=lambda: waiting_for[0] if waiting_for else replica.waiting_for(),
            registry=registry,
        )
        server = Server(app, host=settings.host, port=settings.port)
        serving = asyncio.create_task(server.run(), name="http")
        await wait_until_ready(pool)
        await publisher.start()
        stack.push_async_callback(publisher.stop)
        await replica.start()
        stack.push_async_callback(replica.stop)
        await tail.start()
        stack.push_async_callback(tail.stop)
        await definitions.start()
        stack.push_async_callback(definitions.stop)
        waiting_for.clear()
        await serving
