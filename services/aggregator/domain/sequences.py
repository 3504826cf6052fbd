"""Folds what is about order: streaks and journeys. What a batch tells is joined to what is known, in any order."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import msgspec
import numpy as np

from services.aggregator.domain.counting import take_counted
from services.aggregator.domain.deltas import Deltas
from services.aggregator.domain.event import DecodedEvent
from services.aggregator.domain.frame import Frame, unit_of
from services.aggregator.domain.grouping import group_columns, storable
from services.aggregator.domain.kinds.journey import Facts, merged
from services.aggregator.domain.kinds.streak import Run, joined
from services.aggregator.domain.paths import Path
from services.aggregator.domain.plan import JourneyPlan, StreakPlan


def fold_streak(deltas: Deltas, frame: Frame, plan: StreakPlan) -> None:
    rows = take_counted(deltas, frame, plan.series, frame.rows(plan.definition.organisation, plan.streak.select))
    if not len(rows):
        return
    counters = deltas.counters[plan.series]
    events = [frame.events[i] for i in rows.tolist()]
    runs: dict[str, list[Run]] = defaultdict(list)
    for event, group in zip(events, group_texts(events, plan.definition.group_by), strict=True):
        if group is None:
            counters.invalid += 1
        else:
            counters.counted += 1
            runs[group].append(plan.streak.run_of(event))
    if runs:
        deltas.streaks.append((plan, {group: joined(found, plan.streak.length) for group, found in runs.items()}))


def fold_journey(deltas: Deltas, frame: Frame, plan: JourneyPlan) -> None:
    """An event without a unit, or a start whose group cannot be stored, is invalid."""
    journey, events = plan.journey, frame.events
    candidates = frame.rows(plan.definition.organisation, journey.candidates).tolist()
    told = {i: facts for i in candidates if (facts := journey.facts_of(events[i])) is not None}
    counted = take_counted(deltas, frame, plan.outcomes, np.array(list(told), dtype=np.int64)).tolist()
    starts = [i for i in counted if told[i].started is not None]
    texts = group_texts([events[i] for i in starts], plan.definition.group_by)
    groups = dict(zip(starts, texts, strict=True))
    units: dict[str, Facts] = {}
    for i in counted:
        counters = deltas.counters[plan.outcomes]
        unit, group = unit_of(events[i], journey.unit), groups.get(i, "[]")
        if unit is None or group is None:
            counters.invalid += 1
            continue
        counters.counted += 1
        facts = told[i].with_group(group)
        units[unit] = merged(units[unit], facts) if unit in units else facts
    if units:
        deltas.journeys.append((plan, units))


def group_texts(events: Sequence[DecodedEvent], paths: tuple[Path, ...]) -> list[str | None]:
    """Each event's group as canonical JSON; None where Postgres could not store it."""
    if not paths:
        return ["[]"] * len(events)
    columns = group_columns(events, paths)
    kept = storable(columns, len(events))
    texts: list[str | None] = [msgspec.json.encode(row).decode() for row in zip(*columns, strict=True)]
    return texts if kept is None else [t if keep else None for t, keep in zip(texts, kept.tolist(), strict=True)]
