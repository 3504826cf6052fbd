"""Reading a topic while Kafka does not answer."""

from __future__ import annotations

import asyncio
from typing import Any, NoReturn, cast

import pytest

from shared import topic_reader
from shared.topic_reader import Stretch, TopicReader


class SilentConsumer:
    """Of a Kafka that is away."""

    def assignment(self) -> set[Any]:
        return set()

    async def beginning_offsets(self, partitions: list[Any]) -> dict[Any, int]:
        return await self._never()

    async def position(self, partition: Any) -> int:
        return await self._never()

    async def _never(self) -> NoReturn:
        while True:
            await asyncio.Event().wait()


async def test_who_waits_for_others_hears_as_soon_that_kafka_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topic_reader, "DEADLINE", 0.1)
    reader = TopicReader("kafka", "topic")
    reader._consumer = cast(Any, SilentConsumer())
    loop = asyncio.get_running_loop()
    began = loop.time()

    answers = await asyncio.gather(
        *(reader.stretches() for _ in range(10)),
        *(reader.last(0, Stretch(0, 9), records=9, size=9) for _ in range(10)),
        return_exceptions=True,
    )

    assert {type(answer) for answer in answers} == {TimeoutError}
    assert loop.time() - began < 1  # and not twenty times the deadline
