"""The topic in memory does what the real one does."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from shared.kafka import partition_of
from shared.topic_reader import Topic
from tests.unit.ingest.fakes import PARTITIONS
from tests.unit.ingest.letter_topic import LetterTopic
from tests.unit.ingest.topic_suite import TopicSuite


class InMemory:
    def __init__(self) -> None:
        self._letters = LetterTopic(now=1_000_000)
        self.topic: Topic = self._letters

    async def write(self, values: Sequence[bytes]) -> tuple[int, int]:
        partition = partition_of("k", PARTITIONS)
        begin = (await self.topic.stretches())[partition].end
        await self._letters.append([("k", value) for value in values])
        return partition, begin


class TestLetterTopic(TopicSuite):
    @pytest.fixture
    def harness(self) -> InMemory:
        return InMemory()
