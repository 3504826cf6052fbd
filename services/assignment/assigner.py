"""Answers "which variant?": gather what is known, let the domain decide, remember and tell.

```
 request ─► directory ─► switched off? ─yes─► the control, and the unit is not counted
                             │ no
                           place ─► known? ─yes─► answer
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
from dataclasses import replace
from typing import Any, NamedTuple

from prometheus_client import CollectorRegistry, Counter

from services.assignment.assignments import Assignments, Row, Standing, UnreadableError
from services.assignment.directory import Directory, Entry
from services.assignment.domain.decision import Memory, Placement, Reason, Resolution
from services.assignment.domain.facts import Ids, exposure
from services.assignment.domain.switches import Hold, Off, Switchboard, Verdict
from services.assignment.exposures import Exposures
from services.assignment.memory import FirstAnswers
from shared.clock import Clock
from shared.http import Problem
from shared.messages import Variant

_NEW_UNIT_DEADLINE = 0.05


_USER_FIRST = -1
"""No variant's id."""


class VisitorFirst(NamedTuple):
    """A visitor's exposure is the earlier one. `is_answered`: the user has been exposed too, in whatever variant."""

    variant_id: int
    is_answered: bool


class Assigner:
    def __init__(
        self,
        directory: Directory,
        switchboard: Switchboard,
        memory: FirstAnswers,
        assignments: Assignments,
        exposures: Exposures,
        clock: Clock,
        registry: CollectorRegistry,
    ) -> None:
        self._directory = directory
        self._switchboard = switchboard
        self._memory = memory
        self._assignments = assignments
        self._exposures = exposures
        self._clock = clock
        answered = Counter("tidegate_assignment_answers_total", "Answers by reason", ["reason"], registry=registry)
        self._answered = {reason: answered.labels(reason.value) for reason in Reason}

    async def assign(self, organisation: str, reference: int | str, ids: Ids, context: Mapping[str, Any]) -> bytes:
        """The body of the answer to POST /assign. Raises Problem."""
        entry = self._directory.find(organisation, reference)
        if entry is None:
            raise Problem(404, "experiment_not_found", f"there is no experiment {reference!r}")
        resolution = await self.resolve(entry, ids, context)
        self._answered[resolution.reason].inc()
        return entry.answer(resolution)

    async def resolve(self, entry: Entry, ids: Ids, context: Mapping[str, Any]) -> Resolution:
        """The unit's variant, which it keeps and is counted for from now on. Raises Problem."""
        rules = entry.rules
        experiment = rules.experiment
        unit = ids.of_kind(experiment.unit)
        if unit is None:
            kind = experiment.unit
            raise Problem(422, "unit_missing", f"this experiment assigns by {kind}: send {kind}_id")
        if rules.memory is Memory.NONE:
            return Resolution(rules.control, rules.not_running, assigned=False)
        placement = rules.place(unit, context)
        if experiment.unit == "user" and ids.user is not None and ids.anonymous not in (None, ids.user):
            return await self._linked(entry, placement, ids.user, ids.anonymous, ids, context)
        return await self._resolve(entry, placement, unit, ids, context)

    async def _resolve(
        self, entry: Entry, placement: Placement, unit: str, ids: Ids, context: Mapping[str, Any]
    ) -> Resolution:
        experiment = entry.rules.experiment
        hold = self._switchboard.hold(experiment.organisation, experiment.key)
        if hold is not None:
            return await self._guarded(entry, hold, placement, unit, ids, context)
        return self._known(entry, placement, unit) or await self._unknown(entry, placement, unit, ids, context)

    async def _linked(
        self,
        entry: Entry,
        placement: Placement,
        user: str,
        anonymous: str,
        ids: Ids,
        context: Mapping[str, Any],
    ) -> Resolution:
        """A user who was a visitor before: the earlier exposure's variant is answered, and nobody's past changes.

        What cannot be looked up now is answered as if there were no link.
        """
        rules = entry.rules
        try:
            first = await self._first_of(rules.experiment.id, user, anonymous)
        except UnreadableError:
            return await self._resolve(entry, placement, user, ids, context)
        if first is None:
            return await self._resolve(entry, placement, user, ids, context)
        if first.is_answered or rules.memory is Memory.EXISTING_ONLY:
            resolution = await self._resolve(entry, rules.place(anonymous, context), anonymous, ids, context)
        else:
            # The user is a unit of its own from now on, with the visitor's variant; what stands already counts.
            taken = replace(placement, variant=rules.by_id[first.variant_id], ambiguous=True)
            resolution = await self._resolve(entry, taken, user, ids, context)
        moved = resolution.reason is Reason.SPLIT and resolution.variant is not placement.variant
        return resolution._replace(reason=Reason.STICKY) if moved else resolution

    async def _first_of(self, experiment_id: int, user: str, anonymous: str) -> VisitorFirst | None:
        """What the visitor got before the user got anything; None if it is the user who came first.

        Raises UnreadableError.
        """
        pair = f"{user}\x00{anonymous}"  # no id holds a NUL
        known = self._memory.get(experiment_id, pair)
        if known == _USER_FIRST:
            return None
        if known is not None:
            self._memory.put(experiment_id, anonymous, known)
            return VisitorFirst(known, is_answered=True)
        of_user, of_visitor = await asyncio.gather(
            self._assignments.standing(experiment_id, user), self._assignments.standing(experiment_id, anonymous)
        )
        if of_user is not None and (of_visitor is None or of_user.assigned_at <= of_visitor.assigned_at):
            self._memory.put(experiment_id, pair, _USER_FIRST)
            return None
        if of_visitor is None:
            return None
        if of_user is None:
            return VisitorFirst(of_visitor.variant_id, is_answered=False)
        self._memory.put(experiment_id, pair, of_visitor.variant_id)
        self._memory.put(experiment_id, anonymous, of_visitor.variant_id)
        return VisitorFirst(of_visitor.variant_id, is_answered=True)

    async def _guarded(
        self, entry: Entry, hold: Hold, placement: Placement, unit: str, ids: Ids, context: Mapping[str, Any]
    ) -> Resolution:
        """While a switch holds the experiment or one of its variants off."""
        bucket = entry.rules.admission_bucket(unit)
        judged = hold.judge(bucket)
        if not isinstance(judged, Off):
            judged = hold.judge(bucket, await self._expected(entry, placement, unit))
        if not isinstance(judged, Off):
            resolution = self._known(entry, placement, unit)
            if resolution is None:
                resolution = await self._unknown(entry, placement, unit, ids, context)
            if resolution.reason is Reason.KILLED:
                return resolution
            # Judged again: another process may have answered the unit since it was looked up.
            judged = hold.judge(bucket, None if resolution.variant is None else resolution.variant.name)
            if not isinstance(judged, Off):
                return resolution._replace(probe=judged is Verdict.PROBE)
        return _killed(entry, judged)

    def _kept_out(self, entry: Entry, unit: str, variant: Variant) -> Off | None:
        """What keeps the unit out of the variant at this moment."""
        experiment = entry.rules.experiment
        hold = self._switchboard.hold(experiment.organisation, experiment.key)
        if hold is None:
            return None
        judged = hold.judge(entry.rules.admission_bucket(unit), variant.name)
        return judged if isinstance(judged, Off) else None

    async def _expected(self, entry: Entry, placement: Placement, unit: str) -> str:
        """The variant that the unit has or would get, not written down: if it is killed, the unit must not count."""
        experiment_id = entry.rules.experiment.id
        known = self._memory.get(experiment_id, unit)
        if known is None and placement.ambiguous:
            try:
                known = await self._assignments.find(experiment_id, unit)
            except UnreadableError:
                return placement.before.name
        return (placement.variant if known is None else entry.rules.by_id[known]).name

    def _known(self, entry: Entry, placement: Placement, unit: str) -> Resolution | None:
        known = self._memory.get(entry.rules.experiment.id, unit)
        return None if known is None else self._kept(entry, placement, known)

    async def _unknown(
        self, entry: Entry, placement: Placement, unit: str, ids: Ids, context: Mapping[str, Any]
    ) -> Resolution:
        if entry.rules.memory is Memory.EXISTING_ONLY:
            return await self._existing(entry, placement, unit)
        return await self._first(entry, placement, unit, ids, context)

    def _kept(self, entry: Entry, placement: Placement, variant_id: int) -> Resolution:
        split, sticky = entry.rules.kept[variant_id]
        return split if split.variant is placement.variant else sticky

    async def _existing(self, entry: Entry, placement: Placement, unit: str) -> Resolution:
        """Of a paused experiment. Unverified, the unit gets what it most likely has, and stays uncounted."""
        experiment_id = entry.rules.experiment.id
        try:
            stored = await self._assignments.find(experiment_id, unit)
        except UnreadableError:
            return Resolution(placement.before, Reason.STORE_UNREADABLE, assigned=False)
        if stored is None:
            return Resolution(entry.rules.control, Reason.PAUSED, assigned=False)
        self._memory.put(experiment_id, unit, stored)
        return self._kept(entry, placement, stored)

    def _correct_later(self, experiment_id: int, unit: str, written: asyncio.Future[Standing | None] | None) -> None:
        """Once the store can be read, what stands there counts."""

        def correct(future: asyncio.Future[Standing | None]) -> None:
            if not future.cancelled() and (stands := future.result()) is not None:
                self._memory.put(experiment_id, unit, stands.variant_id)

        if written is not None:
            written.add_done_callback(correct)

    async def _first(
        self, entry: Entry, placement: Placement, unit: str, ids: Ids, context: Mapping[str, Any]
    ) -> Resolution:
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
        written: asyncio.Future[Standing | None] | None = None
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

        # Killed while the store was asked, or the store has another variant than was expected while it was silent:
        # the unit does not get it, so it is not exposed to it.
        if (off := self._kept_out(entry, unit, variant)) is not None:
            return _killed(entry, off)
        self._memory.put(experiment.id, unit, variant.id)
        delivered = self._exposures.deliver(exposure(experiment, placement, variant, unit, ids, context, now))
        if delivered is None:
            self._memory.forget(experiment.id, unit)
        waiting = [w for w in (delivered, written if self._assignments.reachable else None) if w is not None]
        if waiting:
            await asyncio.wait(waiting, timeout=_NEW_UNIT_DEADLINE)
        return Resolution(variant, reason)


def _killed(entry: Entry, off: Off) -> Resolution:
    return Resolution(entry.rules.control, Reason.KILLED, assigned=False, off=off)
