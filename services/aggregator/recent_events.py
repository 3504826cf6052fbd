"""The newest events, straight from the topic's tail, with what Postgres says about them."""

from __future__ import annotations

from typing import Any

from services.aggregator.domain.event import DecodedEvent, decode_event
from services.aggregator.domain.values import INVALID
from services.aggregator.queries import Queries
from shared.clock import SECOND, to_iso
from shared.kafka import Tail

_MILLISECOND = SECOND // 1000


class RecentEvents:
    def __init__(self, tail: Tail, queries: Queries) -> None:
        self._tail = tail
        self._queries = queries

    async def end_offsets(self) -> dict[int, int]:
        return await self._tail.end_offsets()

    async def read(self, organisation: str, limit: int) -> list[dict[str, Any]]:
        """The organisation's share of the newest `limit` records of each partition, newest first."""
        records = await self._tail.read(limit)
        folded = {s["shard"]: s["next_offset"] for s in await self._queries.shards()}
        found: list[dict[str, Any]] = []
        for record in records:
            event = decode_event(record.value, record.timestamp * _MILLISECOND)
            if not isinstance(event, DecodedEvent) or event.organisation != organisation:
                continue
            found.append(
                {
                    "event_id": event.event_id,
                    "data_source_id": event.data_source_id,
                    "event_type": event.event_type,
                    "event_data": _readable(event.properties),
                    "event_timestamp": to_iso(event.time),
                    "user_id": event.user_id,
                    "anonymous_id": event.anonymous_id,
                    "session_id": event.session_id,
                    "job_id": event.job_id,
                    "context": _readable(event.context),
                    "partition": record.partition,
                    "offset": record.offset,
                    "stored_at": to_iso(record.timestamp * _MILLISECOND),
                    "processed": record.offset < folded.get(record.partition, 0),
                }
            )
        found.sort(key=lambda e: (e["stored_at"], e["offset"]), reverse=True)
        return found


def _readable(tree: dict[str, Any]) -> dict[str, Any]:
    """Without what is there but cannot be read, such as 1e400."""
    return {name: value for name, value in tree.items() if value is not INVALID}
