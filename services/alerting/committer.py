"""Stores changes, patiently, and sends what follows from them on its way."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol, TypeVar

from services.alerting.domain.change import Change, StateKey
from services.alerting.metrics import AlertingMetrics
from services.alerting.outbox import Outbox, outgoing_alert, outgoing_switch, switch_id
from services.alerting.store.positions import Place, Reached
from services.alerting.store.states import ConflictError, Standing, StateRow, StateStore
from shared.clock import SECOND, Clock
from shared.kafka import partition_of
from shared.messages import Alert, Switch
from shared.postgres import RETRYABLE
from shared.topics import METRIC_UPDATES

logger = logging.getLogger(__name__)

T = TypeVar("T")

_RETRY_SECONDS = 0.2


class Wakes(Protocol):
    """Whoever delivers notifications."""

    def wake(self) -> None: ...


class Progress:
    """Where we stand in every topic partition, and what the time was there."""

    def __init__(self) -> None:
        self.generation: str | None = None
        """None before Kafka was first seen: then there is nothing to stand in."""
        self._reached: dict[Place, Reached] = {}
        self._saved: dict[Place, Reached] = {}

    def begin(self, generation: str, stored: Mapping[Place, Reached]) -> None:
        self.generation = generation
        self._reached = dict(stored)
        self._saved = dict(stored)

    def __getitem__(self, place: Place) -> Reached:
        return self._reached.get(place, Reached())

    def move(self, place: Place, next_offset: int, clock: int) -> None:
        self._reached[place] = Reached(next_offset, clock)

    def unsaved(self) -> list[tuple[Place, Reached]]:
        return [(place, reached) for place, reached in self._reached.items() if self._saved.get(place) != reached]

    def saved(self, positions: list[tuple[Place, Reached]]) -> None:
        self._saved.update(positions)


def place_of(organisation: str, metric: str) -> Place:
    """Where the updates of a metric are: all in one partition."""
    return Place(METRIC_UPDATES.name, partition_of(f"{organisation}/{metric}", METRIC_UPDATES.partitions))


class Committer:
    """One transaction per change; waits for Postgres as long as it takes, and never stores a change twice."""

    def __init__(
        self,
        store: StateStore,
        progress: Progress,
        *,
        switches: Outbox[Switch],
        alerts: Outbox[Alert],
        delivery: Wakes,
        metrics: AlertingMetrics,
        clock: Clock,
    ) -> None:
        self.store = store
        self.progress = progress
        self._switches = switches
        self._alerts = alerts
        self._delivery = delivery
        self._metrics = metrics
        self._clock = clock

    async def commit(
        self, change: Change, version: int, decided_to: int, definition: Mapping[str, Any]
    ) -> int | None:
        """Stores a change that was decided on `version`. The new version; None if the state has moved: reload it."""
        positions = self.progress.unsaved()
        standing = Standing(version, definition, decided_to, self.progress.generation, positions)
        began = self._clock()
        try:
            committed = await self.patiently(lambda: self.store.commit(change, standing, self._clock()))
        except ConflictError:
            self._metrics.conflicts.inc()
            self._delivery.wake()
            return None
        self.progress.saved(positions)
        if committed.switch is not None:
            self._switches.offer(outgoing_switch(committed.switch))
        if committed.alert is not None:
            self._alerts.offer(outgoing_alert(committed.alert))
            self._delivery.wake()
        self._metrics.commit_seconds.observe((self._clock() - began) / SECOND)
        if change.transition is not None:
            self._note(change)
        return committed.version

    def hear(self, switch: Switch, *, by_hand: bool) -> None:
        """A record on `switches.v1`. A person's word stands; of ours, the last one must be the one in force."""
        self._switches.hear(switch_id(switch), None if by_hand else switch)

    async def load(self, key: StateKey) -> StateRow | None:
        return await self.patiently(lambda: self.store.load(key))

    async def patiently(self, action: Callable[[], Awaitable[T]]) -> T:
        """Repeats what fails for want of Postgres."""
        complained = False
        while True:
            try:
                return await action()
            except RETRYABLE as error:
                if not complained:
                    logger.warning("decisions wait for Postgres", extra={"error": repr(error)})
                complained = True
                await asyncio.sleep(_RETRY_SECONDS)

    def _note(self, change: Change) -> None:
        assert change.transition is not None, "checked by the caller"
        t = change.transition
        self._metrics.transitions.labels(change.key.kind, t.to_state, t.reason).inc()
        logger.info(
            "transition",
            extra={
                "organisation": change.key.organisation,
                "kind": change.key.kind,
                "key": change.key.key,
                "group": change.key.group,
                "from": t.from_state,
                "to": t.to_state,
                "reason": t.reason,
            },
        )
