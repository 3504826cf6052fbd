"""The table of first answers: written behind through a bounded buffer, read only where a bucket is ambiguous.

All wishes of the moment share one exchange with Postgres: one INSERT of what is new, one SELECT of what was asked.
The first row of a unit stays, whichever process wrote it, so processes that race for a unit agree on the winner.
While Postgres is away, look-ups fail at once (the caller has an answer for that) and rows wait in the buffer.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import orjson
from prometheus_client import CollectorRegistry, Counter, Gauge

from shared.clock import from_datetime, to_datetime
from shared.postgres import RETRYABLE, Pool

logger = logging.getLogger(__name__)

_BATCH = 1_000
_RETRY_SECONDS = 0.5


class UnreadableError(Exception):
    """The table cannot be read now."""


@dataclass(frozen=True, slots=True)
class Row:
    """A unit's first answer. `consistency_key` is the text that was hashed, `version` the definition's."""

    experiment_id: int
    unit: str
    variant_id: int
    version: int
    stratum: str | None
    context: Mapping[str, Any]
    consistency_key: str
    assigned_at: int


class Standing(NamedTuple):
    """What a unit first got, and when (µs)."""

    variant_id: int
    assigned_at: int


@dataclass(slots=True)
class _Wish:
    experiment_id: int
    unit: str
    row: Row | None
    asks: bool
    """Wants to know what stands."""
    lasting: bool
    """Is kept until it is written; others fail when Postgres does not answer."""
    answer: asyncio.Future[Standing | None] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )


class Assignments:
    """`run()` must be running for anything to be written or found."""

    def __init__(self, pool: Pool, registry: CollectorRegistry, *, capacity: int = 100_000) -> None:
        self._pool = pool
        self._capacity = capacity
        self._wishes: deque[_Wish] = deque()
        self._awake = asyncio.Event()
        self._reachable = True
        self._lost = Counter(
            "tidegate_assignment_rows_lost_total",
            "First answers not written down because the buffer was full",
            registry=registry,
        )
        Gauge(
            "tidegate_assignment_rows_waiting", "First answers and look-ups waiting for Postgres", registry=registry
        ).set_function(lambda: len(self._wishes))
        Gauge(
            "tidegate_assignment_store_reachable", "1 while the table of assignments answers", registry=registry
        ).set_function(lambda: self._reachable)

    @property
    def reachable(self) -> bool:
        return self._reachable

    def record(self, row: Row, *, asks: bool = False) -> asyncio.Future[Standing | None] | None:
        """Writes the row behind the caller's back, now or when Postgres is back; None if there is no room.

        The future is done when it is written; its result is what stands if the caller `asks`.
        """
        if len(self._wishes) >= self._capacity:
            self._lost.inc()
            return None
        return self._submit(_Wish(row.experiment_id, row.unit, row, asks=asks, lasting=True)).answer

    async def claim(self, row: Row, *, deadline: float = 0.25) -> int:
        """Writes the row unless the unit has one; the variant id that stands. Raises UnreadableError."""
        found = await self._ask(_Wish(row.experiment_id, row.unit, row, asks=True, lasting=False), deadline)
        if found is None:
            raise UnreadableError("a row that was just written is gone")
        return found.variant_id

    async def find(self, experiment_id: int, unit: str, *, deadline: float = 0.25) -> int | None:
        """The unit's variant id, None if it has none. Raises UnreadableError."""
        found = await self.standing(experiment_id, unit, deadline=deadline)
        return None if found is None else found.variant_id

    async def standing(self, experiment_id: int, unit: str, *, deadline: float = 0.25) -> Standing | None:
        """What the unit first got, None if nothing. Raises UnreadableError."""
        return await self._ask(_Wish(experiment_id, unit, None, asks=True, lasting=False), deadline)

    async def run(self) -> None:
        """Serves wishes until cancelled. Faults that will not go away by themselves are raised."""
        while True:
            if not self._wishes and self._reachable:
                self._awake.clear()
                await self._awake.wait()
            batch = self._next_batch()
            try:
                stored = await self._exchange(batch)
            except RETRYABLE as error:
                self._give_back(batch, error)
                await asyncio.sleep(_RETRY_SECONDS)
                continue
            if not self._reachable:
                logger.info("the table of assignments answers again")
                self._reachable = True
            for wish in batch:
                if not wish.answer.done():
                    wish.answer.set_result(stored.get((wish.experiment_id, wish.unit)))

    async def drain(self, *, seconds: float = 5) -> None:
        """Waits until the buffer is written, at most so long."""
        waiting = [w.answer for w in self._wishes]
        if waiting and self._reachable:
            await asyncio.wait(waiting, timeout=seconds)

    def _submit(self, wish: _Wish) -> _Wish:
        self._wishes.append(wish)
        self._awake.set()
        return wish

    async def _ask(self, wish: _Wish, deadline: float) -> Standing | None:
        if not self._reachable or len(self._wishes) >= self._capacity:
            raise UnreadableError("Postgres does not answer")
        try:
            async with asyncio.timeout(deadline):
                return await self._submit(wish).answer
        except TimeoutError:
            raise UnreadableError(f"no answer from Postgres within {deadline:g} s") from None

    def _next_batch(self) -> list[_Wish]:
        """Without look-ups that nobody waits for any more."""
        batch: list[_Wish] = []
        while self._wishes and len(batch) < _BATCH:
            wish = self._wishes.popleft()
            if not wish.answer.cancelled():
                batch.append(wish)
        return batch

    def _give_back(self, batch: Sequence[_Wish], error: Exception) -> None:
        if self._reachable:
            logger.warning("the table of assignments does not answer", extra={"error": repr(error)})
            self._reachable = False
        wishes = [*batch, *self._wishes]
        self._wishes = deque(w for w in wishes if w.lasting)
        for wish in wishes:
            if not wish.lasting and not wish.answer.done():
                wish.answer.set_exception(UnreadableError("Postgres does not answer"))

    async def _exchange(self, batch: Sequence[_Wish]) -> dict[tuple[int, str], Standing]:
        # In key order: two processes that insert the same units then cannot deadlock.
        rows = sorted((w.row for w in batch if w.row is not None), key=lambda r: (r.experiment_id, r.unit))
        asked = [(w.experiment_id, w.unit) for w in batch if w.asks]
        async with self._pool.acquire() as connection:
            if rows:
                await connection.execute(_INSERT, *map(list, zip(*map(_columns, rows), strict=True)))
            if asked or not rows:
                found = await connection.fetch(_SELECT, [e for e, _ in asked], [u for _, u in asked])
                return {
                    (r["experiment_id"], r["unit"]): Standing(r["variant_id"], from_datetime(r["assigned_at"]))
                    for r in found
                }
        return {}


def _columns(row: Row) -> tuple[Any, ...]:
    return (
        row.experiment_id,
        row.unit,
        row.variant_id,
        row.version,
        row.stratum,
        orjson.dumps(row.context).decode(),
        row.consistency_key,
        to_datetime(row.assigned_at),
    )


_INSERT = """
INSERT INTO assignment.assignments
    (experiment_id, unit, variant_id, version, stratum, context, consistency_key, assigned_at)
SELECT e, u, v, n, s, c::jsonb, k, t
FROM unnest($1::bigint[], $2::text[], $3::bigint[], $4::int[], $5::text[], $6::text[], $7::text[], $8::timestamptz[])
    AS new(e, u, v, n, s, c, k, t)
ON CONFLICT (experiment_id, unit) DO NOTHING
"""

# A statement of its own: it sees rows that another process committed while the INSERT waited for them.
_SELECT = """
SELECT experiment_id, unit, variant_id, assigned_at
FROM assignment.assignments JOIN unnest($1::bigint[], $2::text[]) AS asked(experiment_id, unit)
    USING (experiment_id, unit)
"""
