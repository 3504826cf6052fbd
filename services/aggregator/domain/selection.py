"""Which rows of a batch a definition takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from services.aggregator.domain.event import DecodedEvent
from services.aggregator.domain.filters import Filter

Indices = npt.NDArray[np.int64]
ByKind = Mapping[tuple[str, str], Indices]
"""(Organisation, event type) → rows, ascending."""


def rows_of(
    events: Sequence[DecodedEvent],
    organisation: str,
    wanted: frozenset[str] | None,
    where: Filter | None,
    by_kind: ByKind,
) -> Indices:
    """Rows of the organisation's events of the wanted types (None: all) that match, in order."""
    parts = [
        rows
        for (owner, event_type), rows in by_kind.items()
        if owner == organisation and (wanted is None or event_type in wanted)
    ]
    if not parts:
        return np.zeros(0, dtype=np.int64)
    rows = parts[0] if len(parts) == 1 else np.sort(np.concatenate(parts))
    if where is None:
        return rows
    matches = where.matches
    return np.array([i for i in rows.tolist() if matches(events[i])], dtype=np.int64)
