"""Which groups count under their own name: kept in the transaction that counts them first."""

from __future__ import annotations

from collections.abc import Collection

from services.aggregator.domain.caps import ALWAYS, Group, KnownGroups, NewGroups, SeriesDay
from services.aggregator.store.series import SeriesIds
from shared.clock import DAY
from shared.postgres import Connection


async def store_groups(connection: Connection, shard: int, new: NewGroups, ids: SeriesIds) -> None:
    rows = sorted(
        (ids.window(scope.series), scope.day, group, scope.part)
        for scope, groups in new.added.items()
        for group in groups
    )
    if not rows:
        return
    await connection.execute(
        "INSERT INTO series_groups (series_id, shard, day, group_key, part) "
        "SELECT s, $1, d, g, p FROM unnest($2::int[], $3::int[], $4::text[], $5::text[]) AS x (s, d, g, p) "
        "ON CONFLICT DO NOTHING",
        shard,
        *(list(column) for column in zip(*rows, strict=True)),
    )


async def read_groups(
    connection: Connection,
    shard: int,
    unread: Collection[SeriesDay],
    known: KnownGroups,
    ids: SeriesIds,
) -> None:
    """Tells `known` what the shard has kept of these series and days."""
    wanted = {(ids.window(series), day): (series, day) for series, day in unread}
    found: dict[tuple[int, int], list[tuple[str, Group]]] = {key: [] for key in wanted}
    for series_id, day, part, group in await connection.fetch(
        "SELECT g.series_id, g.day, g.part, g.group_key FROM series_groups g "
        "JOIN unnest($2::int[], $3::int[]) AS k (series_id, day) USING (series_id, day) WHERE g.shard = $1",
        shard,
        [series_id for series_id, _ in wanted],
        [day for _, day in wanted],
    ):
        found[series_id, day].append((part, group))
    for key, groups in found.items():
        known.learn(*wanted[key], groups)


async def forget_groups(connection: Connection, before: int) -> None:
    """Of days that ended before (µs): nothing of theirs counts any more, but for a history that is being counted."""
    await connection.execute(
        "DELETE FROM series_groups g USING window_series s "
        "WHERE s.id = g.series_id AND s.visible AND g.day > $1 AND g.day < $2",
        ALWAYS,
        before // DAY,
    )
