"""From raw records to events that count: decode each alone, then find duplicates and late ones.

Everything here depends only on a record's place in its partition and on what came before it there, never on how the
log was cut into batches: a replay decides alike.

    broker time ──►   r0      r1      r2 (r0 resent)   r3 (long ago)
    watermark         t0  max(t0,t1)      …            …          each event's time, but never ahead of the broker
    verdict          count   count      duplicate      late       late: time < watermark before it − grace
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
import numpy.typing as npt

from services.aggregator.domain.event import DecodedEvent, Unreadable, decode_event
from services.aggregator.domain.seen import Digests, SeenIds, as_array, digest
from shared.clock import DAY, MINUTE

GRACE = DAY
"""How far behind its partition's watermark an event may lie and still count. Shorter than minute rows live."""

NO_WATERMARK = 0
"""A partition's watermark before its first event: long before any event, so nothing is late."""


class Record(msgspec.Struct, frozen=True, gc=False):
    """One Kafka record: `broker_time` in µs since the epoch (LogAppendTime). Cheap to make by the million."""

    offset: int
    broker_time: int
    value: bytes | None


@dataclass(frozen=True, slots=True)
class Rejected:
    """A record that holds no event."""

    record: Record
    reason: Unreadable
    detail: str


@dataclass(frozen=True, slots=True)
class Batch:
    """The events of consecutive records of one partition; columns share the events' order.

    first_offset/next_offset span all records, also rejected ones.
    """

    first_offset: int
    next_offset: int
    events: list[DecodedEvent]
    rejected: list[Rejected]
    offsets: npt.NDArray[np.int64]
    times: npt.NDArray[np.int64]
    broker_times: npt.NDArray[np.int64]
    digests: Digests
    last: Record


@dataclass(frozen=True, slots=True)
class Verdicts:
    """What becomes of each event, and the partition's watermark after the batch."""

    counted: npt.NDArray[np.bool_]
    duplicate: npt.NDArray[np.bool_]
    late: npt.NDArray[np.bool_]
    watermark: int
    minutes: npt.NDArray[np.int32]
    """Broker minute of each event, by which ids are remembered."""


def read_batch(records: Sequence[Record]) -> Batch:
    """Decodes at least one record, in offset order. Never raises for what a record holds."""
    events: list[DecodedEvent] = []
    rejected: list[Rejected] = []
    offsets: list[int] = []
    broker_times: list[int] = []
    for record in records:
        event = decode_event(record.value, record.broker_time)
        if isinstance(event, tuple):
            rejected.append(Rejected(record, *event))
        else:
            events.append(event)
            offsets.append(record.offset)
            broker_times.append(record.broker_time)
    return Batch(
        first_offset=records[0].offset,
        next_offset=records[-1].offset + 1,
        events=events,
        rejected=rejected,
        offsets=np.array(offsets, dtype=np.int64),
        times=np.array([e.time for e in events], dtype=np.int64),
        broker_times=np.array(broker_times, dtype=np.int64),
        digests=as_array([digest(e.organisation, e.event_id) for e in events]),
        last=records[-1],
    )


def judge(batch: Batch, watermark: int, seen: SeenIds, grace: int = GRACE) -> Verdicts:
    """Reads `seen` and leaves it as it is: the batch is added once its transaction is committed."""
    minutes = (batch.broker_times // MINUTE).astype(np.int32)
    if not len(batch.events):
        none = np.zeros(0, dtype=np.bool_)
        return Verdicts(none, none, none, watermark, minutes)
    duplicate = seen.is_duplicate(batch.digests, minutes)
    advanced = np.maximum.accumulate(np.concatenate([[watermark], np.minimum(batch.times, batch.broker_times)]))
    before = advanced[:-1]
    late = ~duplicate & (batch.times < before - grace)
    return Verdicts(~duplicate & ~late, duplicate, late, int(advanced[-1]), minutes)
