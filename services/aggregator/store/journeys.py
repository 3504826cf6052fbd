"""Journey rows: one a unit, whichever shards its events come through. A row is the lock under which its unit moves.

Writers of several shards meet here, so rows are taken in key order, before any other table. Due deadlines come after
that and skip rows that another writer holds: they are due again the next time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from services.aggregator.domain.deltas import WindowDelta
from services.aggregator.domain.kinds.journey import Facts
from services.aggregator.domain.moves import Moves
from services.aggregator.domain.plan import JourneyPlan, WindowSeries
from services.aggregator.store.series import SeriesIds
from shared.postgres import Connection

MAX_DUE = 10_000
"""Deadlines applied in one transaction; what is left is due again."""

_FACTS = "started, group_key, completed, navigated, died, steps, expired"


async def apply_journeys(
    connection: Connection,
    shard: int,
    deltas: Sequence[tuple[JourneyPlan, Mapping[str, Facts]]],
    due_before: int,
    ids: SeriesIds,
) -> list[WindowDelta]:
    """Adds what the batch tells, then applies deadlines up to `due_before` (µs).

    Returns what that moves between windows.
    """
    moves = Moves()
    if deltas:
        await _tell(connection, shard, deltas, moves, ids)
    await _expire(connection, shard, due_before, moves, ids)
    return moves.deltas()


async def has_due(connection: Connection, shard: int, due_before: int) -> bool:
    """Whether a deadline of this shard has passed and is not applied."""
    return bool(
        await connection.fetchval(
            "SELECT EXISTS (SELECT FROM journeys WHERE shard = $1 AND deadline <= $2 "
            "AND NOT expired AND completed IS NULL)",
            shard,
            due_before,
        )
    )


async def _tell(
    connection: Connection,
    shard: int,
    deltas: Sequence[tuple[JourneyPlan, Mapping[str, Facts]]],
    moves: Moves,
    ids: SeriesIds,
) -> None:
    """The statement merges as `domain.journeys.merged` does. Rows that learn nothing are locked, not rewritten."""
    plans = {ids.window(plan.outcomes): plan for plan, _ in deltas}
    told = sorted(
        (ids.window(plan.outcomes), unit, facts, plan.journey.timeout)
        for plan, units in deltas
        for unit, facts in units.items()
    )
    rows = await connection.fetch(
        """
        INSERT INTO journeys AS j
            (series_id, unit, shard, started, group_key, deadline, completed, navigated, died, steps, seen)
        SELECT series_id, unit, $1, started, group_key, started + timeout, completed, navigated, died, steps, seen
        FROM unnest($2::int[], $3::text[], $4::bigint[], $5::text[], $6::bigint[], $7::bigint[], $8::bigint[],
                    $9::bigint[], $10::int[], $11::bigint[])
            AS d (series_id, unit, started, group_key, timeout, completed, navigated, died, steps, seen)
        ON CONFLICT (series_id, unit) DO UPDATE SET
            (started, deadline, group_key, shard) = (
                SELECT * FROM (VALUES (excluded.started, excluded.deadline, excluded.group_key, excluded.shard),
                                      (j.started, j.deadline, j.group_key, j.shard))
                    AS known (started, deadline, group_key, shard)
                ORDER BY started NULLS LAST, group_key COLLATE "C", shard <> j.shard LIMIT 1),
            completed = least(j.completed, excluded.completed),
            navigated = least(j.navigated, excluded.navigated),
            died = least(j.died, excluded.died),
            steps = j.steps | excluded.steps,
            seen = greatest(j.seen, excluded.seen)
        WHERE (excluded.started IS NOT NULL AND (j.started IS NULL OR
                  (excluded.started, excluded.group_key COLLATE "C") < (j.started, j.group_key COLLATE "C")))
           OR (j.completed, j.navigated, j.died, j.steps) IS DISTINCT FROM
              (least(j.completed, excluded.completed), least(j.navigated, excluded.navigated),
               least(j.died, excluded.died), j.steps | excluded.steps)
           OR (j.started IS NULL AND excluded.seen > j.seen)
        RETURNING new.series_id,
            old.started, coalesce(old.group_key, '[]'), old.completed, old.navigated, old.died,
            coalesce(old.steps, 0), coalesce(old.expired, false),
            new.started, new.group_key, new.completed, new.navigated, new.died, new.steps, new.expired
        """,
        shard,
        [t[0] for t in told],
        [t[1] for t in told],
        [t[2].started for t in told],
        [t[2].group for t in told],
        [t[3] for t in told],
        [t[2].completed for t in told],
        [t[2].navigated for t in told],
        [t[2].died for t in told],
        [t[2].steps for t in told],
        [t[2].seen for t in told],
    )
    for series_id, *values in rows:
        plan, before, after = plans[series_id], Facts(*values[:7]), Facts(*values[7:])
        moves.move(plan.outcomes, before, after)
        if plan.steps is not None:
            moves.step(plan.steps, tuple(s.name for s in plan.journey.steps), before, after)


async def _expire(connection: Connection, shard: int, due_before: int, moves: Moves, ids: SeriesIds) -> None:
    """Two statements: the first locks and sees each row's latest state, the second marks what is locked."""
    rows = await connection.fetch(
        f"SELECT j.series_id, j.unit, {_FACTS}, s.organisation, s.metric, s.version, s.component, s.scale "
        "FROM journeys j JOIN window_series s ON s.id = j.series_id "
        "WHERE j.shard = $1 AND j.deadline <= $2 AND NOT j.expired AND j.completed IS NULL "
        "ORDER BY j.deadline LIMIT $3 FOR UPDATE OF j SKIP LOCKED",
        shard,
        due_before,
        MAX_DUE,
    )
    if not rows:
        return
    await connection.execute(
        "UPDATE journeys j SET expired = true FROM unnest($1::int[], $2::text[]) AS k (series_id, unit) "
        "WHERE j.series_id = k.series_id AND j.unit = k.unit",
        [row[0] for row in rows],
        [row[1] for row in rows],
    )
    for row in rows:
        before = Facts(*row[2:9])
        moves.move(WindowSeries(*row[9:]), before, replace(before, expired=True))
    # Deadlines outlive the definitions that set them: this process may not have met their series.
    await ids.register_windows(connection, {WindowSeries(*row[9:]) for row in rows})


async def forget_without_start(connection: Connection, before: int) -> None:
    """Deletes what is known of units whose start would be too late by now: latest event before `before` (µs)."""
    await connection.execute("DELETE FROM journeys WHERE started IS NULL AND seen < $1", before)
