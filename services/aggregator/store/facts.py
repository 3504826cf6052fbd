"""Rows of units over time: one a track and unit, whichever shards its events come through. A row is its unit's lock.

    insert what is new ──► lock and read what was there ──► unite in memory ──► write what changed
    (doing nothing where     (in key order, each as its
     there is a row)          last holder left it)

Writers of several shards meet here, so rows are taken in key order, before any other table. Due deadlines come after
that and skip rows that another writer holds: they are due again the next time.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from services.aggregator.domain.deltas import Told, WindowDelta
from services.aggregator.domain.facts import Facts, decode, encode, united
from services.aggregator.domain.known import Learned, Remembered, TrackKey
from services.aggregator.domain.moves import Deadline, Moves, decode_deadline, encode_deadline, moved
from services.aggregator.domain.plan import TrackPlan, WindowSeries
from services.aggregator.domain.staged import StagedNews, remembered, staged
from services.aggregator.domain.tracks import Known, Share, Track, known
from services.aggregator.store.arrays import numbers, words
from services.aggregator.store.clocks import forgetting_clock
from services.aggregator.store.series import SeriesIds
from services.aggregator.store.staged_facts import tell_staged, transaction_of
from shared.clock import DAY
from shared.postgres import Connection

MAX_DUE = 10_000
"""Deadlines applied in one transaction; what is left is due again."""
MAX_SETTLED = 100_000
"""Rows settled by one statement."""
OUT_OF_REACH = 2 * DAY
"""How far behind the slowest shard's clock an event never counts any more: twice the grace."""

_NEVER = (-1,)
_Key = tuple[int, str, str]
"""Series id, track, unit."""


@dataclass(slots=True)
class Applied:
    """What a batch did: `windows` to add to, and `learned`, to be remembered once that is committed."""

    windows: list[WindowDelta] = field(default_factory=list)
    learned: Learned = field(default_factory=list)


def _columns(
    key: _Key,
    track: Track,
    known: Known,
    facts: Facts,
    shares: list[Share],
    *,
    shard: int,
    seen: int,
    expired: bool,
) -> tuple[Any, ...]:
    """A row as `_COLUMNS` names it; of `known`, `facts` are what is kept, `shares` where the unit counts."""
    moments = known.moments
    summary = track.summary(facts, moments, expired)
    group, user, session, job = summary.origin
    deadline = None if expired else track.deadline(moments)
    on_deadline = None
    if deadline is not None:
        then = moved(shares, track.shares(facts, moments, True))
        later = track.summary(facts, moments, True)
        on_deadline = encode_deadline(Deadline(later.state, then, later.duration))
    parts = track.parts(known.facts, moments)
    return (
        *key,
        shard,
        encode(facts),
        seen,
        summary.started,
        group,
        user or None,
        session or None,
        job or None,
        summary.state,
        summary.duration,
        deadline,
        on_deadline,
        track.settles(moments),
        None if parts is None else numbers(parts.values),
        None if parts is None else words(parts.names),
    )


_COLUMNS = (
    "series_id, track, unit, shard, facts, seen, started, group_key, user_id, session_id, job_id, state, duration, "
    "deadline, on_deadline, settles, parts, part_names"
)
_TYPES = "int text text int bytea bigint bigint text text text text text bigint bigint bytea bigint text text"
"""In the same order. Arrays come as texts: nested ones are flattened."""
_UNNEST = ", ".join(f"${i}::{kind}[]" for i, kind in enumerate(_TYPES.split(), start=1))
_ARRAYS = {"parts": "bigint[]", "part_names": "text[]"}
_VALUES = {name: f"d.{name}" + (f"::{_ARRAYS[name]}" if name in _ARRAYS else "") for name in _COLUMNS.split(", ")}
_INSERT = (
    f"INSERT INTO unit_facts ({_COLUMNS}) SELECT {', '.join(_VALUES.values())} "
    f"FROM unnest({_UNNEST}) AS d ({_COLUMNS}) "
    "ON CONFLICT (series_id, track, unit) DO NOTHING RETURNING series_id, track, unit"
)
_LOCK = (
    "SELECT f.series_id, f.track, f.unit, f.shard, f.facts, f.seen, f.expired, f.xmin::text::bigint "
    "FROM unit_facts f "
    "JOIN unnest($1::int[], $2::text[], $3::text[]) AS k (series_id, track, unit) USING (series_id, track, unit) "
    'ORDER BY f.series_id, f.track COLLATE "C", f.unit COLLATE "C" FOR NO KEY UPDATE OF f'
)
_UPDATE = (
    "UPDATE unit_facts f SET "
    + ", ".join(f"{name} = {value}" for name, value in list(_VALUES.items())[3:])
    + f" FROM unnest({_UNNEST}) AS d ({_COLUMNS}) "
    "WHERE f.series_id = d.series_id AND f.track = d.track AND f.unit = d.unit"
)
_KEEP = (
    "UPDATE unit_facts f SET facts = d.facts, seen = d.seen "
    "FROM unnest($1::int[], $2::text[], $3::text[], $4::bytea[], $5::bigint[]) "
    "AS d (series_id, track, unit, facts, seen) "
    "WHERE f.series_id = d.series_id AND f.track = d.track AND f.unit = d.unit"
)

_SETTLE = (
    "UPDATE unit_facts SET facts = NULL, parts = coalesce(parts, stage_times(facts, settles)) "
    "WHERE ctid = ANY(ARRAY(SELECT ctid FROM unit_facts WHERE settles < $1 AND facts IS NOT NULL LIMIT $2 "
    "FOR NO KEY UPDATE SKIP LOCKED))"
)


async def apply_facts(
    connection: Connection,
    shard: int,
    deltas: Sequence[tuple[TrackPlan, Mapping[str, Told]]],
    due_before: int,
    ids: SeriesIds,
    *,
    forgetting: bool = True,
) -> Applied:
    """Adds what the batch tells, then applies deadlines up to `due_before` (µs).

    `forgetting`: what is out of reach of the log's events is dropped. History still tells of it.
    """
    moves: defaultdict[WindowSeries, Moves] = defaultdict(Moves)
    applied = Applied()
    if deltas:
        gone = await forgetting_clock(connection) - OUT_OF_REACH if forgetting else 0
        own = await transaction_of(connection)
        left = await _tell_staged(connection, shard, deltas, own, moves, applied.learned, ids)
        await _tell(connection, shard, left, gone, own, moves, applied.learned, ids)
    await _expire(connection, shard, due_before, moves, ids)
    applied.windows = [delta for series, of_series in moves.items() for delta in of_series.deltas(series)]
    # Deadlines outlive the definitions that set them: this process may not have met their series.
    await ids.register_windows(connection, {delta.series for delta in applied.windows})
    return applied


async def has_due(connection: Connection, shard: int, due_before: int) -> bool:
    """Whether a deadline of this shard has passed and is not applied."""
    return bool(
        await connection.fetchval(
            "SELECT EXISTS (SELECT FROM unit_facts WHERE shard = $1 AND deadline <= $2)", shard, due_before
        )
    )


async def _tell(
    connection: Connection,
    shard: int,
    deltas: Sequence[tuple[TrackPlan, Mapping[str, Told]]],
    gone: int,
    own: int,
    moves: Mapping[WindowSeries, Moves],
    learned: Learned,
    ids: SeriesIds,
) -> None:
    plans = {(ids.window(plan.series), plan.track.name): plan for plan, _ in deltas}
    told = {
        (ids.window(plan.series), plan.track.name, unit): one for plan, units in deltas for unit, one in units.items()
    }
    changed: list[tuple[Any, ...]] = []
    waiting: list[tuple[Any, ...]] = []
    """Of units that stand where they stood: what was told may matter once more is known."""

    learnt: defaultdict[TrackKey, dict[str, Remembered]] = defaultdict(dict)

    def learn(key: _Key, plan: TrackPlan, known: Known, stored: Facts, writer: int) -> None:
        of_track = learnt[plan.series, plan.track.name]
        if staged(plan.track) is not None:
            of_track[key[2]] = remembered(stored, known.limits, writer)
        elif known.facts[0]:
            # Of a unit without a start every event counts as a sign that it is not to be forgotten.
            of_track[key[2]] = Remembered(known.limits)

    missing = sorted(key for key, one in told.items() if not one.present)
    present = sorted(told.keys() - set(missing))
    while missing or present:
        first = {key: known(plans[key[:2]].track, told[key].facts) for key in missing}
        inserted = await _insert(connection, shard, first, told, plans)
        for key in inserted:
            plan, now = plans[key[:2]], first[key]
            moves[plan.series].move((), plan.track.shares(now.facts, now.moments, False))
            learn(key, plan, now, now.facts, own)
        present = sorted({*present, *missing} - inserted)
        found = set()
        for row in await connection.fetch(_LOCK, *_transposed(present)) if present else ():
            key = row[0], row[1], row[2]
            home, raw, seen, expired, writer = row[3:]
            found.add(key)
            plan, news = plans[key[:2]], told[key]
            track = plan.track
            if raw is None:  # settled
                learnt[plan.series, track.name][key[2]] = Remembered(_NEVER * len(track.slots))
                continue
            before = decode(raw)
            now = known(track, united(before, news.facts))
            if now.facts == before and (before[0] or news.seen <= seen):
                learn(key, plan, now, before, writer)
                continue
            kept = track.forget(now.facts, now.moments, gone) if gone > 0 else now.facts
            learn(key, plan, now, kept, own)
            seen = max(seen, news.seen)
            moments = track.moments(before)
            if now.moments and moments == now.moments and before[0] == kept[0] and before[-1] == kept[-1]:
                waiting.append((*key, encode(kept), seen))
                continue
            home = home if now.facts[0] == before[0] else shard
            stood, stands = track.shares(before, moments, expired), track.shares(now.facts, now.moments, expired)
            changed.append(_columns(key, track, now, kept, stands, shard=home, seen=seen, expired=expired))
            moves[plan.series].move(stood, stands)
        # A row that was there may have been deleted before we could lock it.
        missing, present = [key for key in present if key not in found], []
    if changed:
        await connection.execute(_UPDATE, *_transposed(changed))
    if waiting:
        await connection.execute(_KEEP, *_transposed(waiting))
    learned.extend(learnt.items())


async def _tell_staged(
    connection: Connection,
    shard: int,
    deltas: Sequence[tuple[TrackPlan, Mapping[str, Told]]],
    own: int,
    moves: Mapping[WindowSeries, Moves],
    learned: Learned,
    ids: SeriesIds,
) -> list[tuple[TrackPlan, Mapping[str, Told]]]:
    """Returns what is to be told unit by unit."""
    left: list[tuple[TrackPlan, Mapping[str, Told]]] = []
    for plan, news in sorted(deltas, key=lambda d: (ids.window(d[0].series), d[0].track.name)):
        if isinstance(news, StagedNews):
            key = ids.window(plan.series), plan.track.name
            known, news = await tell_staged(connection, shard, key, news, own, moves[plan.series])
            learned.append(((plan.series, plan.track.name), known))
        if news:
            left.append((plan, news))
    return left


async def _insert(
    connection: Connection,
    shard: int,
    first: Mapping[_Key, Known],
    told: Mapping[_Key, Told],
    plans: Mapping[tuple[int, str], TrackPlan],
) -> set[_Key]:
    """Returns those of which there was no row yet."""
    if not first:
        return set()
    rows = [
        _columns(
            key,
            (track := plans[key[:2]].track),
            now,
            now.facts,
            track.shares(now.facts, now.moments, False),
            shard=shard,
            seen=told[key].seen,
            expired=False,
        )
        for key, now in first.items()
    ]
    return {(row[0], row[1], row[2]) for row in await connection.fetch(_INSERT, *_transposed(rows))}


def _transposed(rows: Sequence[tuple[Any, ...]]) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)]


async def _expire(
    connection: Connection, shard: int, due_before: int, moves: Mapping[WindowSeries, Moves], ids: SeriesIds
) -> None:
    """Two statements: the first locks and sees each row's latest state, the second marks what is locked."""
    rows = await connection.fetch(
        "SELECT f.series_id, f.track, f.unit, f.on_deadline, s.organisation, s.metric, s.version, s.component, "
        "s.scale FROM unit_facts f JOIN window_series s ON s.id = f.series_id "
        "WHERE f.shard = $1 AND f.deadline <= $2 ORDER BY f.deadline LIMIT $3 FOR NO KEY UPDATE OF f SKIP LOCKED",
        shard,
        due_before,
        MAX_DUE,
    )
    if not rows:
        return
    due = [decode_deadline(row[3]) for row in rows]
    await connection.execute(
        "UPDATE unit_facts f SET expired = true, deadline = NULL, on_deadline = NULL, state = k.state, "
        "duration = k.duration "
        "FROM unnest($1::int[], $2::text[], $3::text[], $4::text[], $5::bigint[]) "
        "AS k (series_id, track, unit, state, duration) "
        "WHERE f.series_id = k.series_id AND f.track = k.track AND f.unit = k.unit",
        [row[0] for row in rows],
        [row[1] for row in rows],
        [row[2] for row in rows],
        [then.state for then in due],
        [then.duration for then in due],
    )
    for row, then in zip(rows, due, strict=True):
        moves[WindowSeries(*row[4:])].move(*then.moved)


async def forget_without_start(connection: Connection, before: int) -> None:
    """Deletes what is known of units whose start would be too late by now: latest event before `before` (µs)."""
    await connection.execute("DELETE FROM unit_facts WHERE started IS NULL AND seen < $1", before)


async def settle(connection: Connection, before: int, *, at_once: int = MAX_SETTLED) -> None:
    """Drops the facts of units of which nothing matters that happens at `before` (µs) or later; what counts stays.

    Not within a transaction: each `at_once` rows are one, so that none of them takes longer than a statement may.
    Rows that another writer holds are left for the next time.
    """
    settled = at_once
    while settled == at_once:
        status: str = await connection.execute(_SETTLE, before, at_once)
        settled = int(status.removeprefix("UPDATE "))
