"""What the API reads from Postgres: windows of a metric, counters, where the shards stand."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec

from services.aggregator.domain.kinds.kind import LED, Cell, Part
from services.aggregator.domain.kinds.streak import Run, Streak, joined
from services.aggregator.domain.metrics import Definition
from shared.postgres import Pool

WIDTHS = {"1m": 60, "5m": 300, "15m": 900, "1h": 3_600, "1d": 86_400}
TOTAL = "total"


@dataclass(frozen=True, slots=True)
class Window:
    """A window of one group: the totals of each part. `start` None: everything ever counted."""

    start: datetime | None
    group: tuple[str | None, ...]
    cells: dict[Part, Cell]


_MINUTES = """
    SELECT s.component, m.minute AS start, m.group_key, m.n, m.sum, m.sum_squares, m.min, m.max, m.sketch
    FROM window_minutes m JOIN window_series s ON s.id = m.series_id
    WHERE s.organisation = $1 AND s.metric = $2 AND s.version = $3 AND m.minute >= $4 AND m.minute < $5
"""

# Rolled rows for what is closed, minutes for what is not: one statement, so one snapshot of both.
_ROLLED = """
    SELECT s.component, r.start, r.group_key, r.n, r.sum, r.sum_squares, r.min, r.max, r.sketch
    FROM window_rolls r JOIN window_series s ON s.id = r.series_id
    WHERE s.organisation = $1 AND s.metric = $2 AND s.version = $3 AND r.width = $6
      AND r.start >= $4 AND r.start < $5
    UNION ALL
    SELECT s.component, date_bin(make_interval(secs => $6::int), m.minute, 'epoch'::timestamptz), m.group_key,
           m.n, m.sum, m.sum_squares, m.min, m.max, m.sketch
    FROM window_minutes m JOIN window_series s ON s.id = m.series_id JOIN shards h ON h.shard = m.shard
    WHERE s.organisation = $1 AND s.metric = $2 AND s.version = $3
      AND m.minute >= greatest($4, to_timestamp(h.rolled_through / 1000000))
      AND date_bin(make_interval(secs => $6::int), m.minute, 'epoch'::timestamptz) >= $4
      AND date_bin(make_interval(secs => $6::int), m.minute, 'epoch'::timestamptz) < $5
"""


class Queries:
    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def windows(self, definition: Definition, width: str, begin: datetime, end: datetime) -> list[Window]:
        """Windows that start in [begin, end), newest first; `width` is a key of WIDTHS or TOTAL."""
        names = (definition.organisation, definition.key, definition.version)
        if width == "1m":
            rows = await self._pool.fetch(_MINUTES, *names, begin, end)
        else:
            seconds = WIDTHS["1d"] if width == TOTAL else WIDTHS[width]
            rows = await self._pool.fetch(_ROLLED, *names, begin, end, seconds)
        found: dict[tuple[datetime | None, tuple[str | None, ...]], dict[Part, Cell]] = {}
        for component, start, group_key, n, total, squares, low, high, raw in rows:
            group = tuple(msgspec.json.decode(group_key))
            name = ""
            if component in LED:
                name, *rest = group
                group = tuple(rest)
            cells = found.setdefault((None if width == TOTAL else start, group), {})
            cells.setdefault((component, name), Cell()).add(n, int(total), int(squares), low, high, raw)
        # A journey that moved away may leave nothing but zeros behind.
        windows = [Window(*place, cells) for place, cells in found.items() if any(c.n for c in cells.values())]
        windows.sort(key=lambda w: [g or "" for g in w.group])
        windows.sort(key=lambda w: w.start.timestamp() if w.start else 0.0, reverse=True)
        return windows

    async def streaks(self, definition: Definition, streak: Streak) -> list[tuple[tuple[str | None, ...], Run]]:
        """Each group's run over all shards, by group."""
        rows = await self._pool.fetch(
            "SELECT t.group_key, t.latest_success, t.failures, t.n FROM streaks t "
            "JOIN window_series s ON s.id = t.series_id "
            "WHERE s.organisation = $1 AND s.metric = $2 AND s.version = $3",
            definition.organisation,
            definition.key,
            definition.version,
        )
        runs: dict[str, list[Run]] = defaultdict(list)
        for group, success, failures, n in rows:
            runs[group].append(Run(success, tuple(failures), n))
        found = [(tuple(msgspec.json.decode(group)), joined(parts, streak.length)) for group, parts in runs.items()]
        return sorted(found, key=lambda item: [g or "" for g in item[0]])

    async def series_totals(self, definition: Definition) -> dict[str, dict[str, int]]:
        """Component → counted, late, duplicates and invalid over all shards."""
        rows = await self._pool.fetch(
            "SELECT s.component, sum(c.counted)::bigint AS counted, sum(c.late)::bigint AS late, "
            "sum(c.duplicates)::bigint AS duplicates, sum(c.invalid)::bigint AS invalid "
            "FROM series_counters c JOIN window_series s ON s.id = c.series_id "
            "WHERE s.organisation = $1 AND s.metric = $2 AND s.version = $3 GROUP BY s.component",
            definition.organisation,
            definition.key,
            definition.version,
        )
        none = {"counted": 0, "late": 0, "duplicates": 0, "invalid": 0}
        totals: dict[str, dict[str, int]] = {c: dict(none) for c in definition.kind.components if c != "step"}
        for row in rows:
            totals[row["component"]] = {name: row[name] for name in none}
        return totals

    async def organisation_totals(self, organisation: str) -> dict[str, int]:
        row = await self._pool.fetchrow(
            "SELECT coalesce(sum(events), 0)::bigint AS events, coalesce(sum(counted), 0)::bigint AS counted, "
            "coalesce(sum(late), 0)::bigint AS late, coalesce(sum(duplicates), 0)::bigint AS duplicates "
            "FROM organisation_counters WHERE organisation = $1",
            organisation,
        )
        return dict(row)

    async def shards(self) -> list[dict[str, Any]]:
        """Each shard's cursor and clocks, by number."""
        rows = await self._pool.fetch(
            "SELECT shard, next_offset, watermark, dead_letters, updated_at FROM shards ORDER BY shard"
        )
        return [dict(row) for row in rows]
