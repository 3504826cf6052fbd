"""W1 as a Bytewax dataflow: each fetched batch is aggregated at once, then its partial results go into windows.

KafkaSource ─► aggregate a batch ─► a partial result per minute and group ─► tumbling windows by event time

The friendliest form: an item per event through `key_on` and `fold_window` costs four times as much. Windows wait
an hour for what comes late, so nothing is dropped, and close when the topic has been read. State is in memory, there
is no recovery store. Runs in an environment of its own, see `bench.aggregator.environments`.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import bytewax.operators as op  # type: ignore[import-not-found, unused-ignore]
import bytewax.operators.windowing as win  # type: ignore[import-not-found, unused-ignore]
import orjson
from bytewax.connectors.kafka import KafkaSource  # type: ignore[import-not-found, unused-ignore]
from bytewax.dataflow import Dataflow  # type: ignore[import-not-found, unused-ignore]
from bytewax.run import cli_main  # type: ignore[import-not-found, unused-ignore]
from bytewax.testing import TestingSink  # type: ignore[import-not-found, unused-ignore]

from bench.aggregator.peers.protocol import Done, Progress, Started, Task, task_from, tell
from bench.aggregator.peers.windows import MINUTE, Place, Window, totals_of

_BATCH = 10_000
_LATE = timedelta(hours=1)
_CONSUMER = {
    "fetch.message.max.bytes": "4194304",
    "queued.max.messages.kbytes": "32768",
    "enable.auto.commit": "false",
    "check.crcs": "false",
}
Partial = tuple[Place, Window]


class Meter:
    """The time from the first batch to the last partial result that is in its window."""

    def __init__(self, events: int) -> None:
        self._events = events
        self._began: float | None = None
        self._folded = 0
        self.seconds = 0.0

    def fetched(self) -> None:
        if self._began is None:
            tell(Started())
            self._began = time.perf_counter()

    def folded(self, events: int) -> None:
        before, self._folded = self._folded, self._folded + events
        if self._folded == self._events and self._began is not None:
            self.seconds = time.perf_counter() - self._began
        elif before // 50_000 != self._folded // 50_000:
            tell(Progress(self._folded))


def aggregate(batch: list[Any], loads: Any = orjson.loads) -> dict[Place, Window]:
    """What one batch of Kafka messages adds to each window."""
    windows: dict[Place, Window] = {}
    for message in batch:
        event = loads(message.value)
        properties = event["properties"]
        place = (event["time"] // MINUTE, event["event_type"], properties["variant"])
        window = windows.get(place)
        if window is None:
            window = windows[place] = Window()
        window.add(properties["durationMs"])
    return windows


def define(task: Task, meter: Meter, closed: list[Partial]) -> Any:
    """The dataflow; `closed` receives every window."""

    def partials(batch: list[Any]) -> Iterator[tuple[str, Partial]]:
        meter.fetched()
        for place, window in aggregate(batch).items():
            yield f"{place[1]}|{place[2]}", (place, window)

    def fold(window: Window, partial: Partial) -> Window:
        window.merge(partial[1])
        meter.folded(partial[1].n)
        return window

    def merge(window: Window, other: Window) -> Window:
        window.merge(other)
        return window

    def close(item: tuple[str, tuple[int, Window]]) -> tuple[str, tuple[int, Window]]:
        key, (number, window) = item
        kind, variant = key.split("|")
        closed.append(((number, kind, variant), window))
        return item

    flow = Dataflow("bench")
    source = KafkaSource(task.kafka.split(","), [task.topic], tail=False, batch_size=_BATCH, add_config=_CONSUMER)
    fetched = op.input("events", flow, source)
    keyed = op.flat_map_batch("aggregate", fetched, partials)
    clock = win.EventClock(ts_getter=_time_of, wait_for_system_duration=_LATE)
    minutes = win.TumblingWindower(length=timedelta(minutes=1), align_to=datetime(1970, 1, 1, tzinfo=UTC))
    windows = win.fold_window("windows", keyed, clock, minutes, Window, fold, merge, ordered=False)
    op.inspect("late", windows.late, _refuse)
    op.output("closed", op.map("close", windows.down, close), TestingSink([]))
    return flow


def _time_of(partial: Partial) -> datetime:
    return datetime.fromtimestamp(partial[0][0] * 60, UTC)


def _refuse(_step: str, late: Any) -> None:
    raise RuntimeError(f"taken for late: {late}")


def main(task: Task) -> None:
    meter, closed = Meter(task.events), list[Partial]()
    cli_main(define(task, meter, closed))
    tell(Done(task.events, meter.seconds, totals_of(closed)))
    threading.Event().wait()


if __name__ == "__main__":
    main(task_from(sys.argv[1:]))
