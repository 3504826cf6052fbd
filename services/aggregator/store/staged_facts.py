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
from services.aggregator.domain.staged import Integers, Mask, StagedNews, Standing, cells, encoded, stand
from services.aggregator.domain.tracks import PER_MICROSECOND
from services.aggregator.store.arrays import numbers, texts
from shared.postgres import Connection

_IN_KEY_ORDER = "SET LOCAL enable_hashjoin = {0}; SET LOCAL enable_mergejoin = {0}; SET LOCAL enable_seqscan = {0}"
_ROWS = (
    "ROWS FROM (json_array_elements_text($3::text::json), unnest($4::bytea[]), unnest($5::text::bigint[]), "
    "unnest($6::text::bigint[]), unnest($7::text::int[]), unnest($8::text::xid[]), "
    "unnest(array_fill($1::int, ARRAY[$10::int])), unnest(array_fill($2::text, ARRAY[$10])){more}) "
    "AS d (unit, facts, seen, duration, reached, writer, series_id, track{columns})"
)
"""The whole key is of each row, so that each row is looked up by all of it, in the rows' order."""
_STANDING = _ROWS.format(more="", columns="")
_BEGUN = _ROWS.format(
    more=", unnest($13::text::bigint[])"
    + "".join(f", json_array_elements_text(${i}::text::json)" for i in range(14, 18)),
    columns=", started, group_key, user_id, session_id, job_id",
)
_WRITTEN = "SELECT CASE WHEN count(*) < $10 THEN coalesce(array_agg(unit), ARRAY[]::text[]) END FROM written"
"""NULL: all of them."""
_INSERT = (
    "WITH written AS (INSERT INTO unit_facts (series_id, track, unit, shard, facts, seen, started, duration, state, "
    "group_key, user_id, session_id, job_id, settles) "
    "SELECT series_id, track, unit, $11, facts, seen, started, duration, ($9::text[])[reached], "
    "coalesce(group_key, '[]'), user_id, session_id, job_id, started + $12 "
    f"FROM {_BEGUN} ON CONFLICT (series_id, track, unit) DO NOTHING RETURNING unit) {_WRITTEN}"
)
_UPDATE = (
    "WITH written AS (UPDATE unit_facts f SET facts = d.facts, seen = greatest(f.seen, d.seen), "
    "duration = d.duration, state = ($9::text[])[d.reached]{more} FROM {rows} "
    "WHERE f.series_id = d.series_id AND f.track = d.track AND f.unit = d.unit AND f.xmin = d.writer "
    f"RETURNING f.unit) {_WRITTEN}"
)
_ADVANCE = _UPDATE.format(more="", rows=_STANDING)
"""Of units whose start is the known one."""
_RESTART = _UPDATE.format(
    more=", shard = $11, started = d.started, settles = d.started + $12, group_key = d.group_key, "
    "user_id = d.user_id, session_id = d.session_id, job_id = d.job_id",
    rows=_BEGUN,
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
        again = standing.restarted[old]
        await connection.execute(_IN_KEY_ORDER.format("off"))
        written.append(await _write(connection, _RESTART, shard, key, news, standing, old[again]))
        written.append(await _write(connection, _ADVANCE, shard, key, news, standing, old[~again]))
        await connection.execute(_IN_KEY_ORDER.format("DEFAULT"))
    done = np.sort(np.concatenate(written))
    _move(moves, news, standing, done[standing.moved[done]])
    places = done.tolist()
    known = ManyRemembered(
        [news.units[place] for place in places],
        standing.rows(done, own),
        [standing.origins[place] for place in places],
    )
    wanted[done] = False
    return known, news.told([*left, *np.flatnonzero(wanted).tolist()])


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
    units = [news.units[place] for place in chosen.tolist()]
    columns = [
        texts(units),
        encoded(standing, chosen),
        numbers(news.seen[chosen].tolist()),
        numbers(_where((last - started) * PER_MICROSECOND, started < EVER)),
        numbers(reached.tolist()),
        numbers(news.before[chosen, len(news.track.slots)].tolist()),
        list(news.track.names),
        len(chosen),
    ]
    if statement is not _ADVANCE:
        origins = [standing.origins[place] for place in chosen.tolist()]
        columns += [shard, news.track.window, numbers(_where(started, started < EVER))]
        columns += [texts([entry[i] or None if entry else None for entry in origins]) for i in range(1, 5)]
    found = await connection.fetchval(statement, *key, *columns)
    if found is None:
        return chosen
    present = set(found)
    return chosen[[unit in present for unit in units]]


def _where(column: Integers, known: Mask) -> list[int | None]:
    listed: list[int | None] = column.tolist()
    for place in np.flatnonzero(~known).tolist():
        listed[place] = None
    return listed


def _move(moves: Moves, news: StagedNews, standing: Standing, chosen: Integers) -> None:
    before = [news.origins[place] for place in chosen.tolist()]
    after = [standing.origins[place] for place in chosen.tolist()]
    for minute, group, n, total, squares in cells(news.track, standing.stood[chosen], before):
        moves.add("stage", minute, group, -n, -total, -squares)
    for minute, group, n, total, squares in cells(news.track, standing.moments[chosen], after):
        moves.add("stage", minute, group, n, total, squares)
