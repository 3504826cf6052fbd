"""What the API reads from Postgres: windows of a metric, counters, where the shards stand."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec

from services.aggregator.domain.kinds.kind import LED, UNCOUNTED, Cell, Part
from services.aggregator.domain.kinds.streak import Streak
from services.aggregator.domain.metrics import Definition
from services.aggregator.domain.runs import Run, joined
from services.aggregator.domain.trailing import cover
from shared.clock import from_datetime, to_datetime
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
    WHERE s.visible AND s.organisation = $1 AND s.metric = $2 AND s.version = $3 AND m.minute >= $4 AND m.minute < $5
"""

# Rolled rows for what is closed, minutes for what is not: one statement, so one snapshot of both.
_ROLLED = """
    SELECT s.component, r.start, r.group_key, r.n, r.sum, r.sum_squares, r.min, r.max, r.sketch
    FROM window_rolls r JOIN window_series s ON s.id = r.series_id
    WHERE s.visible AND s.organisation = $1 AND s.metric = $2 AND s.version = $3 AND r.width = $6
      AND r.start >= $4 AND r.start < $5
    UNION ALL
    SELECT s.component, date_bin(make_interval(secs => $6::int), m.minute, 'epoch'::timestamptz), m.group_key,
           m.n, m.sum, m.sum_squares, m.min, m.max, m.sketch
    FROM window_minutes m JOIN window_series s ON s.id = m.series_id JOIN shards h ON h.shard = m.shard
    WHERE s.visible AND s.organisation = $1 AND s.metric = $2 AND s.version = $3
      AND m.minute >= greatest($4, to_timestamp(h.rolled_through / 1000000))
      AND date_bin(make_interval(secs => $6::int), m.minute, 'epoch'::timestamptz) >= $4
      AND date_bin(make_interval(secs => $6::int), m.minute, 'epoch'::timestamptz) < $5
"""

# $4 to $6: rolled rows by width, begin and end; $7, $8: what they cover; $9, $10: minutes around it.
_TRAILING = """
    SELECT s.component, r.group_key, r.n, r.sum, r.sum_squares, r.min, r.max, r.sketch
    FROM unnest($4::int[], $5::timestamptz[], $6::timestamptz[]) AS p (width, from_start, to_start)
    JOIN window_rolls r ON r.width = p.width AND r.start >= p.from_start AND r.start < p.to_start
    JOIN window_series s ON s.id = r.series_id
    WHERE s.visible AND s.organisation = $1 AND s.metric = $2 AND s.version = $3
    UNION ALL
    SELECT s.component, m.group_key, m.n, m.sum, m.sum_squares, m.min, m.max, m.sketch
    FROM window_minutes m JOIN window_series s ON s.id = m.series_id JOIN shards h ON h.shard = m.shard
    WHERE s.visible AND s.organisation = $1 AND s.metric = $2 AND s.version = $3
      AND m.minute >= greatest($7, to_timestamp(h.rolled_through / 1000000)) AND m.minute < $8
    UNION ALL
    SELECT s.component, m.group_key, m.n, m.sum, m.sum_squares, m.min, m.max, m.sketch
    FROM unnest($9::timestamptz[], $10::timestamptz[]) AS p (from_minute, to_minute)
    JOIN window_minutes m ON m.minute >= p.from_minute AND m.minute < p.to_minute
    JOIN window_series s ON s.id = m.series_id
    WHERE s.visible AND s.organisation = $1 AND s.metric = $2 AND s.version = $3
"""

_Rows = Iterable[Sequence[Any]]


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
        return _added_up((None if width == TOTAL else start, component, *rest) for component, start, *rest in rows)

    async def trailing(self, definition: Definition, begin: datetime, end: datetime) -> list[Window]:
        """The one window [begin, end), which are whole minutes, of each group."""
        parts = cover(from_datetime(begin), from_datetime(end))
        rolled = parts.rolled or (0, 0)
        rows = await self._pool.fetch(
            _TRAILING,
            definition.organisation,
            definition.key,
            definition.version,
            [p.width for p in parts.rolls],
            [to_datetime(p.begin) for p in parts.rolls],
            [to_datetime(p.end) for p in parts.rolls],
            to_datetime(rolled[0]),
            to_datetime(rolled[1]),
            [to_datetime(first) for first, _ in parts.edges],
            [to_datetime(last) for _, last in parts.edges],
        )
        return _added_up((begin, *row) for row in rows)

    async def streaks(self, definition: Definition, streak: Streak) -> list[tuple[tuple[str | None, ...], Run]]:
        """Each group's run over all shards, by group."""
        rows = await self._pool.fetch(
            "SELECT t.group_key, t.latest_success, t.failures, t.n FROM streaks t "
            "JOIN window_series s ON s.id = t.series_id "
            "WHERE s.visible AND s.organisation = $1 AND s.metric = $2 AND s.version = $3",
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
        """Component → counted, late, duplicates, invalid, overflow and amended over all shards."""
        rows = await self._pool.fetch(
            "SELECT s.component, sum(c.counted)::bigint AS counted, sum(c.late)::bigint AS late, "
            "sum(c.duplicates)::bigint AS duplicates, sum(c.invalid)::bigint AS invalid, "
            "sum(c.overflow)::bigint AS overflow, sum(c.amended)::bigint AS amended "
            "FROM series_counters c JOIN window_series s ON s.id = c.series_id "
            "WHERE s.visible AND s.organisation = $1 AND s.metric = $2 AND s.version = $3 GROUP BY s.component",
            definition.organisation,
            definition.key,
            definition.version,
        )
        none = {"counted": 0, "late": 0, "duplicates": 0, "invalid": 0, "overflow": 0, "amended": 0}
        totals: dict[str, dict[str, int]] = {c: dict(none) for c in definition.kind.components if c not in UNCOUNTED}
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

    async def closed_through(self) -> datetime:
        """The end of the last minute that every shard has passed. Read windows after it, to have all of them."""
        closed: int = await self._pool.fetchval("SELECT closed_through FROM closed_windows")
        return to_datetime(closed)

    async def shards(self) -> list[dict[str, Any]]:
        """Each shard's cursor and clocks, by number."""
        rows = await self._pool.fetch(
            "SELECT shard, next_offset, watermark, clock, dead_letters, updated_at FROM shards ORDER BY shard"
        )
        return [dict(row) for row in rows]


def _added_up(rows: _Rows) -> list[Window]:
    """Rows of start, component, group and what is to be added, as windows: newest first, then by group."""
    found: dict[tuple[datetime | None, tuple[str | None, ...]], dict[Part, Cell]] = {}
    for start, component, group_key, n, total, squares, low, high, raw in rows:
        group = tuple(msgspec.json.decode(group_key))
        name = ""
        if component in LED:
            name, *rest = group
            group = tuple(rest)
        cells = found.setdefault((start, group), {})
        cells.setdefault((component, name), Cell()).add(n, int(total), int(squares), low, high, raw)
    # A journey that moved away may leave nothing but zeros behind.
    windows = [Window(*place, cells) for place, cells in found.items() if any(c.n for c in cells.values())]
    windows.sort(key=lambda w: [g or "" for g in w.group])
    windows.sort(key=lambda w: w.start.timestamp() if w.start else 0.0, reverse=True)
    return windows
