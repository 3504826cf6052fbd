"""What every batch ends with, in one statement: its counters, its ids and the moved cursor."""

from __future__ import annotations

from collections.abc import Mapping

from services.aggregator.domain.deltas import OrganisationCounters, SeriesCounters
from services.aggregator.domain.plan import WindowSeries
from services.aggregator.store.arrays import numbers, texts
from services.aggregator.store.series import SeriesIds
from services.aggregator.store.shards import ShardRow
from shared.postgres import Connection

_ADVANCE = """
WITH counted AS (
    INSERT INTO series_counters AS c (series_id, shard, counted, late, duplicates, invalid, overflow)
    SELECT s, $1, n, late, duplicates, invalid, overflow
    FROM unnest($10::text::int[], $11::text::bigint[], $12::text::bigint[], $13::text::bigint[],
                $14::text::bigint[], $15::text::bigint[]) AS x (s, n, late, duplicates, invalid, overflow)
    ON CONFLICT (series_id, shard) DO UPDATE SET counted = c.counted + excluded.counted,
        late = c.late + excluded.late, duplicates = c.duplicates + excluded.duplicates,
        invalid = c.invalid + excluded.invalid, overflow = c.overflow + excluded.overflow
), events AS (
    INSERT INTO organisation_counters AS c (organisation, shard, events, counted, late, duplicates)
    SELECT o, $1, n, counted, late, duplicates
    FROM ROWS FROM (
        json_array_elements_text($16::text::json), unnest($17::text::bigint[]), unnest($18::text::bigint[]),
        unnest($19::text::bigint[]), unnest($20::text::bigint[])
    ) AS x (o, n, counted, late, duplicates)
    ON CONFLICT (organisation, shard) DO UPDATE SET events = c.events + excluded.events,
        counted = c.counted + excluded.counted, late = c.late + excluded.late,
        duplicates = c.duplicates + excluded.duplicates
), ids AS (
    INSERT INTO id_digests (shard, minute, first_offset, digests)
    SELECT $1, minute, $9, digests FROM unnest($21::int[], $22::bytea[]) AS x (minute, digests)
)
UPDATE shards SET next_offset = $2, watermark = $3, rolled_through = $4, last_timestamp = $5, last_digest = $6,
    dead_letters = dead_letters + $7, revision = $8, clock = greatest(clock, $3), updated_at = now()
WHERE shard = $1
"""


async def advance_shard(
    connection: Connection,
    row: ShardRow,
    counters: Mapping[WindowSeries, SeriesCounters],
    organisations: Mapping[str, OrganisationCounters],
    digests: Mapping[int, bytes],
    ids: SeriesIds,
    *,
    first_offset: int,
    dead_letters: int,
) -> None:
    """Moves the cursor to `row`; `dead_letters` more records held no event. `digests` are by broker minute."""
    counted = sorted(
        (ids.window(s), c.counted, c.late, c.duplicates, c.invalid, c.overflow) for s, c in counters.items()
    )
    names = sorted(organisations)
    of_names = [organisations[name] for name in names]
    await connection.execute(
        _ADVANCE,
        row.shard,
        row.next_offset,
        row.watermark,
        row.rolled_through,
        row.last_timestamp,
        row.last_digest,
        dead_letters,
        row.revision,
        first_offset,
        *(numbers(one[i] for one in counted) for i in range(6)),
        texts(names),
        numbers(o.events for o in of_names),
        numbers(o.counted for o in of_names),
        numbers(o.late for o in of_names),
        numbers(o.duplicates for o in of_names),
        [*digests],
        [*digests.values()],
    )
