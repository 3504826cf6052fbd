"""When heartbeats are sent."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, cast

from services.aggregator.heartbeats import EVERY, Heartbeats
from services.aggregator.store.shards import ShardRow
from shared.clock import system_clock
from shared.kafka import Publisher
from tests.unit.aggregator.test_update_pace import row
from tests.waiting import eventually


class Tail:
    async def ends(self) -> dict[int, int]:
        return {0: 0, 1: 0}


class Shards:
    def __init__(self) -> None:
        self.asked = 0

    def caught_up(self, ends: Mapping[int, int], asked_at: int) -> list[ShardRow]:
        self.asked += 1
        return [row(1, shard) for shard in ends]


class HeldUpdates:
    """Those of shard 1 are not acknowledged until they may be."""

    def __init__(self) -> None:
        self.waiting = 0
        self.acknowledged = asyncio.Event()

    async def published(self, number: int, revision: int) -> bool:
        if number == 1:
            self.waiting += 1
            await self.acknowledged.wait()
        return True


class Clocks:
    closed_through = 60_000_000


class RefusesShardZero(Publisher):
    def __init__(self) -> None:
        super().__init__("")
        self.taken: list[int] = []
        self.closed_through = 0

    async def publish(self, topic: Any, message: Any, *, deadline: float = 10) -> tuple[int, int]:
        if message.shard == 0:
            raise TimeoutError
        self.taken.append(message.shard)
        self.closed_through = message.closed_through
        return 0, 0


async def test_heartbeats_that_wait_for_updates_do_not_pile_up_while_another_shards_are_refused() -> None:
    publisher, shards, updates = RefusesShardZero(), Shards(), HeldUpdates()
    tail, clocks = cast(Any, Tail()), cast(Any, Clocks())
    heartbeats = Heartbeats(publisher, tail, cast(Any, shards), cast(Any, updates), clocks, system_clock)
    task = asyncio.create_task(heartbeats.run())
    try:
        await asyncio.sleep(2.5 * EVERY)
        assert (updates.waiting, publisher.taken) == (1, [])
        updates.acknowledged.set()

        async def going_on() -> bool:
            return len(publisher.taken) >= 2

        await eventually(going_on, "heartbeats go on")
        assert len(publisher.taken) == updates.waiting == shards.asked
        assert publisher.closed_through == Clocks.closed_through
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
