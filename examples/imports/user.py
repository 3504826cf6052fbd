"""One simulated user: a whole session of the import product, from the upload to the survey."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from examples.imports.domain.behaviour import NAVIGATE_AWAY, Engagement, Stage, UserPlan, VariantName
from examples.imports.domain.events import FAILED, ImportOutcome, Session, SessionTimes
from examples.imports.domain.ledger import Ledger
from examples.imports.domain.planning import estimated_duration_ms, priority_of
from examples.imports.domain.valve import FlagAnswer, FlagState
from examples.imports.files import SourceFile
from examples.imports.gate import Ask
from examples.imports.importer import ImportCancelledError, ImportRequest, analyse
from examples.imports.outbox import Deliveries, Outbox
from examples.imports.queue import Cancellation, NewJob, QueueUnavailableError
from examples.imports.sender import Complain, EventSender
from examples.imports.service import FellBack, ImportService
from shared.clock import HOUR, Clock

_MILESTONES = (25, 50, 75)

Assign = Callable[[str, Mapping[str, Any], Mapping[str, str]], Awaitable[VariantName]]
"""(user id, context, headers) → the variant; asks until there is an answer. Raises GaveUpError."""


@dataclass(frozen=True, slots=True)
class World:
    """What all users of a run share. `pace` turns nominal seconds into real ones."""

    experiment_key: str
    service: ImportService
    sender: EventSender
    is_enabled: Ask
    flag: str
    """What `is_enabled` asks for."""
    assign: Assign
    ledger: Ledger
    later: Deliveries
    clock: Clock
    pace: float
    users_prefix: str
    deadline: float
    """Instant of the loop's clock after which nobody waits any more."""
    complain: Complain


@dataclass(frozen=True, slots=True)
class Ending:
    """How an import ended and when (µs)."""

    outcome: ImportOutcome
    at: int


class User:
    """Runs one plan."""

    def __init__(self, plan: UserPlan, file: SourceFile, world: World) -> None:
        self._plan = plan
        self._file = file
        self._world = world
        self._session = Session(world.experiment_key, f"{world.users_prefix}_{plan.index}")
        self._outbox = Outbox(
            plan,
            self._session,
            world.sender,
            world.later,
            pace=world.pace,
            dice=random.Random(plan.index),
        )
        self._entered = 0
        self._upload_ms = self._review_ms = 0.0
        self._reported = 0

    async def run(self) -> None:
        """The session. Raises GaveUpError when the deadline passes before the user has a variant."""
        self._entered = self._now()
        self._outbox.add(self._session.session_started(self._entered))
        await self._outbox.flush()
        estimated_ms = await self._prepare()
        if estimated_ms is not None and await self._gets_in():
            await self._import(estimated_ms)
        await self._look_around()
        if self._plan.network.offline_hours is not None:
            await self._come_back_online(self._plan.network.offline_hours)

    async def _prepare(self) -> int | None:
        """Upload, analysis, review. The estimated duration in ms, or None if the user left before the end."""
        if self._plan.leaves_before is Stage.UPLOAD:
            return None
        self._upload_ms = await self._spend(self._plan.upload_seconds)
        file = self._file
        self._add(self._session.upload_completed, upload_ms=self._upload_ms, size=file.size, name=file.path.name)
        if self._plan.leaves_before is Stage.ANALYSIS:
            await self._outbox.flush()
            return None
        started = self._now()
        analysis = await analyse(file.path, file.dataset.name)
        await self._spend(self._plan.analysis_seconds)
        self._add(
            self._session.analysis_completed,
            total_ms=self._since(started),
            records=analysis.records,
            entity=file.dataset.name,
        )
        await self._outbox.flush()
        if self._plan.leaves_before is Stage.REVIEW:
            return None
        self._review_ms = await self._spend(self._plan.review_seconds)
        self._add(
            self._session.review_completed,
            review_ms=self._review_ms,
            mapped=len(analysis.mapping.columns),
            unmapped=analysis.mapping.unmapped_columns,
        )
        return estimated_duration_ms(size=analysis.size, records=analysis.records)

    async def _gets_in(self) -> bool:
        """Whether imports are on for the user, at once or when the user has come back."""
        user, answer = self._session.user_id, await self._ask()
        if answer.state is FlagState.OFF:
            self._world.ledger.diverted(user)
            self._add(self._session.diverted, flag=self._world.flag, cause=answer.cause)
            await self._outbox.flush()
        looks = iter(self._plan.returns)
        while answer.state is FlagState.OFF:
            wait = next(looks, None)
            if wait is None:
                return False
            await asyncio.sleep(wait)
            answer = await self._ask()
        return True

    async def _ask(self) -> FlagAnswer:
        return await self._world.is_enabled(self._session.user_id, self._plan.headers)

    async def _import(self, estimated_ms: int) -> None:
        user = self._session.user_id
        context = {"estimatedDuration": estimated_ms, "fileSize": self._file.size, "entity": self._file.dataset.name}
        variant = await self._world.assign(user, context, self._plan.headers)
        self._world.ledger.assigned(user, variant)
        started = self._now()
        event = self._session.assigned(started, variant=variant, estimated_ms=estimated_ms)
        self._world.ledger.started(user, event.event_id, variant)
        self._outbox.add(event)
        ending = await (
            self._in_background(estimated_ms, started) if variant == "background" else self._while_waiting()
        )
        if ending is None:
            await self._outbox.flush()
            return
        await self._report(ending, started, variant)

    async def _while_waiting(self) -> Ending | None:
        """The user watches the records being counted, and may have enough of it."""
        await self._outbox.flush()
        gives_up = self._plan.gives_up_at if self._plan.abandons["realtime"] else None
        try:
            outcome = await self._world.service.run_realtime(
                self._request(), lambda done, total: self._on_progress("realtime", done, total, gives_up)
            )
        except ImportCancelledError:
            return None
        if gives_up is not None and outcome.final_status == FAILED:
            return None  # gone before the failure was on the page, which reports how an import ended
        return Ending(outcome, self._now())

    async def _in_background(self, estimated_ms: int, started: int) -> Ending | None:
        job = NewJob(
            request=self._request(),
            user_id=self._session.user_id,
            priority=priority_of(size=self._file.size, records=self._file.records),
            estimated_ms=estimated_ms,
        )
        result = await self._world.service.start_background(
            job, lambda done, total: self._on_progress("background", done, total, None)
        )
        if isinstance(result, FellBack):
            self._add(self._session.fallback, reason=result.reason)
            return Ending(result.outcome, self._now())
        ending = asyncio.create_task(self._ending(result.ended))  # notes the time while the user does other things
        self._add(self._session.background_started, estimated_ms=result.estimated_completion_ms)
        engagements = list(self._plan.engagements)
        if self._plan.abandons["background"]:
            if engagements and engagements[0].action == NAVIGATE_AWAY:
                self._engage(engagements.pop(0), started)  # at once: such an import is soon done
            if await self._takes_back():
                self._add(self._session.cancelled)
                return None
        await self._outbox.flush()
        for engagement in engagements:
            await asyncio.sleep(max(0.0, engagement.after * self._world.pace - self._since(started) / 1000))
            self._engage(engagement, started)
        try:
            async with asyncio.timeout_at(self._world.deadline):
                return await ending
        except TimeoutError:
            self._world.complain(f"background import {self._session.job_id} did not end in time")
            return None

    def _engage(self, engagement: Engagement, started: int) -> None:
        event = self._session.engagement(self._now(), action=engagement.action, from_start_ms=self._since(started))
        if engagement.action == NAVIGATE_AWAY:
            self._world.ledger.navigated_away(self._session.user_id, event.event_id)
        self._outbox.add(event)

    async def _ending(self, ended: Awaitable[ImportOutcome | None]) -> Ending | None:
        outcome = await ended
        return None if outcome is None else Ending(outcome, self._now())

    async def _takes_back(self) -> bool:
        """Whether the job could be cancelled before it was done."""
        try:
            return await self._world.service.cancel(self._session.job_id) is Cancellation.CANCELLED
        except QueueUnavailableError:
            return False

    async def _report(self, ending: Ending, started: int, variant: VariantName) -> None:
        """`totalDuration` is what the user lived through: from the start to the end, the queue included."""
        experienced = replace(ending.outcome, total_ms=(ending.at - started) / 1000)
        times = SessionTimes(self._upload_ms, self._review_ms, (ending.at - self._entered) / 1000)
        event = self._session.completed(ending.at, experienced, times, variant=variant)
        self._world.ledger.completed(self._session.user_id, event.event_id, event.data["totalDuration"])
        self._outbox.add(event)
        await self._outbox.flush()
        if variant == "background":
            await self._notice()
        survey = self._plan.surveys[variant]
        if survey is not None:
            await self._spend(0.3)
            self._add(self._session.survey, answers=survey, variant=variant)
        await self._outbox.flush()

    async def _notice(self) -> None:
        kind = self._plan.notification
        self._add(self._session.notification, kind=kind, action="received")
        if self._plan.opens_notification:
            await self._spend(0.5)
            self._add(self._session.notification, kind=kind, action="opened")
        if self._plan.clicks_notification:
            await self._spend(0.2)
            self._add(self._session.notification, kind=kind, action="clicked_view_results")

    async def _look_around(self) -> None:
        for number in range(self._plan.pageviews):
            await self._spend(0.3)
            if number == 1:
                self._add(self._session.first_client_interaction)
            self._add(self._session.pageview, path=("/dashboard", "/clients", "/settings")[number])
        if self._plan.pageviews:
            await self._outbox.flush()

    async def _come_back_online(self, hours: float) -> None:
        """The device reports what happened before its long sleep. Sent last, when newer events are known."""
        event = self._session.help_viewed(self._now() - round(hours * HOUR))
        self._world.ledger.offline(event.event_id)
        await self._world.sender.send([event], self._plan.headers, batched=False)

    def _on_progress(self, variant: str, processed: int, total: int, gives_up: float | None) -> None:
        """Milestones only: an event for every batch would be most of the traffic."""
        share = processed / total if total else 1.0
        if gives_up is not None and share >= gives_up:
            raise ImportCancelledError(self._session.job_id)
        for milestone in _MILESTONES:
            if self._reported < milestone <= 100 * share:
                self._reported = milestone
                self._add(self._session.progress, percentage=milestone, stage="importing", variant=variant)

    def _request(self) -> ImportRequest:
        return ImportRequest(self._session.job_id, self._file.path, self._file.dataset.name)

    def _add(self, build: Callable[..., Any], **fields: Any) -> None:
        self._outbox.add(build(self._now(), **fields))

    def _now(self) -> int:
        return self._world.clock()

    def _since(self, start: int) -> float:
        """Milliseconds."""
        return (self._now() - start) / 1000

    async def _spend(self, nominal_seconds: float) -> float:
        """Lets time pass; returns how much, in milliseconds."""
        start = self._now()
        await asyncio.sleep(nominal_seconds * self._world.pace)
        return self._since(start)
