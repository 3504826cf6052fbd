"""Rules and breakers: checked, stored with a version, published to their topics."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, Literal, TypeVar

from services.alerting.domain.breaker import parse_breaker
from services.alerting.domain.rule import parse_rule
from services.alerting.domain.spec import canonical
from shared import topics
from shared.definitions import DefinitionStore, Outcome, Stored
from shared.kafka import Publisher
from shared.messages import Breaker, Rule
from shared.postgres import Pool

T = TypeVar("T", Rule, Breaker)


class Definitions(Generic[T]):
    """One kind of definition. Methods raise what `RETRYABLE` lists."""

    def __init__(
        self,
        kind: Literal["rule", "breaker"],
        check: Callable[[str, str, int, object], object],
        store: DefinitionStore[T],
    ) -> None:
        self.kind = kind
        self._check = check
        self._store: DefinitionStore[T] = store

    async def start(self) -> None:
        await self._store.start()

    async def stop(self) -> None:
        await self._store.stop()

    async def put(self, organisation: str, key: str, spec: Any) -> tuple[Outcome, int]:
        """Returns what happened and the version in force. Raises DefinitionError."""
        self._check(organisation, key, 1, spec)
        return await self._store.put(organisation, key, spec)

    async def get(self, organisation: str, key: str) -> Stored | None:
        return await self._store.get(organisation, key)

    async def all(self, organisation: str) -> list[Stored]:
        return await self._store.all(organisation)


def rule_definitions(pool: Pool, publisher: Publisher) -> Definitions[Rule]:
    store: DefinitionStore[Rule] = DefinitionStore(
        pool, publisher, topic=topics.RULES, table="alerting.rules", canonical=canonical
    )
    return Definitions("rule", parse_rule, store)


def breaker_definitions(pool: Pool, publisher: Publisher) -> Definitions[Breaker]:
    store: DefinitionStore[Breaker] = DefinitionStore(
        pool, publisher, topic=topics.BREAKERS, table="alerting.breakers", canonical=canonical
    )
    return Definitions("breaker", parse_breaker, store)
