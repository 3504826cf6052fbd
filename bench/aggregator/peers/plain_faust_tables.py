"""W1 as a Faust agent with a tumbling table, whose changelog survives a crash."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import faust

from bench.aggregator.peers.faust_program import Meter, new_app, run
from bench.aggregator.peers.protocol import Task
from bench.aggregator.peers.windows import Place, Window, totals_of

_WIDTH = timedelta(minutes=1)
_KEPT = timedelta(days=1)
_Stored = tuple[int, float, float, float]
"""Count, sum, min and max."""


def define(task: Task, meter: Meter) -> faust.App:
    app = new_app("bench-plain-faust-tables", task)
    table = app.Table("windows", default=lambda: None, partitions=task.partitions)
    tumbling: Any = table.tumbling(_WIDTH, expires=_KEPT)
    windows = tumbling.relative_to(_time_of)
    meter.totals = lambda: totals_of(_contents(table))

    @app.agent(app.topic(task.topic))
    async def fold(events: Any) -> None:
        async for event in events:
            properties = event["properties"]
            key = f"{event['event_type']}|{properties['variant']}"
            windows[key] = _added(windows[key].value(), properties["durationMs"])
            meter.processed()

    return app


def _added(numbers: _Stored | None, value: float) -> _Stored:
    if numbers is None:
        return 1, value, value, value
    n, total, low, high = numbers
    return n + 1, total + value, min(low, value), max(high, value)


def _contents(table: Any) -> Iterator[tuple[Place, Window]]:
    for (key, (start, _)), numbers in table.items():
        kind, variant = key.split("|")
        yield (int(start // 60), kind, variant), Window(*numbers)


def _time_of(event: Any) -> float:
    return float(event.value["time"]) / 1e6


if __name__ == "__main__":
    run(define)
