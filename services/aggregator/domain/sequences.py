"""Folds streaks. What a batch tells is joined to what is known, in any order."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import msgspec

from services.aggregator.domain.caps import ALWAYS, KnownGroups, Place, other_group, overflowing
from services.aggregator.domain.counting import take_counted
from services.aggregator.domain.deltas import Deltas
from services.aggregator.domain.event import DecodedEvent
from services.aggregator.domain.frame import Frame
from services.aggregator.domain.grouping import group_columns, storable
from services.aggregator.domain.kinds.streak import Run, joined
from services.aggregator.domain.paths import Path
from services.aggregator.domain.plan import StreakPlan


def fold_streak(deltas: Deltas, frame: Frame, plan: StreakPlan, known: KnownGroups) -> None:
    """A streak is of all time, and so is the cap on its groups."""
    rows = take_counted(deltas, frame, plan.series, frame.rows(plan.definition.organisation, plan.streak.select))
    if not len(rows):
        return
    counters = deltas.counters[plan.series]
    events = [frame.events[i] for i in rows.tolist()]
    runs: dict[str, list[Run]] = defaultdict(list)
    texts = group_texts(events, plan.definition.group_by)
    other, over = other_group(len(plan.definition.group_by), ""), set[Place]()
    if plan.definition.group_by:
        places = [(ALWAYS, text) for text in dict.fromkeys(texts) if text is not None and text != other]
        most = plan.definition.max_groups
        over = overflowing(known, deltas.groups, plan.series, "", most, places, lambda: places)
    for event, group in zip(events, texts, strict=True):
        if group is None:
            counters.invalid += 1
        else:
            counters.counted += 1
            if (ALWAYS, group) in over:
                counters.overflow += 1
                group = other
            runs[group].append(plan.streak.run_of(event))
    if runs:
        deltas.streaks.append((plan, {group: joined(found, plan.streak.length) for group, found in runs.items()}))


def group_texts(events: Sequence[DecodedEvent], paths: tuple[Path, ...]) -> list[str | None]:
    """Each event's group as canonical JSON; None where Postgres could not store it."""
    if not paths:
        return ["[]"] * len(events)
    columns = group_columns(events, paths)
    kept = storable(columns, len(events))
    texts: list[str | None] = [msgspec.json.encode(row).decode() for row in zip(*columns, strict=True)]
    return texts if kept is None else [t if keep else None for t, keep in zip(texts, kept.tolist(), strict=True)]
