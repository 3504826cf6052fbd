"""Which of the events that match a series count in it; the others are counted by what they are instead."""

from __future__ import annotations

from services.aggregator.domain.deltas import Deltas, OrganisationCounters, SeriesCounters
from services.aggregator.domain.frame import Frame, Indices
from services.aggregator.domain.plan import WindowSeries


def count_organisations(deltas: Deltas, frame: Frame) -> None:
    verdicts = frame.verdicts
    for organisation, kinds in frame.by_type.items():
        counters = deltas.organisations.setdefault(organisation, OrganisationCounters())
        for rows in kinds.values():
            counters.events += len(rows)
            counters.counted += int(verdicts.counted[rows].sum())
            counters.late += int(verdicts.late[rows].sum())
            counters.duplicates += int(verdicts.duplicate[rows].sum())


def take_counted(deltas: Deltas, frame: Frame, series: WindowSeries, matching: Indices) -> Indices:
    """The matching rows that count. Late ones and duplicates go to the series' counters."""
    if not len(matching):
        return matching
    counters = deltas.counters.setdefault(series, SeriesCounters())
    counters.late += int(frame.verdicts.late[matching].sum())
    counters.duplicates += int(frame.verdicts.duplicate[matching].sum())
    return frame.counted(matching)
