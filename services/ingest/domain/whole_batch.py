"""A batch of events read in one go, where a look at the whole body shows that none of them needs a look of its own.

Nearly every batch is like that, and costs a quarter. Of any other, `batch_body` cuts the events out and each is read
by itself: what is read here is what would be read there.
"""

from __future__ import annotations

import msgspec

from services.ingest.domain.batch_body import MAX_BATCH_EVENTS
from services.ingest.domain.normalise import MAX_EVENT_BYTES, EventBody
from shared import strict_json


class _Batch(msgspec.Struct):
    events: list[EventBody]


class _RawBatch(msgspec.Struct):
    events: list[msgspec.Raw]


_BATCH = msgspec.json.Decoder(_Batch)
_RAW_BATCH = msgspec.json.Decoder(_RawBatch)

_OWN_DEPTH = 2
"""Of an event: its own braces and those of `event_data` or `context`."""


def bodies_of(body: bytes) -> list[EventBody] | None:
    """What each event says, in order; None if the events must be looked at one by one."""
    if strict_json.has_suspicious_value(body):
        return None
    try:
        events = _BATCH.decode(body).events
        if not 0 < len(events) <= MAX_BATCH_EVENTS:
            return None
        if (len(body) > MAX_EVENT_BYTES or _may_be_too_deep(body, events)) and not _all_are_small(body):
            return None
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    return events


def _may_be_too_deep(body: bytes, events: list[EventBody]) -> bool:
    """Whether the brackets that are not accounted for could, all nested in one event, make it too deep."""
    expected = 2 + len(events) + sum([(e.event_data is not None) + (e.context is not None) for e in events])
    return strict_json.openings(body) - expected > strict_json.MAX_DEPTH - _OWN_DEPTH


def _all_are_small(body: bytes) -> bool:
    """Whether no event has more bytes or brackets than it may."""
    return all(
        len(raw) <= MAX_EVENT_BYTES and strict_json.openings(raw) <= strict_json.MAX_DEPTH
        for raw in map(bytes, _RAW_BATCH.decode(body).events)
    )
