"""The newest events and predictions, straight from their topics, with what Postgres says about them.

    events.v1        ◄── every event; `processed`: its offset is below its shard's cursor
    predictions.v1   ◄── events of type `prediction` once more: among few, a rare one is found at once

Nothing is kept for it: a search reads the topic back from its end, and ends with a page, a time or the topic.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from aiokafka import ConsumerRecord

from services.aggregator.domain.event import DecodedEvent, decode_event
from services.aggregator.domain.listing import Wanted, shown, shown_prediction
from services.aggregator.queries import Queries
from shared.clock import SECOND, to_iso
from shared.topic_reader import Topic
from shared.topic_search import Bounds, Cursor, Page, Turns, newest

LIST_SECONDS = 3.0
"""So long a search goes on; what it has not reached by then is where its cursor says."""
PIECE_RECORDS = 10_000
"""Events are small, and each piece costs a round trip."""
_MILLISECOND = SECOND // 1000


@dataclass(frozen=True, slots=True)
class Shown:
    """What is shown of a record, and the bytes that this takes."""

    item: dict[str, Any]
    size: int


class RecentEvents:
    """`now` is a monotonic clock in seconds. Its methods raise KafkaError, TimeoutError or what `RETRYABLE` lists."""

    def __init__(self, events: Topic, predictions: Topic, queries: Queries, now: Callable[[], float]) -> None:
        self._events = events
        self._predictions = predictions
        self._queries = queries
        self._now = now
        self._turns = Turns()

    async def end_offsets(self) -> dict[int, int]:
        """Partition → offset of the next event to be written."""
        return {number: stretch.end for number, stretch in (await self._events.stretches()).items()}

    async def read(self, wanted: Wanted, processed: bool | None, limit: int, cursor: Cursor | None) -> Page[Shown]:
        """Events in the order in which Kafka took them, newest first."""
        folded = {s["shard"]: s["next_offset"] for s in await self._queries.shards()}

        def match(record: ConsumerRecord, event: DecodedEvent) -> dict[str, Any] | None:
            is_processed = record.offset < folded.get(record.partition, 0)
            if processed is not None and processed is not is_processed:
                return None
            return {**shown(event), **_place(record), "processed": is_processed}

        return await self._page(self._events, wanted, match, limit, cursor)

    async def predictions(self, wanted: Wanted, limit: int, cursor: Cursor | None) -> Page[Shown]:
        """Likewise."""

        def match(record: ConsumerRecord, event: DecodedEvent) -> dict[str, Any] | None:
            found = shown_prediction(event)
            return None if found is None else {**found, "stored_at": _place(record)["stored_at"]}

        return await self._page(self._predictions, wanted, match, limit, cursor)

    async def _page(
        self,
        topic: Topic,
        wanted: Wanted,
        match: Callable[[ConsumerRecord, DecodedEvent], dict[str, Any] | None],
        limit: int,
        cursor: Cursor | None,
    ) -> Page[Shown]:
        signs = wanted.signs()

        def matched(record: ConsumerRecord) -> Shown | None:
            value = record.value or b""
            if not all(sign in value for sign in signs):
                return None
            event = decode_event(value, record.timestamp * _MILLISECOND)
            if not isinstance(event, DecodedEvent) or wanted.of(event) is None:
                return None
            item = match(record, event)
            return None if item is None else Shown(item, len(value))

        async with self._turns.one():
            stretches = await topic.stretches(wanted.stored_since)
            bounds = Bounds(found=limit, deadline=self._now() + LIST_SECONDS)
            return await newest(
                topic,
                stretches,
                matched,
                bounds,
                cursor,
                size_of=lambda found: found.size,
                piece_records=PIECE_RECORDS,
                now=self._now,
            )


def _place(record: ConsumerRecord) -> Mapping[str, Any]:
    return {
        "partition": record.partition,
        "offset": record.offset,
        "stored_at": to_iso(record.timestamp * _MILLISECOND),
    }
