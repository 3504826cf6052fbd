"""Which of the events that match a series count in it; the others are counted by what they are instead."""

from __future__ import annotations

import numpy as np

from services.aggregator.domain.deltas import Deltas, OrganisationCounters, SeriesCounters
from services.aggregator.domain.frame import Frame, Indices
from services.aggregator.domain.plan import WindowSeries


def count_organisations(deltas: Deltas, frame: Frame) -> None:
    verdicts = frame.verdicts
    for organisation, rows in frame.organisations.items():
        deltas.organisations[organisation] = OrganisationCounters(
            events=len(rows),
            counted=len(frame.counted(rows)),
            late=int(np.count_nonzero(verdicts.late[rows])),
            duplicates=int(np.count_nonzero(verdicts.duplicate[rows])),
        )


def take_counted(deltas: Deltas, frame: Frame, series: WindowSeries, matching: Indices) -> Indices:
    """The matching rows that count. Late ones and duplicates go to the series' counters."""
    if not len(matching):
        return matching
    counters = deltas.counters.setdefault(series, SeriesCounters())
    counted = frame.counted(matching)
    if len(counted) < len(matching):
        counters.late += int(np.count_nonzero(frame.verdicts.late[matching]))
        counters.duplicates += int(np.count_nonzero(frame.verdicts.duplicate[matching]))
    return counted
