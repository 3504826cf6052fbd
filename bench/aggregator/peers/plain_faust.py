"""The three metrics as a Faust agent with dictionaries: what one writes first. A crash loses the totals."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import faust

from bench.aggregator.peers.faust_program import Meter, new_app, run
from bench.aggregator.peers.protocol import Task

_MINUTE = 60_000_000
_BUCKET_GROWTH = math.log(1.02)


@dataclass(slots=True)
class Summary:
    n: int = 0
    sum: float = 0.0
    min: float = math.inf
    max: float = -math.inf

    def add(self, value: float) -> None:
        self.n += 1
        self.sum += value
        self.min = min(self.min, value)
        self.max = max(self.max, value)


@dataclass(slots=True)
class Histogram:
    """Logarithmic buckets of 2 %, for percentiles."""

    n: int = 0
    sum: float = 0.0
    buckets: defaultdict[int, int] = field(default_factory=lambda: defaultdict(int))

    def add(self, value: float) -> None:
        self.n += 1
        self.sum += value
        self.buckets[bucket_of(value)] += 1


def bucket_of(value: float) -> int:
    return math.ceil(math.log(value) / _BUCKET_GROWTH)


def define(task: Task, meter: Meter) -> faust.App:
    app = new_app("bench-plain-faust", task)
    counts: defaultdict[tuple[int, str, str], int] = defaultdict(int)
    amounts: defaultdict[tuple[int, str], Summary] = defaultdict(Summary)
    durations: defaultdict[tuple[int, str], Histogram] = defaultdict(Histogram)

    @app.agent(app.topic(task.topic))
    async def fold(events: Any) -> None:
        async for event in events:
            minute = event["time"] // _MINUTE
            kind, properties = event["event_type"], event["properties"]
            variant = properties["variant"]
            counts[minute, kind, variant] += 1
            durations[minute, kind].add(properties["durationMs"])
            if kind == "purchase":
                amounts[minute, variant].add(properties["amount"])
            meter.processed()

    return app


if __name__ == "__main__":
    run(define)
