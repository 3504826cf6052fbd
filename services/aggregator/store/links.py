"""Identity links: the earliest wins, whichever shard brings it."""

from __future__ import annotations

from collections.abc import Mapping

from services.aggregator.domain.deltas import Link
from services.aggregator.store.arrays import numbers, texts
from shared.postgres import Connection


async def store_links(connection: Connection, links: Mapping[tuple[str, str], Link]) -> None:
    """Most links are known: those rows are neither locked nor written."""
    if not links:
        return
    keyed = sorted(links.items())
    await connection.execute(
        """
        INSERT INTO identity_links AS l (organisation, anonymous_id, user_id, at)
        SELECT d.organisation, d.anonymous_id, d.user_id, d.at
        FROM ROWS FROM (
            json_array_elements_text($1::text::json), json_array_elements_text($2::text::json),
            json_array_elements_text($3::text::json), unnest($4::text::bigint[])
        ) AS d (organisation, anonymous_id, user_id, at)
        WHERE NOT EXISTS (
            SELECT FROM identity_links known
            WHERE known.organisation = d.organisation AND known.anonymous_id = d.anonymous_id
              AND (known.at, known.user_id) <= (d.at, d.user_id COLLATE "C"))
        ON CONFLICT (organisation, anonymous_id) DO UPDATE SET user_id = excluded.user_id, at = excluded.at
        WHERE (excluded.at, excluded.user_id) < (l.at, l.user_id)
        """,
        texts([organisation for (organisation, _), _ in keyed]),
        texts([anonymous for (_, anonymous), _ in keyed]),
        texts([link.user_id for _, link in keyed]),
        numbers([link.at for _, link in keyed]),
    )
