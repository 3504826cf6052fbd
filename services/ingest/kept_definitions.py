"""Kinds of definitions that ingest owns: stored in Postgres, published, and followed by every process.

    PUT ──► Postgres ──► topic ──► each process's copy ──► `learn`

Judging events needs the copy alone: Postgres may be away, at a start too.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Generic

from aiokafka.errors import KafkaError

from services.ingest.sources.following import Copy, follow
from shared.definition_error import DefinitionError
from shared.definitions import DefinitionStore, Outcome, Stored, T
from shared.kafka import Publisher, Replica
from shared.postgres import RETRYABLE, Pool
from shared.topics import Topic

logger = logging.getLogger(__name__)

_REMOVED: Mapping[str, Any] = {"removed": True}
"""Stands in place of the spec of what is no longer in force: its key's next version is higher."""
_RETRY_SECONDS = 1.0
_LONGEST_RETRY_SECONDS = 10.0

Learn = Callable[[str, str, Mapping[str, Any] | None], None]
"""Organisation, key and spec; None when it is removed."""


class KeptDefinitions(Generic[T]):
    """One kind. `table` is as `DefinitionStore` wants it; `check` (key, spec) raises DefinitionError.

    `put`, `get`, `all` and `remove` raise what `RETRYABLE` lists.
    """

    def __init__(
        self,
        pool: Pool,
        publisher: Publisher,
        kafka: str,
        *,
        topic: Topic[T],
        table: str,
        check: Callable[[str, object], object],
        learn: Learn,
    ) -> None:
        self._kafka = kafka
        self._topic: Topic[T] = topic
        self._check = check
        self._learn = learn
        self._versions: dict[tuple[str, str], int] = {}
        self._caught_up = asyncio.Event()
        self._store: DefinitionStore[T] = DefinitionStore(
            pool, publisher, topic=topic, table=table, canonical=lambda spec: spec
        )

    async def run(self) -> None:
        """Until it is cancelled."""
        try:
            async with asyncio.TaskGroup() as beside:
                beside.create_task(follow(self._new_copy), name=f"copy of {self._topic.name}")
                await patiently(f"definitions on {self._topic.name}", self._prepare)
                await self._store.start()
        finally:
            await self._store.stop()

    async def caught_up(self) -> None:
        """Waits until all that was published before `run` began has been learned."""
        await self._caught_up.wait()

    async def put(self, organisation: str, key: str, spec: object) -> tuple[Outcome, int]:
        """Raises DefinitionError."""
        self._check(key, spec)
        if not isinstance(spec, Mapping):
            raise DefinitionError("spec", "must be an object")
        stored = await self._store.get(organisation, key)
        outcome, version = await self._store.put(organisation, key, spec, floor=self._floor(organisation, key))
        return (Outcome.CREATED if stored is not None and _is_removed(stored.spec) else outcome), version

    async def get(self, organisation: str, key: str) -> Stored | None:
        stored = await self._store.get(organisation, key)
        return None if stored is None or _is_removed(stored.spec) else stored

    async def all(self, organisation: str) -> Sequence[Stored]:
        """In order of their keys."""
        return [stored for stored in await self._store.all(organisation) if not _is_removed(stored.spec)]

    async def remove(self, organisation: str, key: str) -> bool:
        """Whether it was there. Its key can be used again."""
        if await self.get(organisation, key) is None:
            return False
        await self._store.put(organisation, key, _REMOVED, floor=self._floor(organisation, key))
        return True

    def _floor(self, organisation: str, key: str) -> int:
        """The version that every copy has: a Postgres made anew may not have been given it back yet."""
        return self._versions.get((organisation, key), 0)

    async def _prepare(self) -> None:
        await self._store.restore(self._kafka, self._check_stored)

    def _check_stored(self, organisation: str, key: str, version: int, spec: Any) -> None:
        """Raises DefinitionError."""
        if not _is_removed(spec):
            self._check(key, spec)

    def _new_copy(self) -> Copy:
        return SignallingCopy(Replica(self._kafka, self._topic, self._heard), self._caught_up)

    def _heard(self, message: T) -> None:
        name = message.organisation, message.key
        if message.version > self._versions.get(name, 0):
            self._versions[name] = message.version
            self._learn(*name, None if _is_removed(message.spec) else message.spec)


class SignallingCopy:
    """A copy that says when it has caught up first."""

    def __init__(self, copy: Copy, caught_up: asyncio.Event) -> None:
        self._copy = copy
        self._caught_up = caught_up

    @property
    def failure(self) -> BaseException | None:
        return self._copy.failure

    async def start(self) -> None:
        await self._copy.start()
        self._caught_up.set()

    async def stop(self) -> None:
        await self._copy.stop()


async def patiently(what: str, prepare: Callable[[], Awaitable[object]]) -> None:
    """Until it has worked, however long that takes."""
    pause = _RETRY_SECONDS
    while True:
        try:
            await prepare()
            return
        except (KafkaError, *RETRYABLE) as error:
            logger.warning("%s wait for Kafka or Postgres", what, extra={"error": repr(error)})
        except Exception:  # the tables may not be there yet
            logger.exception("%s cannot be prepared", what)
        await asyncio.sleep(pause)
        pause = min(2 * pause, _LONGEST_RETRY_SECONDS)


def _is_removed(spec: Mapping[str, Any]) -> bool:
    return spec.get("removed") is True
