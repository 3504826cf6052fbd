"""Each owned shard's clock, twice a second: rules tell "no data" from "no aggregator" by it.

    ask where the log ends ─► cursor ─► updates up to there acknowledged ─► heartbeat

`time` is the moment of asking if nothing was left to fold, else that of an earlier heartbeat or the broker time of
what was folded last, whichever is later: it never goes back while the worker lives.
"""

from __future__ import annotations

import asyncio
import logging

from aiokafka.errors import KafkaError

from services.aggregator.event_log import LogTail
from services.aggregator.partitions import Partitions
from services.aggregator.shard_clocks import ShardClocks
from services.aggregator.store.shards import ShardRow
from services.aggregator.updates import Updates
from shared import topics
from shared.clock import Clock
from shared.kafka import Publisher
from shared.messages import Heartbeat

logger = logging.getLogger(__name__)

EVERY = 0.5


class Heartbeats:
    """Also tells the shards when they have nothing left to fold, so that their deadlines can pass."""

    def __init__(
        self,
        publisher: Publisher,
        tail: LogTail,
        partitions: Partitions,
        updates: Updates,
        clocks: ShardClocks,
        clock: Clock,
    ) -> None:
        self._publisher = publisher
        self._tail = tail
        self._partitions = partitions
        self._updates = updates
        self._clocks = clocks
        self._clock = clock
        self._times: dict[int, int] = {}

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            try:
                await self._beat()
            except (KafkaError, TimeoutError) as error:
                logger.warning("no heartbeat", extra={"error": repr(error)})
            await asyncio.sleep(max(0.0, began + EVERY - loop.time()))

    async def _beat(self) -> None:
        asked_at = self._clock()
        ends = await self._tail.ends()
        beats = [
            self._publish(row, ends[row.shard], len(ends), asked_at)
            for row in self._partitions.caught_up(ends, asked_at)
        ]
        # All of them end before the next ones begin: a shard's heartbeats stay in order, and none pile up.
        for answer in await asyncio.gather(*beats, return_exceptions=True):
            if isinstance(answer, BaseException):
                raise answer

    async def _publish(self, row: ShardRow, end: int, shards: int, asked_at: int) -> None:
        lag = max(0, end - row.next_offset)
        if not await self._updates.published(row.shard, row.revision):
            return
        time = asked_at if lag == 0 else max(row.last_timestamp or 0, self._times.get(row.shard, 0))
        self._times[row.shard] = time
        await self._publisher.publish(
            topics.HEARTBEATS,
            Heartbeat(
                shard=row.shard,
                next_offset=row.next_offset,
                watermark=row.watermark,
                time=time,
                lag=lag,
                shards=shards,
                closed_through=self._clocks.closed_through,
            ),
        )
