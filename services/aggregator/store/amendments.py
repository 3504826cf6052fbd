"""Counts that come to minutes already closed: added like any others, and counted as what they are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from services.aggregator.domain.deltas import WindowDelta
from services.aggregator.store.clocks import hold_closed
from services.aggregator.store.series import SeriesIds
from shared.clock import MINUTE
from shared.postgres import Connection


async def count_amendments(
    connection: Connection, shard: int, clock: int, deltas: Iterable[WindowDelta], ids: SeriesIds
) -> None:
    """Call it at the end of the transaction that applies the deltas and holds the shard's row.

    What the shard itself has not passed, by its clock (µs), is open, and stays so while its row is held. Of the rest
    no minute closes from here until the transaction ends.
    """
    passed = [delta for delta in deltas if delta.n > 0 and delta.minute + MINUTE <= clock]
    if not passed:
        return
    closed = await hold_closed(connection)
    amended: Counter[int] = Counter()
    for delta in passed:
        if delta.minute + MINUTE <= closed:
            amended[ids.window(delta.series)] += delta.n
    if not amended:
        return
    series = sorted(amended)
    await connection.execute(
        "INSERT INTO series_counters AS c (series_id, shard, counted, late, duplicates, invalid, amended) "
        "SELECT s, $1, 0, 0, 0, 0, a FROM unnest($2::int[], $3::bigint[]) AS x (s, a) "
        "ON CONFLICT (series_id, shard) DO UPDATE SET amended = c.amended + excluded.amended",
        shard,
        series,
        [amended[s] for s in series],
    )
