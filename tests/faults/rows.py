"""What the aggregator's tables hold, without what may differ between two foldings of one log.

Tables and columns are taken from the catalogue, so a table that is new is compared too, unless it is named here.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from typing import Any

import asyncpg

from services.aggregator.domain.states import decode, merged

Row = tuple[tuple[str, Any], ...]
"""(column, value) pairs in order of the columns' names."""
Rows = dict[str, Counter[Row]]
"""Table → its rows, and how often each is there."""

NO_CONTENT = {
    "accepted_losses": "what operators did",
    "backfill_shards": "cursors",
    "backfills": "what was asked for, and when",
    "closed_windows": "when windows were announced as closed",
    "experiment_series": "names, which stand in the rows instead of their ids",
    "id_digests": "ids by batch",
    "metrics": "definitions: the log has them",
    "schema_migrations": "of the tables, not of their content",
    "series_starts": "offsets",
    "shards": "cursors and clocks",
    "window_series": "names, which stand in the rows instead of their ids",
}
"""Tables that are left out, and what they hold."""

NO_CONTENT_COLUMNS = {
    "amended": "depends on when windows closed",
    "expired": "says only that a deadline was applied; the outcome is in the windows",
    "first_offset": "an offset",
    "published_revision": "a revision",
    "revision": "rises with the clock",
    "seen": "by which rows are forgotten",
    "updated_at": "the clock",
}
"""Columns that are left out, wherever they stand, and why."""

_OF_EVENTS = {"value", "numerator", "denominator"}
"""Components whose rows follow from one shard's events alone. What else there is, is about units: which shard tells
first what several tell decides whose row moves, and only their sum is certain."""

_OF_OBSERVATIONS = {"observations", "sum", "sum_squares", "min", "max", "state", "conflicted"}
"""Of experiments' totals: an event of a unit seen in two variants counts under the variant known when it came."""

_OF_EXPERIMENTS = {"experiment_totals", "experiment_units", "unit_values", "unit_waiting"}
"""Tables whose series are experiments' and not metrics'."""

_OWN = {"window_minutes", "window_rolls", "series_counters", "organisation_counters", "series_groups", "streaks"}
"""Tables whose rows are one shard's own. Elsewhere a shard is only who looks after a row."""

_LEAST, _GREATEST = {"min"}, {"max"}


async def rows_of(postgres: str) -> Rows:
    """Every table's content, sums over shards where only those are certain; rows that add up to nothing are left out.

    Longer windows hold minutes as soon as those are closed; here they hold all, whenever that happens.
    """
    connection = await asyncpg.connect(postgres)
    try:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            names = {
                "window": await _names(connection, "window_series"),
                "experiment": await _names(connection, "experiment_series"),
            }
            found: Rows = {}
            for table, columns in (await _tables(connection)).items():
                rows = await _read(connection, table, columns)
                if table == "window_rolls":
                    rows += await _open_minutes(connection, columns)
                named = [_named(row, names["experiment" if table in _OF_EXPERIMENTS else "window"]) for row in rows]
                found[table] = _content(table, named)
            return found
    finally:
        await connection.close()


def differences(expected: Rows, found: Rows, most: int = 5) -> list[str]:
    """At most `most` rows of each table that only one of both holds."""
    told = []
    for table in sorted(expected.keys() | found.keys()):
        for who, extra in (
            ("only in the first", expected.get(table, Counter()) - found.get(table, Counter())),
            ("only in the second", found.get(table, Counter()) - expected.get(table, Counter())),
        ):
            told += [f"{table}, {who} (of {extra.total()}): {dict(row)}" for row in list(extra)[:most]]
    return told


async def rolls_that_differ(postgres: str) -> list[Any]:
    """Widths, series and shards whose rolled rows are not the sum of their minutes before `rolled_through`."""
    connection = await asyncpg.connect(postgres)
    try:
        rows: list[Any] = await connection.fetch(
            """
            WITH widths (width) AS (SELECT DISTINCT width FROM aggregator.window_rolls),
            minutes AS (
                SELECT series_id, m.shard, sum(n) AS n, sum(sum) AS sum
                FROM aggregator.window_minutes m JOIN aggregator.shards h USING (shard)
                WHERE m.minute < to_timestamp(h.rolled_through / 1000000) GROUP BY 1, 2),
            rolls AS (
                SELECT width, series_id, shard, sum(n) AS n, sum(sum) AS sum
                FROM aggregator.window_rolls GROUP BY 1, 2, 3)
            SELECT width, series_id, shard FROM widths CROSS JOIN minutes m
            FULL JOIN rolls r USING (width, series_id, shard)
            WHERE (coalesce(m.n, 0), coalesce(m.sum, 0)) IS DISTINCT FROM (coalesce(r.n, 0), coalesce(r.sum, 0))
            """
        )
        return rows
    finally:
        await connection.close()


async def _tables(connection: Any) -> dict[str, list[str]]:
    """Table → columns, of those that have content; partitions are in their tables."""
    rows = await connection.fetch(
        """
        SELECT c.table_name, c.column_name FROM information_schema.columns c
        JOIN pg_class k ON k.relname = c.table_name AND k.relnamespace = 'aggregator'::regnamespace
        WHERE c.table_schema = 'aggregator' AND k.relkind IN ('r', 'p') AND NOT k.relispartition
          AND c.is_generated = 'NEVER'
        ORDER BY c.column_name
        """
    )
    found: defaultdict[str, list[str]] = defaultdict(list)
    for table, column in rows:
        if table not in NO_CONTENT and column not in NO_CONTENT_COLUMNS:
            found[table].append(column)
    return dict(found)


async def _read(connection: Any, table: str, columns: list[str]) -> list[dict[str, Any]]:
    rows = await connection.fetch(f"SELECT {', '.join(columns)} FROM aggregator.{table}")
    return [dict(row) for row in rows]


async def _open_minutes(connection: Any, columns: list[str]) -> list[dict[str, Any]]:
    """Minutes that are not rolled up yet, as rows of every width that there is."""
    shown = {"start": "date_bin(make_interval(secs => w.width), m.minute, 'epoch'::timestamptz) AS start"}
    chosen = ", ".join(shown.get(c, "w.width" if c == "width" else f"m.{c}") for c in columns)
    rows = await connection.fetch(
        f"SELECT {chosen} FROM aggregator.window_minutes m JOIN aggregator.shards h USING (shard) "
        "CROSS JOIN (VALUES (300), (900), (3600), (86400)) AS w (width) "
        "WHERE m.minute >= to_timestamp(h.rolled_through / 1000000)"
    )
    return [dict(row) for row in rows]


async def _names(connection: Any, table: str) -> dict[int, tuple[str, ...]]:
    """Id of a series → its names and settings."""
    rows = await connection.fetch(f"SELECT * FROM aggregator.{table}")
    return {row["id"]: tuple(str(v) for k, v in row.items() if k != "id") for row in rows}


def _named(row: dict[str, Any], names: Mapping[int, tuple[str, ...]]) -> dict[str, Any]:
    return {k: names[v] if k.endswith("series_id") else v for k, v in row.items()}


def _content(table: str, rows: list[dict[str, Any]]) -> Counter[Row]:
    if table in ("window_minutes", "window_rolls"):
        events = [row for row in rows if _OF_EVENTS & set(row["series_id"])]
        units = [row for row in rows if not _OF_EVENTS & set(row["series_id"])]
        keys = {"series_id", "width", "start", "minute", "group_key"}
        return _added(events, keys | {"shard"}) + _added(units, keys)
    if table == "series_counters":
        return _added(rows, {"series_id", "shard"})
    if table == "experiment_totals":
        by_variant = [{k: v for k, v in row.items() if k not in _OF_OBSERVATIONS} for row in rows]
        together = [{k: v for k, v in row.items() if k in _OF_OBSERVATIONS | {"series_id"}} for row in rows]
        return _added(by_variant, {"series_id", "variant"}) + _added(together, {"series_id"})
    dropped = set() if table in _OWN else {"shard"}
    return Counter(_row({k: v for k, v in row.items() if k not in dropped}) for row in rows)


def _added(rows: Iterable[dict[str, Any]], keys: set[str]) -> Counter[Row]:
    """Rows of equal `keys` become one; the shard, unless it is a key, is forgotten."""
    groups: defaultdict[Row, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        place = _row({k: v for k, v in row.items() if k in keys})
        groups[place].append({k: v for k, v in row.items() if k not in keys and k != "shard"})
    found: Counter[Row] = Counter()
    for place, some in groups.items():
        total = {name: _total(name, [row[name] for row in some]) for name in some[0]}
        if any(total.values()):
            found[tuple(sorted((*place, *total.items())))] += 1
    return found


def _total(name: str, values: list[Any]) -> Any:
    there = [v for v in values if v is not None]
    if not there:
        return None
    if isinstance(there[0], bytes):
        return _merged(there)
    how: Callable[[list[Any]], Any] = min if name in _LEAST else max if name in _GREATEST else sum
    return how(there)


def _merged(raws: list[bytes]) -> bytes:
    if len(raws) == 1:
        return raws[0]
    state = None
    for raw in raws:
        state = merged(state, decode(raw))
    return b"" if state is None else state.encode()


def _row(row: Mapping[str, Any]) -> Row:
    return tuple(sorted((k, _plain(v)) for k, v in row.items()))


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(value)
    return int(value) if isinstance(value, Decimal) and value == value.to_integral_value() else value
