"""A batch's events as columns: what several metrics ask for is worked out once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from services.aggregator.domain.batch import Batch, Verdicts
from services.aggregator.domain.event import DecodedEvent
from services.aggregator.domain.paths import Path
from services.aggregator.domain.specs import Selector
from shared.messages import UnitKind

Indices = npt.NDArray[np.int64]
"""Rows of the batch, ascending."""

_UNIT_FIELD: dict[UnitKind, str] = {"user": "user_id", "session": "session_id", "job": "job_id"}
_MAX_UNIT = 500


class Frame:
    """Rows are numbered as the batch's events are, whatever their verdict."""

    def __init__(self, batch: Batch, verdicts: Verdicts) -> None:
        self.events = batch.events
        self.times = batch.times
        self.verdicts = verdicts
        by_type: defaultdict[str, defaultdict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
        for i, event in enumerate(batch.events):
            by_type[event.organisation][event.event_type].append(i)
        self._by_type: dict[str, dict[str, Indices]] = {
            organisation: {kind: np.array(rows, dtype=np.int64) for kind, rows in kinds.items()}
            for organisation, kinds in by_type.items()
        }
        self._rows: dict[tuple[str, Selector], Indices] = {}

    @property
    def by_type(self) -> Mapping[str, Mapping[str, Indices]]:
        """Organisation → event type → rows."""
        return self._by_type

    def counted(self, rows: Indices) -> Indices:
        """Those of the rows that are neither late nor duplicates."""
        return rows[self.verdicts.counted[rows]]

    def rows(self, organisation: str, select: Selector) -> Indices:
        """Rows of the organisation's events that the selector takes."""
        key = (organisation, select)
        if key not in self._rows:
            self._rows[key] = self._select(organisation, select)
        return self._rows[key]

    def values(self, path: Path, rows: Iterable[int]) -> list[Any]:
        """What the path reads from each of the rows; None where it leads nowhere."""
        return path.read([self.events[i] for i in rows])

    def units(self, kind: UnitKind, rows: Iterable[int]) -> list[str | None]:
        """Each row's id of that kind; None if it has none that can be stored."""
        return [unit_of(self.events[i], kind) for i in rows]

    def _select(self, organisation: str, select: Selector) -> Indices:
        parts: Sequence[Indices] = [
            rows
            for event_type, rows in self._by_type.get(organisation, {}).items()
            if select.events is None or event_type in select.events
        ]
        if not parts:
            return np.zeros(0, dtype=np.int64)
        rows = parts[0] if len(parts) == 1 else np.sort(np.concatenate(parts))
        if select.where is None:
            return rows
        matches = select.where.matches
        return np.array([i for i in rows.tolist() if matches(self.events[i])], dtype=np.int64)


def unit_of(event: DecodedEvent, kind: UnitKind) -> str | None:
    """The unit's id; None if the event has none of that kind that can be stored."""
    unit: str | None = getattr(event, _UNIT_FIELD[kind])
    return unit if unit and "\x00" not in unit and len(unit) <= _MAX_UNIT else None
