"""Window rows: minutes as batches bring them, rolled up five at a time once they are closed.

    rolled_through ─┐               watermark ─┐
    … 11:58  11:59  │ 12:00  …  12:04  12:05   │
      minute + rolls│     minute rows only     │ 12:00 to 12:04 are rolled by the batch that moves it past 12:06

The minute in between lets events that are a little out of order find their minute not yet rolled.
Invariant: for every width, the rolls of a shard hold exactly its minutes before `rolled_through`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace

from services.aggregator.domain.deltas import WindowDelta
from services.aggregator.domain.plan import WindowSeries
from services.aggregator.domain.states import AnyState, decode, merged
from services.aggregator.store.arrays import numbers, texts
from services.aggregator.store.series import SeriesIds
from shared.clock import MINUTE, SECOND, to_datetime
from shared.postgres import Connection

ROLL_WIDTHS = (300, 900, 3_600, 86_400)
"""Seconds; minutes themselves are not rolled."""
_ROLL_STEP = ROLL_WIDTHS[0] * SECOND
_ROLL_DELAY = MINUTE


def closed_through(watermark: int) -> int:
    """Before which time (µs) minutes are rolled once the shard's watermark is here: a multiple of five minutes."""
    settled = watermark - _ROLL_DELAY
    return max(0, settled - settled % _ROLL_STEP)


@dataclass(frozen=True, slots=True)
class WindowState:
    """A minute row after a batch."""

    series: WindowSeries
    minute: int
    group: str
    n: int
    sum: int
    sum_squares: int
    min: int | None
    max: int | None
    sketch: bytes


@dataclass(slots=True)
class _Cell:
    """What to add to one row."""

    n: int
    sum: int
    sum_squares: int
    min: int | None
    max: int | None
    state: AnyState | None

    @property
    def may_have_state(self) -> bool:
        """Whether its row may hold one: what moves within a bucket, or came and went, has none left itself."""
        return self.state is not None or not self.n

    def add(self, other: _Cell) -> None:
        self.n += other.n
        self.sum += other.sum
        self.sum_squares += other.sum_squares
        self.min = _least(self.min, other.min)
        self.max = _greatest(self.max, other.max)
        # What others hold is theirs: a state is merged in place.
        self.state = deepcopy(other.state) if self.state is None else merged(self.state, other.state)


_RollKey = tuple[int, int, int, str]
"""Series id, width in seconds, start in µs, group."""


async def apply_windows(
    connection: Connection, shard: int, revision: int, deltas: Sequence[WindowDelta], ids: SeriesIds
) -> list[WindowState]:
    """Adds the deltas to their minutes and returns the rows as they then are."""
    if not deltas:
        return []
    cells = {(ids.window(d.series), d.minute, d.group): _cell(d) for d in deltas}
    series_of = {ids.window(d.series): d.series for d in deltas}
    keys = sorted(cells)
    await _merge_stored_states(
        connection,
        "SELECT m.series_id, m.minute, m.group_key, m.sketch FROM window_minutes m "
        "JOIN unnest($2::int[], $3::timestamptz[], $4::text[]) AS k (series_id, minute, group_key) "
        "USING (series_id, minute, group_key) WHERE m.shard = $1",
        shard,
        {(s, to_datetime(start), g): cells[s, start, g] for s, start, g in keys if cells[s, start, g].may_have_state},
    )
    rows = await connection.fetch(
        """
        INSERT INTO window_minutes AS w
            (series_id, shard, minute, group_key, n, sum, sum_squares, min, max, sketch, revision)
        SELECT series_id, $1, minute, group_key, n, sum, sum_squares, min, max, sketch, $2
        FROM ROWS FROM (
                unnest($3::text::int[]), unnest($4::timestamptz[]), json_array_elements_text($5::text::json),
                unnest($6::text::bigint[]), unnest($7::text::numeric[]), unnest($8::text::numeric[]),
                unnest($9::text::bigint[]), unnest($10::text::bigint[]), unnest($11::bytea[]))
            AS d (series_id, minute, group_key, n, sum, sum_squares, min, max, sketch)
        ON CONFLICT (series_id, minute, shard, group_key) DO UPDATE SET
            n = w.n + excluded.n, sum = w.sum + excluded.sum,
            sum_squares = w.sum_squares + excluded.sum_squares,
            min = least(w.min, excluded.min), max = greatest(w.max, excluded.max),
            sketch = excluded.sketch, revision = excluded.revision
        RETURNING series_id, (extract(epoch FROM minute) * 1000000)::bigint, group_key,
                  n, sum, sum_squares, min, max, sketch
        """,
        shard,
        revision,
        numbers(k[0] for k in keys),
        [to_datetime(k[1]) for k in keys],
        texts([k[2] for k in keys]),
        *_columns([cells[k] for k in keys]),
    )
    return [
        WindowState(series_of[s], minute, group, n, int(total), int(squares), low, high, raw)
        for s, minute, group, n, total, squares, low, high, raw in rows
    ]


async def amend_rolls(
    connection: Connection, shard: int, deltas: Iterable[WindowDelta], rolled_through: int, ids: SeriesIds
) -> None:
    """Adds to rolls what came for minutes that were rolled before this batch."""
    late = [(ids.window(d.series), d.minute, d.group, _cell(d)) for d in deltas if d.minute < rolled_through]
    await _add_to_rolls(connection, shard, late)


async def roll_up(connection: Connection, shard: int, rolled_through: int, new_rolled_through: int) -> None:
    """Rolls the shard's minutes in [rolled_through, new_rolled_through), this batch's share included.

    Of all series, also of definitions that are no longer in force.
    """
    rows = await connection.fetch(
        "SELECT series_id, (extract(epoch FROM minute) * 1000000)::bigint, group_key, "
        "n, sum, sum_squares, min, max, sketch FROM window_minutes "
        "WHERE series_id = ANY(ARRAY(SELECT id FROM window_series)) AND shard = $1 AND minute >= $2 AND minute < $3",
        shard,
        to_datetime(rolled_through),
        to_datetime(new_rolled_through),
    )
    await _add_to_rolls(
        connection,
        shard,
        [
            (s, minute, group, _Cell(n, int(total), int(squares), low, high, decode(raw)))
            for s, minute, group, n, total, squares, low, high, raw in rows
        ],
    )


async def _add_to_rolls(connection: Connection, shard: int, minutes: Sequence[tuple[int, int, str, _Cell]]) -> None:
    if not minutes:
        return
    cells: dict[_RollKey, _Cell] = {}
    narrower = list(minutes)
    for width in ROLL_WIDTHS:  # each is a multiple of the one before
        of_width: dict[tuple[int, int, str], _Cell] = {}
        for series_id, begin, group, cell in narrower:
            key = (series_id, begin - begin % (width * SECOND), group)
            if key in of_width:
                of_width[key].add(cell)
            else:
                of_width[key] = replace(cell, state=deepcopy(cell.state))
        cells |= {(series_id, width, start, group): cell for (series_id, start, group), cell in of_width.items()}
        narrower = [(*key, cell) for key, cell in of_width.items()]
    keys = sorted(cells)
    await _merge_stored_states(
        connection,
        "SELECT r.series_id, r.width, r.start, r.group_key, r.sketch FROM window_rolls r "
        "JOIN unnest($2::int[], $3::int[], $4::timestamptz[], $5::text[]) AS k (series_id, width, start, group_key) "
        "USING (series_id, width, start, group_key) WHERE r.shard = $1",
        shard,
        {(k[0], k[1], to_datetime(k[2]), k[3]): cells[k] for k in keys if cells[k].may_have_state},
    )
    await connection.execute(
        """
        INSERT INTO window_rolls AS w
            (series_id, shard, width, start, group_key, n, sum, sum_squares, min, max, sketch)
        SELECT series_id, $1, width, start, group_key, n, sum, sum_squares, min, max, sketch
        FROM ROWS FROM (
                unnest($2::text::int[]), unnest($3::text::int[]), unnest($4::timestamptz[]),
                json_array_elements_text($5::text::json), unnest($6::text::bigint[]), unnest($7::text::numeric[]),
                unnest($8::text::numeric[]), unnest($9::text::bigint[]), unnest($10::text::bigint[]),
                unnest($11::bytea[]))
            AS d (series_id, width, start, group_key, n, sum, sum_squares, min, max, sketch)
        ON CONFLICT (series_id, width, start, shard, group_key) DO UPDATE SET
            n = w.n + excluded.n, sum = w.sum + excluded.sum,
            sum_squares = w.sum_squares + excluded.sum_squares,
            min = least(w.min, excluded.min), max = greatest(w.max, excluded.max), sketch = excluded.sketch
        """,
        shard,
        numbers(k[0] for k in keys),
        numbers(k[1] for k in keys),
        [to_datetime(k[2]) for k in keys],
        texts([k[3] for k in keys]),
        *_columns([cells[k] for k in keys]),
    )


async def _merge_stored_states(
    connection: Connection, query: str, shard: int, cells: dict[tuple[object, ...], _Cell]
) -> None:
    """Adds to each cell's state what its row already holds: rows have one writer, who holds the shard's lock."""
    if not cells:
        return
    keys = list(cells)
    for *key, raw in await connection.fetch(query, shard, *(list(column) for column in zip(*keys, strict=True))):
        cell = cells[tuple(key)]
        cell.state = merged(cell.state, decode(raw))


def _cell(delta: WindowDelta) -> _Cell:
    return _Cell(delta.n, delta.sum, delta.sum_squares, delta.min, delta.max, deepcopy(delta.state))


def _columns(cells: Sequence[_Cell]) -> tuple[object, ...]:
    return (
        numbers(c.n for c in cells),
        numbers(c.sum for c in cells),
        numbers(c.sum_squares for c in cells),
        numbers(c.min for c in cells),
        numbers(c.max for c in cells),
        [c.state.encode() if c.state else b"" for c in cells],
    )


def _least(a: int | None, b: int | None) -> int | None:
    return b if a is None else a if b is None else min(a, b)


def _greatest(a: int | None, b: int | None) -> int | None:
    return b if a is None else a if b is None else max(a, b)
