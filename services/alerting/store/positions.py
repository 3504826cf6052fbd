"""How far each topic partition is decided on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from shared.postgres import Connection, Pool


class Place(NamedTuple):
    topic: str
    partition: int


@dataclass(frozen=True, slots=True)
class Reached:
    """Records below `next_offset` are decided; `clock` (µs) is what the time was then."""

    next_offset: int = 0
    clock: int = 0


async def load_positions(pool: Pool, generation: str) -> dict[Place, Reached]:
    """Those of this generation; others tell nothing of these logs."""
    rows = await pool.fetch(
        "SELECT topic, partition, next_offset, clock FROM alerting.positions WHERE generation = $1", generation
    )
    return {Place(r["topic"], r["partition"]): Reached(r["next_offset"], r["clock"]) for r in rows}


async def forget_other_generations(pool: Pool, generation: str) -> bool:
    """After Kafka was replaced its offsets begin anew. Returns whether there was anything to forget."""
    async with pool.acquire() as connection, connection.transaction():
        gone: str = await connection.execute("DELETE FROM alerting.positions WHERE generation <> $1", generation)
        if gone == "DELETE 0":
            return False
        await connection.execute("UPDATE alerting.states SET decided_to = 0")
    return True


async def save_positions(
    connection: Connection | Pool, generation: str, positions: Iterable[tuple[Place, Reached]]
) -> None:
    """Never moves one back: of two processes the one that is further counts."""
    await connection.executemany(
        "INSERT INTO alerting.positions AS p (topic, partition, generation, next_offset, clock) "
        "VALUES ($1, $2, $3, $4, $5) ON CONFLICT (topic, partition) DO UPDATE SET generation = excluded.generation, "
        "next_offset = greatest(p.next_offset, excluded.next_offset), clock = greatest(p.clock, excluded.clock) "
        "WHERE p.generation = excluded.generation",
        sorted((p.topic, p.partition, generation, r.next_offset, r.clock) for p, r in positions),
    )


async def forget_positions(pool: Pool) -> None:
    """After the topics were emptied."""
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute("DELETE FROM alerting.positions")
        await connection.execute("UPDATE alerting.states SET decided_to = 0")
