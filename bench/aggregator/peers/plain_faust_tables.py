"""The three metrics as a Faust agent with tumbling tables, whose changelogs survive a crash."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import faust

from bench.aggregator.peers.faust_program import Meter, new_app, run
from bench.aggregator.peers.plain_faust import bucket_of
from bench.aggregator.peers.protocol import Task

_WIDTH = timedelta(minutes=1)
_KEPT = timedelta(days=1)


def define(task: Task, meter: Meter) -> faust.App:
    app = new_app("bench-plain-faust-tables", task)

    def windowed(name: str, default: Any) -> Any:
        """A table in windows of the event's own time."""
        table = app.Table(name, default=default, partitions=task.partitions)
        windows: Any = table.tumbling(_WIDTH, expires=_KEPT)
        return windows.relative_to(_time_of)

    counts = windowed("counts", int)
    amounts = windowed("amounts", lambda: None)
    durations = windowed("durations", lambda: None)
    buckets = windowed("duration_buckets", int)

    @app.agent(app.topic(task.topic))
    async def fold(events: Any) -> None:
        async for event in events:
            kind, properties = event["event_type"], event["properties"]
            variant, duration = properties["variant"], properties["durationMs"]
            counts[f"{kind}|{variant}"] += 1
            n, total = durations[kind].value() or (0, 0)
            durations[kind] = (n + 1, total + duration)
            buckets[f"{kind}|{bucket_of(duration)}"] += 1
            if kind == "purchase":
                amount = properties["amount"]
                n, total, low, high = amounts[variant].value() or (0, 0.0, amount, amount)
                amounts[variant] = (n + 1, total + amount, min(low, amount), max(high, amount))
            meter.processed()

    return app


def _time_of(event: Any) -> float:
    return float(event.value["time"]) / 1e6


if __name__ == "__main__":
    run(define)
