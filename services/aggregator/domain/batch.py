"""From raw records to events that count: decode each alone, then find duplicates and late ones.

Everything here depends only on a record's place in its partition and on what came before it there, never on how the
log was cut into batches: a replay decides alike.

    broker time ──►   r0      r1      r2 (r0 resent)   r3 (long ago)
    watermark         t0  max(t0,t1)      …            …          each event's time, but never ahead of the broker
    verdict          count   count      duplicate      late       late: time < watermark before it − grace
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np
import numpy.typing as npt

from services.aggregator.domain.event import (
    AHEAD,
    AT_ONCE,
    MAX_AHEAD,
    DecodedEvent,
    EventReader,
    Refusal,
    Unreadable,
    reader_of,
)
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
    organisations: frozenset[str]
    """Of the events."""
    rejected: list[Rejected]
    offsets: npt.NDArray[np.int64]
    times: npt.NDArray[np.int64]
    broker_times: npt.NDArray[np.int64]
    digests: Digests
    last: Record

    def without_events(self) -> Batch:
        """For what follows the fold: events by the thousand are freed soonest where they were made."""
        return replace(self, events=[])


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
    parts = [_read(records, start, reader or reader_of(EVERYTHING)) for start in range(0, len(records), AT_ONCE)]
    refused = {i: refusal for part in parts for i, refusal in part.refused.items()}
    kept = np.arange(len(records), dtype=np.int64)
    if refused:
        kept = np.delete(kept, list(refused))
    return Batch(
        first_offset=records.first_offset,
        next_offset=records.next_offset,
        events=[*chain.from_iterable(part.events for part in parts)],
        organisations=frozenset().union(*(part.organisations for part in parts)),
        rejected=[Rejected(records.record(i), *refused[i]) for i in sorted(refused)],
        offsets=kept + records.first_offset,
        times=np.concatenate([part.times for part in parts]),
        broker_times=records.broker_times[kept] if refused else records.broker_times,
        digests=np.concatenate([part.digests for part in parts]),
        last=records.record(len(records) - 1),
    )


@dataclass(frozen=True, slots=True)
class _Part:
    """A part of a batch: what is read of it while it is in the processor's caches."""

    events: list[DecodedEvent]
    organisations: set[str]
    refused: dict[int, Refusal]
    """By index in the batch."""
    times: npt.NDArray[np.int64]
    digests: Digests


def _read(records: Records, start: int, reader: EventReader) -> _Part:
    """AT_ONCE records from index `start` on, or fewer."""
    places = np.arange(start, min(start + AT_ONCE, len(records)))
    events, unreadable = reader.read(records.values[start : start + AT_ONCE])
    refused = {start + i: refusal for i, refusal in unreadable.items()}
    if unreadable:
        places = np.delete(places, list(unreadable))
    times = np.array([event.time for event in events], dtype=np.int64)
    ahead = times > records.broker_times[places] + MAX_AHEAD
    if ahead.any():
        refused |= dict.fromkeys(places[ahead].tolist(), AHEAD)
        events = [event for event, early in zip(events, ahead.tolist(), strict=True) if not early]
        times = times[~ahead]
    organisations = {event.organisation for event in events}
    owners = [*organisations] * len(events) if len(organisations) == 1 else [e.organisation for e in events]
    return _Part(events, organisations, refused, times, digests_of(owners, [e.event_id for e in events]))


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
