"""How many events were counted, late, dropped or invalid, by series; and where each series begins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from services.aggregator.domain.deltas import SeriesCounters
from services.aggregator.domain.plan import WindowSeries
from services.aggregator.store.series import SeriesIds
from shared.postgres import Connection


async def count_series(
    connection: Connection, shard: int, counters: Mapping[WindowSeries, SeriesCounters], ids: SeriesIds
) -> None:
    if not counters:
        return
    rows = sorted(
        (ids.window(s), c.counted, c.late, c.duplicates, c.invalid, c.overflow) for s, c in counters.items()
    )
    await connection.execute(
        "INSERT INTO series_counters AS c (series_id, shard, counted, late, duplicates, invalid, overflow) "
        "SELECT s, $1, a, b, d, e, f FROM unnest($2::int[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], "
        "$7::bigint[]) AS x (s, a, b, d, e, f) "
        "ON CONFLICT (series_id, shard) DO UPDATE SET counted = c.counted + excluded.counted, "
        "late = c.late + excluded.late, duplicates = c.duplicates + excluded.duplicates, "
        "invalid = c.invalid + excluded.invalid, overflow = c.overflow + excluded.overflow",
        shard,
        *(list(column) for column in zip(*rows, strict=True)),
    )


async def note_starts(connection: Connection, shard: int, first_offset: int, series_ids: Sequence[int]) -> None:
    """Series that a shard has under its plan for the first time begin at this batch."""
    if not series_ids:
        return
    await connection.execute(
        "INSERT INTO series_starts (series_id, shard, first_offset) SELECT s, $1, $2 FROM unnest($3::int[]) AS s "
        "ON CONFLICT DO NOTHING",
        shard,
        first_offset,
        series_ids,
    )
