"""The second act: the target fails until the breaker has opened, recovers, and fails again when it has closed."""

from __future__ import annotations

import asyncio
import logging

from examples.imports.domain.events import COMPLETED, FAILED, AppEvent
from examples.imports.domain.schedule import Next, Schedule
from examples.imports.domain.valve import AcknowledgedOutcome, FlagState
from examples.imports.gate import FlagWatcher
from examples.imports.sender import Complain

logger = logging.getLogger(__name__)

_OPENS_WITHIN_SECONDS = 20.0
"""From a fault's begin; slow machines included."""
_FAULT_GOES_ON_SECONDS = 0.2
_PAUSE_SECONDS = 1.0
"""Before the next fault: most of those who waited outside get in meanwhile."""


class SecondAct:
    """Runs the faults of one run and keeps what the driver itself knows of them.

    `start` is an instant of the loop's clock, the schedule's second 0. The breaker has `closes_within` seconds from
    each recovery.
    """

    def __init__(
        self, schedule: Schedule, watcher: FlagWatcher, complain: Complain, *, start: float, closes_within: float
    ) -> None:
        self._closes_within = closes_within
        self._schedule = schedule
        self._watcher = watcher
        self._complain = complain
        self._start = start
        self._failing = False
        self._outcomes: dict[str, AcknowledgedOutcome] = {}
        self.over = asyncio.Event()

    def is_failing(self) -> bool:
        """Whether the target of the imports takes no writes now."""
        return self._failing

    @property
    def wanted_openings(self) -> int:
        return self._schedule.openings

    @property
    def outcomes(self) -> tuple[AcknowledgedOutcome, ...]:
        """The ends of imports that the platform has acknowledged, each at its first acknowledgement."""
        return tuple(self._outcomes.values())

    def acknowledged(self, event: AppEvent) -> None:
        """An event's acknowledgement has just arrived."""
        if event.event_type == COMPLETED and event.event_id not in self._outcomes:
            at, failed = asyncio.get_running_loop().time(), event.data["finalStatus"] == FAILED
            self._outcomes[event.event_id] = AcknowledgedOutcome(event.time, failed, at)

    async def run(self) -> None:
        """Returns when the schedule says so, or when the breaker does not do its work."""
        loop = asyncio.get_running_loop()
        try:
            await asyncio.sleep(self._start + self._schedule.first - loop.time())
            longest: float | None = None
            while self._next(longest) is Next.FAULT:
                begun = loop.time()
                if not await self._fault_and_recovery():
                    return
                longest = max(longest or 0.0, loop.time() - begun)
        finally:
            self.over.set()

    def _next(self, longest: float | None) -> Next:
        now = asyncio.get_running_loop().time() - self._start
        return self._schedule.next(now, openings=len(self._watcher.sightings.openings), longest_cycle=longest)

    async def _fault_and_recovery(self) -> bool:
        """Whether the breaker opened and closed again in time."""
        self._failing = True
        logger.info("the target takes no writes")
        try:
            opened = await self._watcher.sees(FlagState.OFF, FlagState.PROBE, seconds=_OPENS_WITHIN_SECONDS)
            logger.info("the flag is off" if opened else "the flag did not go off")
            await asyncio.sleep(_FAULT_GOES_ON_SECONDS)
        finally:
            self._failing = False
            logger.info("the target takes writes again")
        if not opened:
            self._complain(f"imports failed for {_OPENS_WITHIN_SECONDS:g} s and the breaker did not open")
            return False
        if not await self._watcher.sees(FlagState.ON, seconds=self._closes_within):
            self._complain(f"imports work again since {self._closes_within:g} s and the breaker did not close")
            return False
        logger.info("the flag is on again")
        await asyncio.sleep(_PAUSE_SECONDS)
        return True
