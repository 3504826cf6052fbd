"""Plain flags in Postgres, published to `flags.v1`; their names are shared with experiments."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from services.assignment.copies import Copy, caught_up
from services.assignment.domain.flags import canonical, parse_flag
from shared.definitions import DefinitionStore, Outcome, Stored, check_size
from shared.kafka import Publisher
from shared.messages import Flag
from shared.postgres import Pool
from shared.topics import FLAGS


class KeyTakenError(Exception):
    """Something else has the key."""


class FlagStore:
    """`copy` is this process's copy of the topic, which knows a flag before whoever put it gets the answer.

    `published` tells which version of (organisation, key) the copy holds, 0 if none.
    """

    def __init__(self, pool: Pool, publisher: Publisher, copy: Copy, published: Callable[[str, str], int]) -> None:
        self._pool = pool
        self._copy = copy
        self._published = published
        self._store: DefinitionStore[Flag] = DefinitionStore(
            pool, publisher, topic=FLAGS, table="assignment.flags", canonical=canonical
        )

    async def start(self) -> None:
        await self._store.start()

    async def stop(self) -> None:
        await self._store.stop()

    async def put(self, organisation: str, key: str, spec: Any) -> tuple[Outcome, int]:
        """Returns what happened and the version in force.

        Raises DefinitionError, KeyTakenError, or what `RETRYABLE` lists.
        """
        parse_flag(organisation, key, 1, spec)
        check_size(spec)  # before the name is taken
        await self._take_name(organisation, key)
        stored = await self._store.put(organisation, key, spec, floor=self._published(organisation, key))
        await caught_up(self._copy)
        return stored

    async def get(self, organisation: str, key: str) -> Stored | None:
        return await self._store.get(organisation, key)

    async def all(self, organisation: str) -> Sequence[Stored]:
        """In order of their keys."""
        return await self._store.all(organisation)

    async def _take_name(self, organisation: str, key: str) -> None:
        """A name whose flag is not stored after all stays a flag's: the next attempt takes it up."""
        kind = await self._pool.fetchval(
            """
            INSERT INTO assignment.names AS n (organisation, key, kind) VALUES ($1, $2, 'flag')
            ON CONFLICT (organisation, key) DO UPDATE SET kind = n.kind RETURNING kind
            """,
            organisation,
            key,
        )
        if kind != "flag":
            raise KeyTakenError(f"the key {key!r} is taken by an {kind}; keys are never given twice")
