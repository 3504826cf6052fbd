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

import numpy as np
import numpy.typing as npt

from services.aggregator.domain.event import AHEAD, MAX_AHEAD, DecodedEvent, EventReader, Unreadable, reader_of
from services.aggregator.domain.projection import EVERYTHING
from services.aggregator.domain.records import Record as Record
from services.aggregator.domain.records import Records
from services.aggregator.domain.seen import Digests, SeenIds, digests_of
from shared.clock import DAY, MINUTE

GRACE = DAY
"""How far behind its partition's watermark an event may lie and still count. Shorter than minute rows live."""

NO_WATERMARK = 0
"""A partition's watermark before its first event: long before any event, so nothing is late."""


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


def read_batch(records: Records | Sequence[Record], reader: EventReader | None = None) -> Batch:
    """Decodes each record; without a reader, all that events hold. Never raises for what a record holds."""
    if not isinstance(records, Records):
        records = Records.of(records)
    events, refused = (reader or reader_of(EVERYTHING)).read(records.values)
    kept = np.arange(len(records), dtype=np.int64)
    if refused:
        kept = np.delete(kept, list(refused))
    times = np.array([event.time for event in events], dtype=np.int64)
    ahead = times > records.broker_times[kept] + MAX_AHEAD
    if ahead.any():
        refused |= dict.fromkeys(kept[ahead].tolist(), AHEAD)
        events = [event for event, early in zip(events, ahead.tolist(), strict=True) if not early]
        kept, times = kept[~ahead], times[~ahead]
    return Batch(
        first_offset=records.first_offset,
        next_offset=records.next_offset,
        events=events,
        rejected=[Rejected(records.record(i), *refused[i]) for i in sorted(refused)],
        offsets=kept + records.first_offset,
        times=times,
        broker_times=records.broker_times[kept],
        digests=digests_of([e.organisation for e in events], [e.event_id for e in events]),
        last=records.record(len(records) - 1),
    )


def minutes_of(times: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Minutes since the epoch, of µs: dividing once will do where all times lie in one minute."""
    if len(times) and (first := int(times.min()) // MINUTE) == int(times.max()) // MINUTE:
        return np.full(len(times), first, dtype=np.int64)
    return times // MINUTE


def judge(batch: Batch, watermark: int, seen: SeenIds, grace: int = GRACE) -> Verdicts:
    """Reads `seen` and leaves it as it is: the batch is added once its transaction is committed."""
    minutes = minutes_of(batch.broker_times).astype(np.int32)
    if not len(batch.events):
        none = np.zeros(0, dtype=np.bool_)
        return Verdicts(none, none, none, watermark, minutes)
    duplicate = seen.is_duplicate(batch.digests, minutes)
    advanced = np.maximum.accumulate(np.concatenate([[watermark], np.minimum(batch.times, batch.broker_times)]))
    before = advanced[:-1]
    late = ~duplicate & (batch.times < before - grace)
    return Verdicts(~duplicate & ~late, duplicate, late, int(advanced[-1]), minutes)
