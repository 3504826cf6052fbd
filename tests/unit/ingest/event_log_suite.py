"""What every `EventLog` promises: run against the fake, the batches over a fake producer, and real Kafka."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Protocol

import pytest

from services.ingest.event_log import Cause, EventLog, NotStoredError, Record
from shared.kafka import partition_of


class Harness(Protocol):
    log: EventLog

    async def stored(self, count: int) -> Mapping[int, Sequence[Record]]:
        """Partition → its records in order, once there are at least `count`."""

    async def stop(self) -> None:
        """Ends the log."""


class EventLogSuite:
    """Subclasses define the fixture `harness`."""

    async def test_what_was_appended_is_stored_once_append_returns(self, harness: Harness) -> None:
        records = [(f"user-{n}", b"value-%d" % n) for n in range(100)]

        await harness.log.append(records)

        stored = await harness.stored(len(records))
        assert sorted(record for partition in stored.values() for record in partition) == sorted(records)

    async def test_each_record_lies_on_the_partition_of_its_key(self, harness: Harness) -> None:
        await harness.log.append([(f"user-{n}", b"x") for n in range(200)])

        stored = await harness.stored(200)
        assert len(stored) == 4
        for partition, records in stored.items():
            assert records
            assert {partition_of(key, 4) for key, _ in records} == {partition}

    async def test_records_of_one_key_keep_their_order(self, harness: Harness) -> None:
        for start in range(0, 500, 50):
            await harness.log.append([("one", b"%d" % n) for n in range(start, start + 50)])

        stored = await harness.stored(500)
        assert [int(value) for _, value in stored[partition_of("one", 4)]] == list(range(500))

    async def test_many_appends_at_once_are_each_stored_exactly_once(self, harness: Harness) -> None:
        appends = [[(f"user-{n}-{m}", b"x" * 100) for m in range(5)] for n in range(300)]

        await asyncio.gather(*(harness.log.append(records) for records in appends))

        stored = await harness.stored(1500)
        keys = Counter(key for partition in stored.values() for key, _ in partition)
        assert keys == Counter(key for records in appends for key, _ in records)

    async def test_nothing_to_append_is_no_error(self, harness: Harness) -> None:
        await harness.log.append([])

    async def test_a_cancelled_append_is_stored_nevertheless(self, harness: Harness) -> None:
        request = asyncio.create_task(harness.log.append([("user-1", b"kept")]))
        await asyncio.sleep(0)
        request.cancel()
        await asyncio.gather(request, return_exceptions=True)

        stored = await harness.stored(1)
        assert [record for partition in stored.values() for record in partition] == [("user-1", b"kept")]

    async def test_a_stopped_log_refuses(self, harness: Harness) -> None:
        await harness.stop()

        assert harness.log.refusal() is Cause.STOPPING
        with pytest.raises(NotStoredError) as refused:
            await harness.log.append([("user-1", b"late")])
        assert refused.value.cause is Cause.STOPPING
