"""Rows of funnels' units, many at once: written without being read where the stored row is known.

    a unit we know  ──► UPDATE … WHERE xmin = the transaction that we know wrote it
    a unit we don't ──► INSERT … ON CONFLICT DO NOTHING
    the others, and those that neither statement wrote ──► `facts`: lock, read, unite, write

A row's xmin is the transaction that wrote it last. If that is still the one we know of, the row is what we know: the
statement sees it under the lock that it takes, and what it writes is what reading, uniting and writing would have
written. Rows are taken in key order.
"""

from __future__ import annotations

import numpy as np

from services.aggregator.domain.deltas import Told
from services.aggregator.domain.facts import EVER
from services.aggregator.domain.known import ManyRemembered
from services.aggregator.domain.moves import Moves
from services.aggregator.domain.staged import Integers, StagedNews, Standing, cells, encoded, stand
from services.aggregator.domain.tracks import PER_MICROSECOND
from services.aggregator.store.arrays import numbers, texts
from shared.postgres import Connection

_IN_KEY_ORDER = "SET LOCAL enable_hashjoin = {0}; SET LOCAL enable_mergejoin = {0}; SET LOCAL enable_seqscan = {0}"
_ROWS = (
    "ROWS FROM (json_array_elements_text($4::text::json), unnest($5::bytea[]), unnest($6::text::bigint[]), "
    "unnest($7::text::bigint[]), unnest($8::text::bigint[]), unnest($9::text::int[]), "
    "json_array_elements_text($10::text::json), json_array_elements_text($11::text::json), "
    "json_array_elements_text($12::text::json), json_array_elements_text($13::text::json), "
    "unnest($14::text::xid[]), unnest(array_fill($1::int, ARRAY[$17::int])), "
    "unnest(array_fill($2::text, ARRAY[$17]))) "
    "AS d (unit, facts, seen, started, duration, reached, group_key, user_id, session_id, job_id, writer, series_id, "
    "track)"
)
"""The whole key is of each row, so that each row is looked up by all of it, in the rows' order."""
_WRITTEN = "SELECT CASE WHEN count(*) < $17 THEN coalesce(array_agg(unit), '{}') END FROM written"
"""NULL: all of them."""
_INSERT = (
    "WITH written AS (INSERT INTO unit_facts (series_id, track, unit, shard, facts, seen, started, duration, state, "
    "group_key, user_id, session_id, job_id, settles) "
    "SELECT series_id, track, unit, $3, facts, seen, started, duration, ($15::text[])[reached], "
    "coalesce(group_key, '[]'), user_id, session_id, job_id, started + $16 "
    f"FROM {_ROWS} ON CONFLICT (series_id, track, unit) DO NOTHING RETURNING unit) {_WRITTEN}"
)
_UPDATE = (
    "WITH written AS (UPDATE unit_facts f SET facts = d.facts, seen = greatest(f.seen, d.seen), started = d.started, "
    "duration = d.duration, state = ($15::text[])[d.reached], settles = d.started + $16, "
    "shard = CASE WHEN d.group_key IS NULL THEN f.shard ELSE $3 END, "
    "group_key = coalesce(d.group_key, f.group_key), "
    "user_id = CASE WHEN d.group_key IS NULL THEN f.user_id ELSE d.user_id END, "
    "session_id = CASE WHEN d.group_key IS NULL THEN f.session_id ELSE d.session_id END, "
    "job_id = CASE WHEN d.group_key IS NULL THEN f.job_id ELSE d.job_id END "
    f"FROM {_ROWS} WHERE f.series_id = d.series_id AND f.track = d.track AND f.unit = d.unit "
    "AND f.xmin = d.writer "
    f"RETURNING f.unit) {_WRITTEN}"
)


async def transaction_of(connection: Connection) -> int:
    """What rows that this transaction writes will have as their xmin."""
    own: int = await connection.fetchval("SELECT pg_current_xact_id()::xid::text::bigint")
    return own


async def tell_staged(
    connection: Connection,
    shard: int,
    key: tuple[int, str],
    news: StagedNews,
    own: int,
    moves: Moves,
) -> tuple[ManyRemembered, dict[str, Told]]:
    """Returns what is known once that is committed, and what is left.

    `key`: the id of the track's series, and its name; `own`: this transaction.
    """
    standing = stand(news)
    wanted = standing.changed & ~standing.open
    new, old = np.flatnonzero(wanted & ~news.present), np.flatnonzero(wanted & news.present)
    left = np.flatnonzero(standing.open).tolist()
    written = [await _write(connection, _INSERT, shard, key, news, standing, new)]
    if len(old):
        await connection.execute(_IN_KEY_ORDER.format("off"))
        written.append(await _write(connection, _UPDATE, shard, key, news, standing, old))
        await connection.execute(_IN_KEY_ORDER.format("DEFAULT"))
    done = np.sort(np.concatenate(written))
    _move(moves, news, standing, done[standing.moved[done]])
    places = done.tolist()
    known = ManyRemembered(
        [news.units[place] for place in places],
        standing.rows(done, own),
        [standing.origins[place] for place in places],
    )
    return known, news.told([*left, *np.setdiff1d(np.flatnonzero(wanted), done).tolist()])


async def _write(
    connection: Connection,
    statement: str,
    shard: int,
    key: tuple[int, str],
    news: StagedNews,
    standing: Standing,
    chosen: Integers,
) -> Integers:
    """Returns which of the chosen units were written."""
    if not len(chosen):
        return chosen
    moments = standing.moments[chosen]
    reached = (moments < EVER).sum(axis=1)
    started = moments[:, 0]
    last = moments[np.arange(len(chosen)), np.maximum(reached, 1) - 1]
    absent = started == EVER
    begun = [None if none else time for time, none in zip(started.tolist(), absent.tolist(), strict=True)]
    took = ((last - started) * PER_MICROSECOND).tolist()
    origins = [
        entry[1:] if again and (entry := standing.origins[place]) else None
        for place, again in zip(chosen.tolist(), standing.restarted[chosen].tolist(), strict=True)
    ]
    units = [news.units[place] for place in chosen.tolist()]
    found = await connection.fetchval(
        statement,
        *key,
        shard,
        texts(units),
        encoded(standing, chosen),
        numbers(news.seen[chosen].tolist()),
        numbers(begun),
        numbers([None if none else time for time, none in zip(took, absent.tolist(), strict=True)]),
        numbers(reached.tolist()),
        *(texts([entry[i] or None if entry else None for entry in origins]) for i in range(4)),
        numbers(news.before[chosen, len(news.track.slots)].tolist()),
        list(news.track.names),
        news.track.window,
        len(chosen),
    )
    if found is None:
        return chosen
    present = set(found)
    return chosen[[unit in present for unit in units]]


def _move(moves: Moves, news: StagedNews, standing: Standing, chosen: Integers) -> None:
    before = [news.origins[place] for place in chosen.tolist()]
    after = [standing.origins[place] for place in chosen.tolist()]
    for minute, group, n, total, squares in cells(news.track, standing.stood[chosen], before):
        moves.add("stage", minute, group, -n, -total, -squares)
    for minute, group, n, total, squares in cells(news.track, standing.moments[chosen], after):
        moves.add("stage", minute, group, n, total, squares)
