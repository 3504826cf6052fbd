"""Whether an event is in `events.v1`, for the rare case that a process died between storing it and saying so."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping
from typing import Protocol

import msgspec

from shared.clock import MINUTE
from shared.kafka import partition_of
from shared.topic_reader import Stretch, TopicReader
from shared.topics import EVENTS

SLACK = MINUTE
"""How far the clock of the process that died and the broker's may be apart."""
_PIECE_RECORDS = 20_000
_PIECE_BYTES = 8 * 1024 * 1024


class EventFinder(Protocol):
    async def stored(self, keys: Mapping[str, str], since: int, until: int) -> frozenset[str]:
        """Which events (id → record key) Kafka took within the two times (µs UTC, by another process's clock).

        Raises KafkaError or TimeoutError.
        """


class KafkaEventFinder:
    """Connects when it is asked for the first time. Call `stop` after use."""

    def __init__(self, bootstrap: str) -> None:
        self._reader = TopicReader(bootstrap, EVENTS.name)
        self._starting = asyncio.Lock()
        self._started = False

    async def stop(self) -> None:
        await self._reader.stop()

    async def stored(self, keys: Mapping[str, str], since: int, until: int) -> frozenset[str]:
        async with self._starting:
            if not self._started:
                await self._reader.start()
                self._started = True
        stretches = await self._reader.stretches(since - SLACK, until + SLACK)
        wanted: defaultdict[int, set[str]] = defaultdict(set)
        for event_id, key in keys.items():
            wanted[partition_of(key, len(stretches))].add(event_id)
        found: set[str] = set()
        for partition, ids in wanted.items():
            begin, end = stretches[partition].begin, stretches[partition].end
            while begin < end and ids - found:
                rest = Stretch(begin, end)
                records = await self._reader.first(partition, rest, records=_PIECE_RECORDS, size=_PIECE_BYTES)
                found |= ids & {_id_of(record.value or b"") for record in records}
                begin = records[-1].offset + 1 if records else end
        return frozenset(found)


class _Named(msgspec.Struct, gc=False):
    event_id: str


_NAMED = msgspec.json.Decoder(_Named)


def _id_of(value: bytes) -> str:
    try:
        return _NAMED.decode(value).event_id
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return ""
