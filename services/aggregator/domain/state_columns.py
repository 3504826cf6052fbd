"""What a batch's events say of their units' states."""

from __future__ import annotations

import msgspec
import numpy as np

from services.aggregator.domain.event import EARLIEST, MAX_AHEAD
from services.aggregator.domain.expressions import Source
from services.aggregator.domain.frame import Frame, Indices
from services.aggregator.domain.latest import State
from services.aggregator.domain.operations import moment
from services.aggregator.domain.tracks import StateColumn

_ENCODER = msgspec.json.Encoder()


def state_texts(frame: Frame, organisation: str, column: StateColumn, rows: Indices) -> list[str | None]:
    """Each row's state as text; None if one of its times is none, or lies too far ahead, or its value is unusable."""
    if not len(rows):
        return []
    times = frame.times[rows].tolist()
    counts = [True] * len(rows)
    if column.where is not None:
        counts = np.isin(rows, frame.rows(organisation, column.where)).tolist()
    values: list[int | None] = [None] * len(rows)
    unusable = [False] * len(rows)
    if column.value is not None:
        scaled = frame.scaled(organisation, column.value, column.scale, rows)
        values = [
            value if usable else None
            for value, usable in zip(scaled.values.tolist(), scaled.usable.tolist(), strict=True)
        ]
        unusable = scaled.invalid.tolist()
    begins, orders = (_stated(frame, source, rows) for source in (column.begin, column.order))
    texts: list[str | None] = []
    for time, begin, order, value, counted, bad in zip(times, begins, orders, values, counts, unusable, strict=True):
        if bad or not all(at is None or EARLIEST <= at <= time + MAX_AHEAD for at in (begin, order)):
            texts.append(None)
        else:
            state = State(time if order is None else order, begin, value, counted)
            texts.append(_ENCODER.encode(state).decode())
    return texts


def _stated(frame: Frame, source: Source | None, rows: Indices) -> list[int | None]:
    """Times in µs; −1, which is none, for what is there and no time."""
    if source is None:
        return [None] * len(rows)
    found: list[int | None] = []
    for value in frame.values(source, rows.tolist()):
        at = None if value is None else moment(value)
        found.append(-1 if at is None and value is not None else at)
    return found
