"""Folds what is about order: streaks and journeys. What a batch tells is joined to what is known, in any order."""

from __future__ import annotations

from collections import defaultdict

import msgspec

from services.aggregator.domain.batch import Batch, Verdicts
from services.aggregator.domain.deltas import Deltas, SeriesCounters
from services.aggregator.domain.event import DecodedEvent
from services.aggregator.domain.experiment_events import unit_of
from services.aggregator.domain.grouping import group_columns, storable
from services.aggregator.domain.journeys import Facts, merged
from services.aggregator.domain.paths import Path
from services.aggregator.domain.plan import JourneyPlan, StreakPlan
from services.aggregator.domain.selection import ByKind, rows_of
from services.aggregator.domain.streaks import Run, joined


def fold_streak(deltas: Deltas, batch: Batch, verdicts: Verdicts, plan: StreakPlan, by_kind: ByKind) -> None:
    select = plan.streak.select
    matching = rows_of(batch.events, plan.definition.organisation, select.events, select.where, by_kind)
    if not len(matching):
        return
    counters = deltas.counters.setdefault(plan.series, SeriesCounters())
    counters.late += int(verdicts.late[matching].sum())
    counters.duplicates += int(verdicts.duplicate[matching].sum())
    events = [batch.events[i] for i in matching[verdicts.counted[matching]].tolist()]
    runs: dict[str, list[Run]] = defaultdict(list)
    for event, group in zip(events, group_texts(events, plan.definition.group_by), strict=True):
        if group is None:
            counters.invalid += 1
        else:
            counters.counted += 1
            runs[group].append(plan.streak.run_of(event))
    if runs:
        deltas.streaks.append((plan, {group: joined(found, plan.streak.length) for group, found in runs.items()}))


def fold_journey(deltas: Deltas, batch: Batch, verdicts: Verdicts, plan: JourneyPlan, by_kind: ByKind) -> None:
    """An event without a unit, or a start whose group cannot be stored, is invalid."""
    journey = plan.journey
    candidates = rows_of(batch.events, plan.definition.organisation, journey.events, journey.where, by_kind)
    told = [(i, facts) for i in candidates.tolist() if (facts := journey.facts_of(batch.events[i])) is not None]
    if not told:
        return
    counters = deltas.counters.setdefault(plan.outcomes, SeriesCounters())
    counters.late += sum(bool(verdicts.late[i]) for i, _ in told)
    counters.duplicates += sum(bool(verdicts.duplicate[i]) for i, _ in told)
    counted = [(i, facts) for i, facts in told if verdicts.counted[i]]
    starts = [i for i, facts in counted if facts.started is not None]
    texts = group_texts([batch.events[i] for i in starts], plan.definition.group_by)
    groups = dict(zip(starts, texts, strict=True))
    units: dict[str, Facts] = {}
    for i, found in counted:
        unit, group = unit_of(batch.events[i], journey.unit), groups.get(i, "[]")
        if unit is None or group is None:
            counters.invalid += 1
            continue
        counters.counted += 1
        facts = found.with_group(group)
        units[unit] = merged(units[unit], facts) if unit in units else facts
    if units:
        deltas.journeys.append((plan, units))


def group_texts(events: list[DecodedEvent], paths: tuple[Path, ...]) -> list[str | None]:
    """Each event's group as canonical JSON; None where Postgres could not store it."""
    if not paths:
        return ["[]"] * len(events)
    columns = group_columns(events, paths)
    kept = storable(columns, len(events))
    texts: list[str | None] = [msgspec.json.encode(row).decode() for row in zip(*columns, strict=True)]
    return texts if kept is None else [t if keep else None for t, keep in zip(texts, kept.tolist(), strict=True)]
