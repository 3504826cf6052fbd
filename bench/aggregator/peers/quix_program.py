"""W1 as a Quix Streams application: one pass over the events, windows in a dictionary.

    topic (JSON by orjson) ─► sdf.update: the event's minute, type and variant

The friendliest form: Quix's own tumbling windows are kept by message key, here the user, so that windows by type and
variant would need `group_by`, which sends every event through Kafka once more, and RocksDB. Offsets are committed,
the dictionary is not: a crash loses the totals. Runs in an environment of its own, see
`bench.aggregator.environments`.
"""

from __future__ import annotations

import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

from quixstreams import Application  # type: ignore[import-not-found, unused-ignore]

from bench.aggregator.peers.protocol import Done, Progress, Started, Task, task_from, tell
from bench.aggregator.peers.windows import MINUTE, Place, Window, totals_of

_CONSUMER = {
    "fetch.message.max.bytes": 4 * 1024 * 1024,
    "queued.max.messages.kbytes": 32 * 1024,
    "check.crcs": False,
}
_PROGRESS_EVERY = 10_000


class Fold:
    """Adds events to their windows. The time from the first to the last event is what counts."""

    def __init__(self, events: int) -> None:
        self._events = events
        self._done = 0
        self._began = 0.0
        self.windows: dict[Place, Window] = {}

    def add(self, event: dict[str, Any]) -> None:
        if not self._done:
            tell(Started())
            self._began = time.perf_counter()
        properties = event["properties"]
        place = (event["time"] // MINUTE, event["event_type"], properties["variant"])
        window = self.windows.get(place)
        if window is None:
            window = self.windows[place] = Window()
        window.add(properties["durationMs"])
        self._done += 1
        if self._done == self._events:
            seconds = time.perf_counter() - self._began
            tell(Done(self._events, seconds, totals_of(self.windows.items())))
            signal.signal(signal.SIGTERM, signal.SIG_DFL)  # Quix's own handler waits for the message in hand
            threading.Event().wait()
        elif not self._done % _PROGRESS_EVERY:
            tell(Progress(self._done))


def main(task: Task) -> None:
    app = Application(
        broker_address=task.kafka,
        consumer_group="bench-quix",
        auto_offset_reset="earliest",
        auto_create_topics=False,
        use_changelog_topics=False,
        consumer_extra_config=_CONSUMER,
        state_dir=Path("quix-state").absolute(),
        loglevel="WARNING",
    )
    fold = Fold(task.events)
    app.dataframe(app.topic(task.topic, value_deserializer="json")).update(fold.add)
    app.run()


if __name__ == "__main__":
    main(task_from(sys.argv[1:]))
