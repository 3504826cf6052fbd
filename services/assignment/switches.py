"""Switching off and on by hand, over `switches.v1` alone: neither Postgres nor another service is needed."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Any, Protocol

from prometheus_client import CollectorRegistry, Gauge, Histogram

from services.assignment.copies import Copy, caught_up
from services.assignment.domain.switches import Switchboard
from shared.clock import SECOND, Clock, from_datetime
from shared.messages import Switch
from shared.topics import SWITCHES, Topic

logger = logging.getLogger(__name__)

MANUAL = "manual"
_LATEST = from_datetime(datetime.max)


class SwitchPublisher(Protocol):
    async def publish(self, topic: Topic[Switch], message: Switch, *, deadline: float = 10) -> tuple[int, int]: ...


class Change(Enum):
    """What became of a wish to switch."""

    DONE = "done"
    NOTHING_TO_DO = "nothing to do"
    UNKNOWN = "unknown"
    """Kafka has not answered in time: it may still happen, and saying it again does no harm."""


@dataclass(frozen=True, slots=True)
class Target:
    """What is switched: a flag, an experiment, or one variant of an experiment."""

    organisation: str
    key: str
    variant: str | None = None


class Switches:
    """Publishes switches, and applies what comes back to this process's board."""

    def __init__(
        self,
        board: Switchboard,
        publisher: SwitchPublisher,
        clock: Clock,
        registry: CollectorRegistry,
        *,
        patience: float = 10,
    ) -> None:
        """`patience`: seconds that whoever switches waits for Kafka."""
        self.board = board
        self._publisher = publisher
        self._clock = clock
        self._patience = patience
        self._copy: Copy | None = None
        self._publishing: set[asyncio.Task[tuple[int, int]]] = set()
        self._applied = Histogram(
            "tidegate_assignment_switch_seconds",
            "From the decision to switch until this process answers accordingly",
            buckets=(0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
            registry=registry,
        )
        Gauge(
            "tidegate_assignment_switches_off", "Switches in force: causes that hold something off", registry=registry
        ).set_function(lambda: len(board))

    def apply(self, switch: Switch) -> None:
        """Every record of the topic in its order.

        Skips, loudly, one whose time no calendar holds: it can only be another program's, and answers tell the time.
        """
        if not (0 <= switch.decided_at <= _LATEST and 0 <= switch.off_since <= _LATEST):
            logger.error("switch skipped", extra={"flag": switch.flag, "cause": switch.cause})
            return
        self.board.apply(switch)
        if self._copy is not None:
            self._applied.observe(max(0, self._clock() - switch.decided_at) / SECOND)

    def follow(self, copy: Copy) -> None:
        """From now on what is applied is news. `copy` is the copy of the topic that calls `apply`."""
        self._copy = copy

    async def kill(self, target: Target, *, by: str, reason: str | None) -> Change:
        """Holds the target off until it is restored by hand. Raises KafkaError."""
        return await self._switch(target, MANUAL, off=True, by=by, reason=reason)

    async def restore(self, target: Target, cause: str, *, by: str, reason: str | None) -> Change:
        """Makes one cause let go; what other causes hold off stays off. Raises KafkaError."""
        current = self._copy is not None and await caught_up(self._copy)
        hold = self.board.hold(target.organisation, target.key)
        if current and (hold is None or (target.variant, cause) not in hold.by_cause):
            return Change.NOTHING_TO_DO
        return await self._switch(target, cause, off=False, by=by, reason=reason)

    async def _switch(self, target: Target, cause: str, *, off: bool, by: str, reason: str | None) -> Change:
        evidence: dict[str, Any] = {"by": by} if reason is None else {"by": by, "reason": reason}
        switch = Switch(
            organisation=target.organisation,
            flag=target.key,
            variant=target.variant,
            cause=cause,
            off=off,
            decided_at=self._clock(),
            evidence=evidence,
        )
        # Not cancelled when the patience ends: a producer that is replaced halfway would be left open.
        task = asyncio.create_task(self._publish(switch))
        self._publishing.add(task)
        task.add_done_callback(self._published)
        done, _ = await asyncio.wait([task], timeout=self._patience)
        if not done:
            return Change.UNKNOWN
        try:
            task.result()
        except TimeoutError:
            return Change.UNKNOWN
        if self._copy is not None:
            await caught_up(self._copy)
        return Change.DONE

    async def _publish(self, switch: Switch) -> tuple[int, int]:
        return await self._publisher.publish(SWITCHES, switch)

    def _published(self, task: asyncio.Task[tuple[int, int]]) -> None:
        self._publishing.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.warning("a switch did not reach Kafka", extra={"error": repr(error)})
