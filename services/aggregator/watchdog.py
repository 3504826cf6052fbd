"""Ends a worker that has stalled: a restart continues exactly where Postgres stands, a stalled worker never does.

A thread of its own looks at what the event loop tells it, so that a blocked loop is seen too.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping

from services.aggregator.domain.stall import Pulse, ShardPulse, Stall, StallWatch

logger = logging.getLogger(__name__)

STALLED = 70
"""The exit code of a worker that its watchdog has ended."""
_EVERY = 1.0


class Pulses:
    """What the event loop tells the watchdog. Every attribute is replaced whole: threads need no lock for that."""

    def __init__(self) -> None:
        self.turns = 0
        self.latest = Pulse(0, 0, {})

    def answered(self, shards: Mapping[int, ShardPulse]) -> None:
        """Kafka and Postgres have answered; this is how the shards stand by that."""
        self.latest = Pulse(0, self.latest.answers + 1, dict(shards))

    async def run(self) -> None:
        """Shows that the loop runs."""
        while True:
            self.turns += 1
            await asyncio.sleep(_EVERY / 2)


class Watchdog:
    """`end` is called from the thread, with STALLED, when nothing goes on; `show` sees how long each shard stands."""

    def __init__(
        self,
        pulses: Pulses,
        end: Callable[[int], object],
        show: Callable[[Mapping[int, float]], None],
        watch: StallWatch | None = None,
        *,
        every: float = _EVERY,
    ) -> None:
        self._pulses = pulses
        self._end = end
        self._show = show
        self._watch = watch or StallWatch()
        self._every = every
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)

    def start(self) -> None:
        """Call it in the event loop that is to be watched."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    def stop(self) -> None:
        self._over.set()

    def _run(self) -> None:
        before = time.monotonic()
        while not self._over.wait(self._every):
            now = time.monotonic()
            # A longer wait means that the whole process stood still (stopped, or starved): nobody's fault in here.
            ran, before = min(now - before, 2 * self._every), now
            told = self._pulses.latest
            stall = self._watch.observe(Pulse(self._pulses.turns, told.answers, told.shards), ran)
            self._show(self._watch.stalled)
            if stall is not None:
                self._bite(stall)
                return

    def _bite(self, stall: Stall) -> None:
        """Not through the event loop, which may be what stands still. The cursor is in Postgres: nothing is lost."""
        logger.critical(
            "the worker has stalled and ends, to be started again",
            extra={"stall": str(stall), "threads": _threads(), "shards": _shards(self._loop)},
        )
        self._end(STALLED)


def _threads() -> dict[str, list[str]]:
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    return {
        names.get(ident, str(ident)): traceback.format_stack(frame) for ident, frame in sys._current_frames().items()
    }


def _shards(loop: asyncio.AbstractEventLoop) -> dict[str, list[str]]:
    """Where the tasks that fold stand."""
    return {
        task.get_name(): [str(frame) for frame in task.get_stack()]
        for task in asyncio.all_tasks(loop)
        if task.get_name().startswith("shard")
    }
