"""Once a second: where the log ends, how far each shard has come by that, and which minutes are closed.

ask where the log ends ─► lags, clocks ─► Postgres ─► closed minutes ─► heartbeats, REST
                               └► watchdog
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping

from aiokafka.errors import KafkaError

from services.aggregator.domain.clocks import shard_clock
from services.aggregator.domain.stall import ShardPulse
from services.aggregator.event_log import LogTail
from services.aggregator.partitions import Partitions
from services.aggregator.store.clocks import close_minutes, load_closed, load_cursors, raise_clocks
from services.aggregator.telemetry import WorkerMetrics
from services.aggregator.watchdog import Pulses
from shared.clock import SECOND, Clock
from shared.postgres import RETRYABLE, Pool

logger = logging.getLogger(__name__)

EVERY = 1.0
_ODD_LIMIT = 10
"""Rounds in a row. A new leader may show an end that is too early, until its followers have told it theirs."""


class ShardClocks:
    """`closed_through` (µs) is what this worker knows of; another one may have closed more a moment ago."""

    def __init__(
        self,
        tail: LogTail,
        partitions: Partitions,
        pool: Pool,
        pulses: Pulses,
        metrics: WorkerMetrics,
        clock: Clock,
    ) -> None:
        self._tail = tail
        self._partitions = partitions
        self._pool = pool
        self._pulses = pulses
        self._metrics = metrics
        self._clock = clock
        self._before: dict[int, tuple[int, int]] = {}
        """By shard: cursor and signs of life, a round ago."""
        self._odd: dict[int, int] = {}
        self.closed_through = 0

    async def run(self) -> None:
        """Raises LogRefusedError when the log has become another one under a running worker."""
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            try:
                await self._round()
            except (KafkaError, *RETRYABLE) as error:
                logger.warning("clocks stand still", extra={"error": repr(error)})
            await asyncio.sleep(max(0.0, began + EVERY - loop.time()))

    async def _round(self) -> None:
        before = {row.shard: (row.next_offset, signs) for row, signs in self._partitions.standing()}
        asked_at = self._clock()
        ends = await self._tail.ends()
        await self._look_at_what_stands(before, ends)
        idle, pulses = {}, {}
        for row, signs in self._partitions.standing():
            lag = max(0, ends[row.shard] - row.next_offset)
            clock = shard_clock(row.watermark, None if lag else asked_at)
            if not lag:
                idle[row.shard] = clock
            pulses[row.shard] = ShardPulse(lag, signs)
            self._metrics.lag.labels(str(row.shard)).set(lag)
            self._metrics.clock.labels(str(row.shard)).set(clock / SECOND)
        for shard, batches in self._partitions.waiting().items():
            self._metrics.batches_waiting.labels(str(shard)).set(batches)
        async with self._pool.acquire() as connection:
            self.closed_through = await load_closed(connection)
            if not pulses:
                pulses = _of_others(ends, await load_cursors(connection))
            self._pulses.answered(pulses)
            await raise_clocks(connection, idle)
            self.closed_through = await close_minutes(connection, len(ends))
        self._metrics.closed_through.set(self.closed_through / SECOND)

    async def _look_at_what_stands(self, before: Mapping[int, tuple[int, int]], ends: Mapping[int, int]) -> None:
        """Folded records do not go by themselves, and unfolded ones are fetched: else the log may be another one."""
        odd = {
            p
            for p, (cursor, signs) in before.items()
            if ends[p] < cursor or (ends[p] > cursor and self._before.get(p) == (cursor, signs))
        }
        self._before = dict(before)
        self._odd = {p: self._odd.get(p, 0) + 1 for p in odd}
        if any(rounds % _ODD_LIMIT == 0 for rounds in self._odd.values()):
            await self._partitions.examine(list(self._odd))


def _of_others(ends: Mapping[int, int], cursors: Mapping[int, tuple[int, int]]) -> dict[int, ShardPulse]:
    """For a worker without partitions: it is one too many, or has lost its membership, and then nobody folds.

    That happens for good where the topic was gone for a moment: Faust drops it from its subscription.
    """
    return {p: ShardPulse(abs(ends[p] - cursor), revision) for p, (cursor, revision) in cursors.items() if p in ends}
