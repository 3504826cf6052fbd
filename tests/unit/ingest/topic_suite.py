"""What every `Topic` that a search reads from does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from aiokafka import ConsumerRecord

from shared.topic_reader import Stretch, Topic


class Harness(Protocol):
    topic: Topic

    async def write(self, values: Sequence[bytes]) -> tuple[int, int]:
        """Appends them to one partition; returns it and the first one's offset."""


class TopicSuite:
    """Subclasses give a fixture `harness` that yields a Harness."""

    async def test_the_first_and_the_last_records_of_a_stretch_come_in_order(self, harness: Harness) -> None:
        partition, at = await harness.write([b"%d" % n for n in range(10)])
        stretch = Stretch(at + 2, at + 9)

        first = await harness.topic.first(partition, stretch, records=3, size=1_000)
        last = await harness.topic.last(partition, stretch, records=3, size=1_000)

        assert _values(first) == [b"2", b"3", b"4"]
        assert [record.offset for record in first] == [at + 2, at + 3, at + 4]
        assert _values(last) == [b"6", b"7", b"8"]
        assert _values(await harness.topic.last(partition, stretch, records=100, size=1_000))[0] == b"2"

    async def test_large_records_come_fewer_at_a_time_but_never_none(self, harness: Harness) -> None:
        partition, at = await harness.write([b"%d" % n * 1_000 for n in range(10)])
        stretch = Stretch(at, at + 10)

        assert len(await harness.topic.first(partition, stretch, records=10, size=2_500)) == 3
        assert _initials(await harness.topic.last(partition, stretch, records=10, size=2_500)) == b"89"
        assert _initials(await harness.topic.first(partition, stretch, records=10, size=1)) == b"0"
        assert _initials(await harness.topic.last(partition, stretch, records=10, size=1)) == b"9"

    async def test_a_stretch_without_records_gives_none(self, harness: Harness) -> None:
        partition, at = await harness.write([b"x"])

        assert await harness.topic.first(partition, Stretch(at, at), records=5, size=10) == []
        assert await harness.topic.last(partition, Stretch(at, at), records=5, size=10) == []

    async def test_a_span_of_time_is_a_stretch(self, harness: Harness) -> None:
        partition, at = await harness.write([b"a", b"b"])
        (record,) = await harness.topic.first(partition, Stretch(at + 1, at + 2), records=1, size=10)
        time = record.timestamp * 1_000

        assert (await harness.topic.stretches())[partition].end == at + 2
        assert (await harness.topic.stretches(since=time + 1))[partition] == Stretch(at + 2, at + 2)
        assert (await harness.topic.stretches(since=0, until=time + 1))[partition].end == at + 2
        assert (await harness.topic.stretches(until=0))[partition].end == 0


def _values(records: Sequence[ConsumerRecord]) -> list[bytes]:
    return [record.value for record in records]


def _initials(records: Sequence[ConsumerRecord]) -> bytes:
    return b"".join(record.value[:1] for record in records)
