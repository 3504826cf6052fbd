"""Folds what a batch tells of units over time: each event becomes entries of its unit's facts, in any order."""

from __future__ import annotations

from operator import attrgetter

import msgspec
import numpy as np
import numpy.typing as npt

from services.aggregator.domain.caps import KnownGroups, Place, other_group, overflowing
from services.aggregator.domain.counting import take_counted
from services.aggregator.domain.deltas import Deltas, Told
from services.aggregator.domain.facts import Entry
from services.aggregator.domain.frame import Frame, Indices, participant_of
from services.aggregator.domain.grouping import group_columns, is_storable
from services.aggregator.domain.known import KnownUnits, fresh
from services.aggregator.domain.paths import Path
from services.aggregator.domain.plan import TrackPlan
from services.aggregator.domain.seen import digest
from services.aggregator.domain.sequences import group_texts
from services.aggregator.domain.staged import staged, staged_news
from services.aggregator.domain.state_columns import state_texts
from services.aggregator.domain.tracks import Column, Slot, StateColumn, Sub, Text, Unit
from services.aggregator.domain.values import Mask
from shared.clock import DAY
from shared.messages import UnitKind

_LABEL_LENGTHS = (100, 50, 25, 0)
_LABEL_BYTES = 152
"""As JSON, where a character takes six bytes at most."""
_IDS: dict[Column, UnitKind] = {Column.USER: "user", Column.SESSION: "session", Column.JOB: "job"}


def fold_track(deltas: Deltas, frame: Frame, plan: TrackPlan, known: KnownUnits, groups: KnownGroups) -> None:
    """An event without a unit, or with a text that cannot be stored, is invalid."""
    track, organisation = plan.track, plan.definition.organisation
    by_slot = [_rows(frame, organisation, slot) for slot in track.slots]
    matching = np.zeros(len(frame.events), dtype=np.bool_)
    for taken in by_slot:
        matching[taken] = True
    rows = take_counted(deltas, frame, plan.series, np.flatnonzero(matching))
    if not len(rows):
        return
    place_of = np.empty(len(frame.events), dtype=np.int64)
    place_of[rows] = np.arange(len(rows))
    codes, units = _units(frame, track.unit, rows)
    valid = codes >= 0
    remembered = known.find((plan.series, track.name), units)
    limits, found = remembered.rows, np.append(remembered.places, -1)[codes]
    checked: list[tuple[Indices, Indices, list[list[str | None]]]] = []
    for slot, taken in zip(track.slots, by_slot, strict=True):
        of_slot = frame.counted(taken)
        places = place_of[of_slot]
        columns = [_column(frame, plan, c, of_slot) if _can_fail(c, plan) else [] for c in slot.columns]
        for column in columns:
            if column:
                valid[places] &= [text is not None for text in column]
        checked.append((of_slot, places, columns))
    counters = deltas.counters[plan.series]
    counters.counted += int(valid.sum())
    counters.invalid += int((~valid).sum())
    funnel = staged(track)
    parts: list[tuple[Indices, Indices]] = []
    starts: dict[int, Entry] = {}
    told: dict[str, list[set[Entry]]] = {}
    seen: dict[str, int] = {}
    for number, (slot, (of_slot, places, columns)) in enumerate(zip(track.slots, checked, strict=True)):
        times = frame.times[of_slot]
        if plan.definition.group_by and Column.GROUP in slot.columns:
            place = slot.columns.index(Column.GROUP)
            columns[place] = _capped(deltas, plan, groups, times, valid[places], columns[place])
        kept = np.flatnonzero(valid[places] & fresh(found[places], limits, number, times))
        if funnel is not None:
            parts.append((codes[places[kept]], times[kept]))
            if number:
                continue
        if not len(kept):
            continue
        chosen = of_slot[kept]
        texts = [
            [column[i] for i in kept.tolist()] if column else _column(frame, plan, kind, chosen)
            for kind, column in zip(slot.columns, columns, strict=True)
        ]
        entries = zip(times[kept].tolist(), *texts, strict=True)
        if funnel is not None:
            for code, entry in zip(parts[0][0].tolist(), entries, strict=True):
                starts[code] = min(starts.get(code, entry), entry)
            continue
        for place, entry in zip(places[kept].tolist(), entries, strict=True):
            unit = units[codes[place]]
            if unit not in told:
                told[unit] = [set() for _ in track.slots]
                seen[unit] = entry[0]
            told[unit][number].add(entry)
            seen[unit] = max(seen[unit], entry[0])
    if funnel is not None and any(len(of_slot) for of_slot, _ in parts):
        deltas.facts.append((plan, staged_news(funnel, units, parts, starts, remembered)))
    if told:
        known_units = {units[code] for code in np.unique(codes[found >= 0]).tolist()}
        units_told = {
            unit: Told(
                tuple([tuple(sorted(e)) if len(e) > 1 else tuple(e) for e in slots]), seen[unit], unit in known_units
            )
            for unit, slots in told.items()
        }
        deltas.facts.append((plan, units_told))


def _capped(
    deltas: Deltas,
    plan: TrackPlan,
    known: KnownGroups,
    times: npt.NDArray[np.int64],
    valid: Mask,
    texts: list[str | None],
) -> list[str | None]:
    """Groups beyond the cap as "other". Also events that tell nothing new are asked, so that the cap is the log's."""
    other = other_group(len(plan.definition.group_by), "")
    days = (times // DAY).tolist()
    places: list[Place] = [
        (day, text)
        for day, text, counts in zip(days, texts, valid.tolist(), strict=True)
        if counts and text is not None and text != other
    ]
    most = plan.definition.max_groups
    over = overflowing(known, deltas.groups, plan.series, plan.track.name, most, places, lambda: places)
    if not over:
        return texts
    deltas.counters[plan.series].overflow += sum(place in over for place in places)
    return [
        other if text is not None and (day, text) in over else text for day, text in zip(days, texts, strict=True)
    ]


def _rows(frame: Frame, organisation: str, slot: Slot) -> Indices:
    rows = frame.rows(organisation, slot.select)
    if slot.where is None or not len(rows):
        return rows
    return np.intersect1d(rows, frame.rows(organisation, slot.where), assume_unique=True)


def _units(frame: Frame, unit: Unit, rows: Indices) -> tuple[Indices, list[str]]:
    """Each row's place in a list of units, which are ascending, -1 if it has none, and the list."""
    if not isinstance(unit, Path):
        codes, names = frame.unit_codes(unit)
        return codes[rows], names
    texts = _texts(frame, unit, rows)
    place_of = {text: i for i, text in enumerate(sorted({t for t in texts if t is not None}))}
    return np.array([-1 if t is None else place_of[t] for t in texts], dtype=np.int64), list(place_of)


def _texts(frame: Frame, unit: Unit, rows: Indices) -> list[str | None]:
    if isinstance(unit, Path):
        (texts,) = group_columns([frame.events[i] for i in rows.tolist()], [unit])
        return [text if text and is_storable(text) else None for text in texts]
    return frame.units(unit, rows.tolist())


def _can_fail(column: Column | Text | Sub | StateColumn, plan: TrackPlan) -> bool:
    """Whether events may be invalid for it: then it is worked out of all of them, also of those that tell nothing."""
    return (column is Column.GROUP and bool(plan.definition.group_by)) or not isinstance(column, Column)


def _column(
    frame: Frame, plan: TrackPlan, column: Column | Text | Sub | StateColumn, rows: Indices
) -> list[str | None]:
    if isinstance(column, StateColumn):
        return state_texts(frame, plan.definition.organisation, column, rows)
    if isinstance(column, Sub):
        return _texts(frame, column.unit, rows)
    events = [frame.events[i] for i in rows.tolist()]
    if isinstance(column, Text):
        (texts,) = group_columns(events, [column.path])
        if column.label:
            return [_label(text or "") for text in texts]
        return [text if text is not None and is_storable(text) else None for text in texts]
    if column is Column.GROUP:
        return group_texts(events, plan.definition.group_by)
    if column is Column.EVENT:
        return [digest("", event_id).hex() for event_id in map(attrgetter("event_id"), events)]
    return [participant_of(event, _IDS[column]) or "" for event in events]


def _label(text: str) -> str | None:
    """Short enough to stand beside a group in a key; None if it cannot be stored at all."""
    if "\x00" in text:
        return None
    return next(cut for n in _LABEL_LENGTHS if len(msgspec.json.encode(cut := text[:n])) <= _LABEL_BYTES)
