"""Answers "which variant?": gather what is known, let the domain decide, remember and tell.

```
 request ─► directory ─► place ─► known? ─yes─► answer
                                   │ no
                     ambiguous bucket: claim the row (what stands there counts)
                                   │
               exposure → Kafka ┐  │
               row → Postgres   ┴─► at most 50 ms ─► answer; both go on in the background
```
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter

from services.assignment.assignments import Assignments, Row, UnreadableError
from services.assignment.directory import Directory, Entry
from services.assignment.domain.decision import Memory, Placement, Reason
from services.assignment.domain.facts import Ids, exposure
from services.assignment.exposures import Exposures
from services.assignment.memory import FirstAnswers
from shared.clock import Clock
from shared.http import Problem
from shared.messages import Variant

_NEW_UNIT_DEADLINE = 0.05


class Assigner:
    def __init__(
        self,
        directory: Directory,
        memory: FirstAnswers,
        assignments: Assignments,
        exposures: Exposures,
        clock: Clock,
        registry: CollectorRegistry,
    ) -> None:
        self._directory = directory
        self._memory = memory
        self._assignments = assignments
        self._exposures = exposures
        self._clock = clock
        answered = Counter("tidegate_assignment_answers_total", "Answers by reason", ["reason"], registry=registry)
        self._answered = {reason: answered.labels(reason.value) for reason in Reason}

    async def assign(self, organisation: str, reference: int | str, ids: Ids, context: Mapping[str, Any]) -> bytes:
        """The body of the answer. Raises Problem."""
        entry = self._directory.find(organisation, reference)
        if entry is None:
            raise Problem(404, "experiment_not_found", f"there is no experiment {reference!r}")
        rules = entry.rules
        unit = ids.of_kind(rules.experiment.unit)
        if unit is None:
            kind = rules.experiment.unit
            raise Problem(422, "unit_missing", f"this experiment assigns by {kind}: send {kind}_id")
        if rules.memory is Memory.NONE:
            return self._answer(entry, rules.control, rules.not_running, assigned=False)
        placement = rules.place(unit, context)
        known = self._memory.get(rules.experiment.id, unit)
        if known is not None:
            return self._kept(entry, placement, known)
        if rules.memory is Memory.EXISTING_ONLY:
            return await self._existing(entry, placement, unit)
        return await self._first(entry, placement, unit, ids, context)

    def _answer(self, entry: Entry, variant: Variant | None, reason: Reason, *, assigned: bool = True) -> bytes:
        self._answered[reason].inc()
        return entry.answer(variant, reason, assigned=assigned)

    def _kept(self, entry: Entry, placement: Placement, variant_id: int) -> bytes:
        variant = entry.rules.by_id[variant_id]
        return self._answer(entry, variant, Reason.SPLIT if variant is placement.variant else Reason.STICKY)

    async def _existing(self, entry: Entry, placement: Placement, unit: str) -> bytes:
        """Of a paused experiment. Unverified, the unit gets what it most likely has, and stays uncounted."""
        experiment_id = entry.rules.experiment.id
        try:
            stored = await self._assignments.find(experiment_id, unit)
        except UnreadableError:
            return self._answer(entry, placement.before, Reason.STORE_UNREADABLE, assigned=False)
        if stored is None:
            return self._answer(entry, entry.rules.control, Reason.PAUSED, assigned=False)
        self._memory.put(experiment_id, unit, stored)
        return self._kept(entry, placement, stored)

    def _correct_later(self, experiment_id: int, unit: str, written: asyncio.Future[int | None] | None) -> None:
        """Once the store can be read, what stands there counts."""

        def correct(future: asyncio.Future[int | None]) -> None:
            if not future.cancelled() and (stands := future.result()) is not None:
                self._memory.put(experiment_id, unit, stands)

        if written is not None:
            written.add_done_callback(correct)

    async def _first(
        self, entry: Entry, placement: Placement, unit: str, ids: Ids, context: Mapping[str, Any]
    ) -> bytes:
        experiment = entry.rules.experiment
        now = self._clock()

        def row(variant: Variant) -> Row:
            return Row(
                experiment_id=experiment.id,
                unit=unit,
                variant_id=variant.id,
                version=experiment.version,
                stratum=placement.stratum,
                context=context,
                consistency_key=f"{experiment.salt}:{unit}",
                assigned_at=now,
            )

        variant, reason = placement.variant, Reason.SPLIT
        written: asyncio.Future[int | None] | None = None
        if placement.ambiguous:
            try:
                stored = await self._assignments.claim(row(variant))
            except UnreadableError:
                variant, reason = placement.before, Reason.STORE_UNREADABLE
                self._correct_later(experiment.id, unit, self._assignments.record(row(variant), asks=True))
            else:
                variant = entry.rules.by_id[stored]
                reason = Reason.SPLIT if variant is placement.variant else Reason.STICKY
        else:
            written = self._assignments.record(row(variant))

        self._memory.put(experiment.id, unit, variant.id)
        delivered = self._exposures.deliver(exposure(experiment, placement, variant, unit, ids, context, now))
        if delivered is None:
            self._memory.forget(experiment.id, unit)
        waiting = [w for w in (delivered, written if self._assignments.reachable else None) if w is not None]
        if waiting:
            await asyncio.wait(waiting, timeout=_NEW_UNIT_DEADLINE)
        return self._answer(entry, variant, reason)
