"""W1 as a Faust agent with a dictionary: what one writes first. A crash loses the totals."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import faust

from bench.aggregator.peers.faust_program import Meter, new_app, run
from bench.aggregator.peers.protocol import Task
from bench.aggregator.peers.windows import MINUTE, Place, Window, totals_of


def define(task: Task, meter: Meter) -> faust.App:
    app = new_app("bench-plain-faust", task)
    windows: defaultdict[Place, Window] = defaultdict(Window)
    meter.totals = lambda: totals_of(windows.items())

    @app.agent(app.topic(task.topic))
    async def fold(events: Any) -> None:
        async for event in events:
            properties = event["properties"]
            window = windows[event["time"] // MINUTE, event["event_type"], properties["variant"]]
            window.add(properties["durationMs"])
            meter.processed()

    return app


if __name__ == "__main__":
    run(define)
