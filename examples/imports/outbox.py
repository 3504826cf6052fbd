"""A user's client: collects events and delivers them as good or as badly as its network lets it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine
from typing import Any

from examples.imports.domain.behaviour import UserPlan
from examples.imports.domain.events import AppEvent, Session
from examples.imports.sender import EventSender, Malformed

_RESEND_AFTER = 0.4


class Deliveries:
    """Deliveries that go on after their user has left. `settled` waits for all of them."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()
        self._failed: list[BaseException] = []

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    @property
    def pending(self) -> int:
        return len(self._tasks)

    async def settled(self) -> None:
        """Raises the first exception that a delivery ended with."""
        while self._tasks:
            await asyncio.wait(self._tasks)
        if self._failed:
            raise self._failed[0]

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failed.append(error)


class Outbox:
    """`pace` turns nominal seconds into real ones."""

    def __init__(
        self,
        plan: UserPlan,
        session: Session,
        sender: EventSender,
        later: Deliveries,
        *,
        pace: float,
        dice: random.Random,
    ) -> None:
        self._plan = plan
        self._session = session
        self._sender = sender
        self._later = later
        self._pace = pace
        self._dice = dice
        self._waiting: list[AppEvent] = []
        self._step = 0

    def add(self, event: AppEvent) -> None:
        self._waiting.append(event)

    async def flush(self) -> None:
        """Sends what has been collected; one step of the plan's network."""
        step, events = self._step, self._waiting
        self._step, self._waiting = step + 1, []
        network = self._plan.network
        malformed = self._malformed(step, events)
        held = network.held.get(step)
        if held is not None and events:
            self._later.start(self._send_late(events, held))
            events = []
        if malformed is not None and network.batches and events:
            await self._sender.send_batch(events, malformed, self._plan.headers)
        else:
            if malformed is not None:
                await self._sender.send_malformed(malformed, self._plan.headers)
            if events:
                await self._send(events, twice=step in network.doubled)
        if step in network.resent and events:
            self._later.start(self._resend(events))

    async def _send(self, events: list[AppEvent], *, twice: bool) -> None:
        """`twice` at once: a client that lost patience with its own first try."""
        copies = 2 if twice else 1
        await asyncio.gather(
            *(
                self._sender.send(events, self._plan.headers, batched=self._plan.network.batches)
                for _ in range(copies)
            )
        )

    async def _send_late(self, events: list[AppEvent], seconds: float) -> None:
        """After a while, in another order than they happened in."""
        await asyncio.sleep(seconds * self._pace)
        self._dice.shuffle(events)
        await self._send(events, twice=False)

    async def _resend(self, events: list[AppEvent]) -> None:
        await asyncio.sleep(_RESEND_AFTER * self._pace)
        await self._send(events, twice=False)

    def _malformed(self, step: int, events: list[AppEvent]) -> Malformed | None:
        how = self._plan.network.malformed.get(step)
        if how is None or not events:
            return None
        return Malformed(self._session.event("import_client_error", events[-1].time, {"code": how.name}), how)
