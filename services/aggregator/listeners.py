"""Which metrics somebody listens to: those that a rule or a breaker names, and all of who has neither yet."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from shared import topics
from shared.clock import Clock
from shared.kafka import Replica
from shared.messages import Breaker, Rule

Named = tuple[str, str]
"""Organisation and metric."""


class Listeners:
    """Copies of the rules and breakers, of which only the spec's `metric` is read."""

    def __init__(self) -> None:
        self._listening: dict[tuple[str, str, str], tuple[int, str]] = {}
        """(Kind, organisation, key) → version and metric."""
        self._organisations: set[str] = set()
        self._named: dict[Named, int] = {}
        """How many rules and breakers name it."""
        self._begun: list[Named] = []
        self.replicas: tuple[Replica[Any], ...] = ()

    async def start(self, kafka: str, clock: Clock) -> None:
        """Returns when the rules and breakers of the moment are known; keeps up in the background."""
        self.replicas = (
            Replica(kafka, topics.RULES, lambda rule: self.learn("rule", rule), clock=clock),
            Replica(kafka, topics.BREAKERS, lambda breaker: self.learn("breaker", breaker), clock=clock),
        )
        for replica in self.replicas:
            await replica.start()

    async def stop(self) -> None:
        await asyncio.gather(*(replica.stop() for replica in self.replicas))

    def waiting_for(self) -> str | None:
        """None while the copies are kept, else what /readyz should say."""
        return next((why for replica in self.replicas if (why := replica.waiting_for())), None)

    def learn(self, kind: str, message: Rule | Breaker) -> None:
        """One whose spec names no metric listens to nothing, but makes its organisation one that has some."""
        place = (kind, message.organisation, message.key)
        version, before = self._listening.get(place, (0, ""))
        if message.version <= version:
            return
        metric = message.spec.get("metric")
        now = metric if isinstance(metric, str) else ""
        self._listening[place] = message.version, now
        self._organisations.add(message.organisation)
        if now == before:
            return
        if before:
            self._named[message.organisation, before] -= 1
        if now:
            named = (message.organisation, now)
            if not self._named.get(named):
                self._begun.append(named)
            self._named[named] = self._named.get(named, 0) + 1

    def hears_metric(self, organisation: str, metric: str) -> bool:
        return organisation not in self._organisations or self._named.get((organisation, metric), 0) > 0

    def hears_everything(self, organisation: str) -> bool:
        return organisation not in self._organisations

    def begun_since(self, place: int) -> tuple[Sequence[Named], int]:
        """What began to be listened to since `place` (0: the beginning), and the place to ask from next."""
        new = {named: None for named in self._begun[place:] if self._named.get(named)}
        return list(new), len(self._begun)
