"""Predictions are events like any other, and are copied to a topic of their own, from which they are listed.

On a busy `events.v1` a rare prediction would lie millions of records back. Whoever lists predictions reads the copies
from their tail, newest first, and needs no index, no table and no memory for that. A request is answered once Kafka
has both; if one of them fails it is to be sent again, with the same ids, and then a copy may stand twice.
"""

from __future__ import annotations

from collections.abc import Sequence

from services.ingest.domain.kinds.predictions import PREDICTION
from services.ingest.event_log import Cause, EventLog, Record

_FIELD = b'"event_type":"'
"""The first of them is the event's own: before it we write only texts, in which a quotation mark is escaped."""
_SIGN = _FIELD + PREDICTION.encode() + b'"'


class CopiedPredictions:
    """An `EventLog` of events, in front of `events`; copies go to `copies`."""

    def __init__(self, events: EventLog, copies: EventLog) -> None:
        self._events = events
        self._copies = copies

    def refusal(self) -> Cause | None:
        return self._events.refusal()

    async def append(self, records: Sequence[Record]) -> None:
        """Raises NotStoredError."""
        predictions = [record for record in records if record[1].startswith(_SIGN, record[1].find(_FIELD))]
        if predictions:
            # First, so that a failure of theirs leaves nothing behind that would be counted.
            await self._copies.append(predictions)
        await self._events.append(records)
