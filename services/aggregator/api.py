"""The aggregator's REST process: metrics, recent events and the dashboard's numbers. Reads only what is committed."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from datetime import datetime
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Query
from prometheus_client import CollectorRegistry

from services.aggregator.admin_api import Key, metric_routes, metric_unknown, schema_routes
from services.aggregator.backfill_api import backfill_routes
from services.aggregator.definitions import Definitions
from services.aggregator.domain.metrics import Definition
from services.aggregator.events_api import event_routes
from services.aggregator.examples import COUNTED, READINGS, answers
from services.aggregator.experiment_api import variant_items
from services.aggregator.experiment_queries import ExperimentQueries
from services.aggregator.known_experiments import KnownExperiments
from services.aggregator.queries import TOTAL, Queries
from services.aggregator.readings import has_windows, read_items, span_of, with_closed
from services.aggregator.recent_events import RecentEvents
from shared import topics
from shared.clock import Clock, from_datetime, to_datetime, to_iso
from shared.http import Problem, Server, new_api, principal_of, service_app
from shared.kafka import Publisher, Replica
from shared.keys import KeyRing, Principal
from shared.messages import Scope
from shared.postgres import create_pool, wait_until_ready
from shared.settings import Settings
from shared.topic_reader import TopicReader

Asker = Annotated[Principal, Depends(principal_of)]

_PREFIX = "/api/v1/streaming-analytics"
_MAX_WINDOWS = 1_000


def needed_scope(method: str, path: str) -> Scope | None:
    if path.startswith("/api/v1/openapi/"):
        return None
    return "admin" if path.startswith("/api/v1/admin/") else "read"


def new_routes(
    definitions: Definitions,
    queries: Queries,
    by_variant: ExperimentQueries,
    experiments: KnownExperiments,
    recent: RecentEvents,
    clock: Clock,
) -> FastAPI:
    api = new_api("Tidegate aggregator", "aggregator", "Windowed metrics, recent events and the dashboard's numbers.")

    api.include_router(metric_routes(definitions))
    api.include_router(schema_routes())
    api.include_router(event_routes(recent))

    @api.get(_PREFIX + "/metrics", tags=["metrics"], responses=answers(READINGS))
    async def get_metrics(
        asker: Asker,
        metric_name: Annotated[str | None, Query(max_length=128, examples=["import_errors"])] = None,
        time_window: Annotated[str | None, Query(max_length=20, examples=["1m", "1h", "trailing:2h"])] = None,
        aggregation_type: Annotated[
            str | None, Query(max_length=80, examples=["avg", "p95", "share<=300", "conversion:uploaded"])
        ] = None,
        start: Annotated[datetime | None, Query(alias="from", examples=["2026-03-02T12:00:00Z"])] = None,
        end: Annotated[datetime | None, Query(alias="to", examples=["2026-03-02T18:00:00Z"])] = None,
        limit: Annotated[
            int, Query(ge=1, le=_MAX_WINDOWS, description="How many windows of each metric, each with all its groups")
        ] = 60,
        experiment: Annotated[str | None, Query(max_length=200, description="Its key", examples=["checkout"])] = None,
        segment: Annotated[str | None, Query(max_length=200, examples=["context.networkType"])] = None,
    ) -> list[dict[str, Any]]:
        """Windows of one metric, or of all that have the aggregation, newest first.

        By default the last `limit` windows of a minute up to now, else those that start at or after `from` and before
        `to`. `time_window` is 1m, 5m, 15m, 1h, 1d, total, or `trailing:` and a length up to three days, such as
        `trailing:10m` or `trailing:2h`: one window that ends with the present minute (or with the last before `to`).
        A streak is no sum over a time: it has `total` only, which is what stands now. `closed` windows are
        those that all partitions have passed: late events alone amend them.

        An item has a `part` where the metric reads several at once (a survey's question, a breakdown's category), an
        `error` relative to the truth where a value can be approximate (percentiles, unique: 0 is exact), and a
        `trend` (increasing, stable or decreasing) beside a change against the window before.

        With `experiment` it is the metric by variant, of all time: `count` to `variance` are over events and include
        units seen in two variants, what begins with `unit_` is over units and leaves them out; so does a ratio's
        `ratio`. A streak has one item a variant and `group`, with `streak`. `segment` cuts that by one of the
        experiment's segments. Journeys and funnels give one item a variant and state, their `part`, then one a
        variant and reading, with `aggregation_type`; all leave out units seen in two variants. `metric_value` is null
        also where units were counted by a release that did not keep it.
        """
        if experiment is not None:
            if start is not None or end is not None:
                raise Problem(422, "window_unknown", "an experiment's totals are of all time: no `from`, no `to`")
            found = None if metric_name is None else await definitions.get(asker.organisation, metric_name)
            return await variant_items(
                by_variant,
                asker.organisation,
                experiment,
                metric_name,
                None if found is None else found[0],
                time_window=time_window,
                aggregation=aggregation_type,
                segment=segment,
                known=experiments.get(asker.organisation, experiment),
            )
        if segment is not None:
            raise Problem(422, "experiment_missing", "segment needs an experiment")
        span = span_of(clock(), time_window or "1m", start, end, limit)
        if metric_name is not None:
            wanted = [(await _known(definitions, asker, metric_name))[0]]
            if not has_windows(wanted[0], time_window):
                raise Problem(422, "window_unknown", f"{metric_name} is a streak: its time_window is {TOTAL}")
        else:
            wanted = [d for d in await definitions.all(asker.organisation) if has_windows(d, time_window)]
            if aggregation_type is not None:
                wanted = [d for d in wanted if d.kind.can_read(aggregation_type)]
        closed = await queries.closed_through()
        return [
            with_closed(item, closed)
            for definition in wanted
            for item in await read_items(queries, definition, span, aggregation_type)
        ]

    @api.get(_PREFIX + "/metrics/{key}", tags=["metrics"], responses=answers(COUNTED))
    async def get_metric(key: Key, asker: Asker) -> dict[str, Any]:
        """A definition, and how many of the events that match it were counted, late, duplicates or invalid.

        `overflow`: how many of the counted ones were of groups beyond `max_groups`, and count as "other".
        `amended`: how many of the counted ones came to minutes that were closed already.
        """
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

    @api.get(_PREFIX + "/dashboard", tags=["dashboard"])
    async def get_dashboard(asker: Asker) -> dict[str, Any]:
        """Events by verdict, each metric's last hour (of a streak: what stands), how far each partition is behind."""
        totals, shards, ends = await asyncio.gather(
            queries.organisation_totals(asker.organisation), queries.shards(), recent.end_offsets()
        )
        by_shard = {s["shard"]: s for s in shards}
        # Up to now: clocks that are ahead must not put a future hour in place of the present one.
        span = span_of(clock(), "1h", None, to_datetime(clock()), 1)
        closed = await queries.closed_through()
        metrics = [
            with_closed(item, closed)
            for definition in await definitions.all(asker.organisation)
            for item in await read_items(queries, definition, span, None)
        ]
        return {
            "generated_at": to_iso(clock()),
            "events": totals,
            "metrics": metrics,
            "closed_through": to_iso(from_datetime(closed)),
            "pipeline": [_pipeline(number, end, by_shard.get(number)) for number, end in sorted(ends.items())],
        }

    return api


async def _known(definitions: Definitions, asker: Principal, key: str) -> tuple[Definition, dict[str, Any]]:
    found = await definitions.get(asker.organisation, key)
    if found is None:
        raise metric_unknown(key)
    return found


def _pipeline(number: int, end: int, shard: dict[str, Any] | None) -> dict[str, Any]:
    next_offset = shard["next_offset"] if shard else 0
    watermark = shard["watermark"] if shard else 0
    clock = shard["clock"] if shard else 0
    return {
        "partition": number,
        "next_offset": next_offset,
        "end_offset": end,
        "lag": max(0, end - next_offset),
        "watermark": to_iso(watermark) if watermark else None,
        "clock": to_iso(clock) if clock else None,
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
        events = TopicReader(settings.kafka, topics.EVENTS.name)
        predictions = TopicReader(settings.kafka, topics.PREDICTIONS.name)
        replica = Replica(settings.kafka, topics.KEYS, keys.learn, clock=clock)
        definitions, queries = Definitions(pool, publisher), Queries(pool)
        experiments = KnownExperiments(settings.kafka, clock)
        recent = RecentEvents(events, predictions, queries, time.monotonic)
        routes = new_routes(definitions, queries, ExperimentQueries(pool), experiments, recent, clock)
        routes.include_router(backfill_routes(definitions, pool))

        app = service_app(
            routes,
            keys=keys,
            needed=needed_scope,
            ready=lambda: waiting_for[0] if waiting_for else replica.waiting_for() or experiments.waiting_for(),
            registry=registry,
        )
        server = Server(app, host=settings.host, port=settings.port)
        serving = asyncio.create_task(server.run(), name="http")
        await wait_until_ready(pool)
        await publisher.start()
        stack.push_async_callback(publisher.stop)
        await replica.start()
        stack.push_async_callback(replica.stop)
        await experiments.start()
        stack.push_async_callback(experiments.stop)
        for reader in (events, predictions):
            await reader.start()
            stack.push_async_callback(reader.stop)
        await definitions.restore(settings.kafka)
        await definitions.start()
        stack.push_async_callback(definitions.stop)
        waiting_for.clear()
        await serving
