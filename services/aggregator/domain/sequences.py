"""Folds streaks. What a batch tells is joined to what is known, in any order."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

import msgspec
import numpy as np

from services.aggregator.domain.caps import ALWAYS, KnownGroups, Place, other_group, overflowing
from services.aggregator.domain.counting import take_counted
from services.aggregator.domain.deltas import Deltas
from services.aggregator.domain.event import DecodedEvent
from services.aggregator.domain.frame import Frame
from services.aggregator.domain.grouping import group_columns, storable
from services.aggregator.domain.paths import Path
from services.aggregator.domain.plan import StreakPlan
from services.aggregator.domain.runs import Run, as_value, joined
from services.aggregator.domain.unit_values import collect_unit_values

MAX_PART = 800
"""Bytes of a group beyond which it is cut by variant as "other": it stands in a key beside four other names."""


def fold_streak(deltas: Deltas, frame: Frame, plan: StreakPlan, known: KnownGroups) -> None:
    """A streak is of all time, and so is the cap on its groups. Experiments have one by variant and group."""
    rows = take_counted(deltas, frame, plan.series, frame.rows(plan.definition.organisation, plan.streak.select))
    if not len(rows):
        return
    counters = deltas.counters[plan.series]
    counted: dict[str, tuple[list[int], list[int]]] = {}
    """By group rows, and how each ended."""
    events = [frame.events[i] for i in rows.tolist()]
    runs: dict[str, list[Run]] = defaultdict(list)
    texts = group_texts(events, plan.definition.group_by)
    other, over = other_group(len(plan.definition.group_by), ""), set[Place]()
    if plan.definition.group_by:
        places = [(ALWAYS, text) for text in dict.fromkeys(texts) if text is not None and text != other]
        most = plan.definition.max_groups
        over = overflowing(known, deltas.groups, plan.series, "", most, places, lambda: places)
    for row, event, group in zip(rows.tolist(), events, texts, strict=True):
        if group is None:
            counters.invalid += 1
        else:
            counters.counted += 1
            if (ALWAYS, group) in over:
                counters.overflow += 1
                group = other
            run = plan.streak.run_of(event)
            runs[group].append(run)
            if plan.units:
                of_group = counted.setdefault(group, ([], []))
                of_group[0].append(row)
                of_group[1].append(as_value(run, event.time))
    if runs:
        deltas.streaks.append((plan, {group: joined(found, plan.streak.length) for group, found in runs.items()}))
    for group, (of_rows, values) in counted.items():
        part = group if len(group.encode()) <= MAX_PART else other
        for unit_plan in plan.units:
            of_part = replace(unit_plan, series=replace(unit_plan.series, part=part if group != "[]" else ""))
            collect_unit_values(deltas, frame, of_part, np.array(of_rows), np.array(values))


def group_texts(events: Sequence[DecodedEvent], paths: tuple[Path, ...]) -> list[str | None]:
    """Each event's group as canonical JSON; None where Postgres could not store it."""
    if not paths:
        return ["[]"] * len(events)
    columns = group_columns(events, paths)
    kept = storable(columns, len(events))
    texts: list[str | None] = [msgspec.json.encode(row).decode() for row in zip(*columns, strict=True)]
    return texts if kept is None else [t if keep else None for t, keep in zip(texts, kept.tolist(), strict=True)]
