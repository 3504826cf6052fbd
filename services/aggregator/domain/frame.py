"""A batch's events as columns: what several metrics ask for is worked out once.

Paths are read by organisation: a metric costs what its own organisation's events cost, whoever else is in the batch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeGuard, TypeVar

import numpy as np
import numpy.typing as npt

from services.aggregator.domain.batch import Batch, Verdicts, minutes_of
from services.aggregator.domain.columns import Column, numbered
from services.aggregator.domain.event import DecodedEvent
from services.aggregator.domain.expressions import Source
from services.aggregator.domain.grouping import Cells, Grouped, cells_of, grouped
from services.aggregator.domain.paths import Path, roots_of
from services.aggregator.domain.specs import Selector
from services.aggregator.domain.values import Scaled
from shared.messages import UnitKind

Indices = npt.NDArray[np.int64]
"""Rows of the batch, ascending."""

_T = TypeVar("_T", bound=np.generic)

_UNIT_FIELD: dict[UnitKind, str] = {"user": "user_id", "session": "session_id", "job": "job_id"}
_MAX_UNIT = 500


class Frame:
    """Rows are numbered as the batch's events are, whatever their verdict."""

    def __init__(self, batch: Batch, verdicts: Verdicts) -> None:
        self.events = batch.events
        self.times = batch.times
        self.verdicts = verdicts
        self._minutes = minutes_of(batch.times)
        self._every = np.arange(len(batch.events), dtype=np.int64)
        self._place, self._sections = _sections(batch.events, self._every)
        self._rows: dict[tuple[str, Selector], Indices] = {}
        self._counted: dict[int, tuple[Indices, Indices]] = {}
        self._cells: dict[tuple[int, tuple[Path, ...]], tuple[Indices, Cells]] = {}
        self._unit_codes: dict[UnitKind, tuple[Indices, list[str]]] = {}
        self._participants: tuple[Indices, list[str]] | None = None

    @property
    def organisations(self) -> Mapping[str, Indices]:
        """Each organisation's rows."""
        return {organisation: section.rows for organisation, section in self._sections.items()}

    def of_type(self, organisation: str, event_type: str) -> Indices:
        """Rows of one of the organisations' events of that type."""
        return self.rows(organisation, Selector(frozenset([event_type]), None))

    def minutes_at(self, rows: Indices) -> Indices:
        """The minute since the epoch of each of the rows."""
        return self._minutes if rows is self._every else self._minutes[rows]

    def counted(self, rows: Indices) -> Indices:
        """Those of the rows that are neither late nor duplicates; asked again, the very same array."""
        if id(rows) not in self._counted:
            counted = self.verdicts.counted[rows]
            self._counted[id(rows)] = rows, rows if counted.all() else rows[counted]
        return self._counted[id(rows)][1]

    def rows(self, organisation: str, select: Selector) -> Indices:
        """Rows of the organisation's events that the selector takes."""
        key = (organisation, select)
        if key not in self._rows:
            section = self._sections.get(organisation)
            self._rows[key] = np.zeros(0, dtype=np.int64) if section is None else section.select(select)
        return self._rows[key]

    def values(self, source: Source, rows: Iterable[int]) -> list[Any]:
        """What the path or expression gives for each of the rows: None if absent, INVALID if unusable."""
        return source.read([self.events[i] for i in rows])

    def column(self, organisation: str, source: Source, rows: Indices) -> list[Any]:
        """`values`, for rows of one organisation."""
        section = self._sections[organisation]
        values = section.column(source).values
        return values if rows is section.rows else [values[i] for i in self._place[rows].tolist()]

    def scaled(self, organisation: str, source: Source, scale: int, rows: Indices) -> Scaled:
        """What the source gives for each of the organisation's rows, × 10**scale."""
        section = self._sections[organisation]
        values, usable, invalid = section.column(source).scaled(scale)
        return Scaled(
            self._at(section, rows, values), self._at(section, rows, usable), self._at(section, rows, invalid)
        )

    def groups(self, organisation: str, paths: Sequence[Path], rows: Indices) -> list[Grouped]:
        """A column of the organisation's rows for each path."""
        section = self._sections[organisation]
        return [Grouped(self._at(section, rows, g.codes), g.texts) for g in map(section.grouped, paths)]

    def cells(self, organisation: str, paths: tuple[Path, ...], rows: Indices) -> Cells:
        """The organisation's rows, at least one, by minute and group. Asked for the very same rows, the same."""
        key = (id(rows), paths)
        if key not in self._cells:
            self._cells[key] = rows, cells_of(self.minutes_at(rows), self.groups(organisation, paths, rows))
        return self._cells[key][1]

    def units(self, kind: UnitKind, rows: Iterable[int]) -> list[str | None]:
        """Each row's id of that kind; None if it has none that can be stored."""
        return [unit_of(self.events[i], kind) for i in rows]

    def unit_codes(self, kind: UnitKind) -> tuple[Indices, list[str]]:
        """(each of all events' place in the list of ids, −1 if it has none; the ids, ascending)."""
        if kind not in self._unit_codes:
            self._unit_codes[kind] = _codes([unit_of(event, kind) for event in self.events])
        return self._unit_codes[kind]

    def participants(self, kind: UnitKind) -> tuple[Indices, list[str]]:
        """The same of experiments' units."""
        if kind != "user":
            return self.unit_codes(kind)
        if self._participants is None:
            codes, names = self.unit_codes(kind)
            visitors = any(participant_of(self.events[i], kind) for i in np.flatnonzero(codes < 0).tolist())
            self._participants = (
                _codes([participant_of(event, kind) for event in self.events]) if visitors else (codes, names)
            )
        return self._participants

    def _at(self, section: _Section, rows: Indices, column: npt.NDArray[_T]) -> npt.NDArray[_T]:
        """A section's column, at some of its rows."""
        return column if rows is section.rows else column[self._place[rows]]


class _Section:
    """One organisation's rows, and what is read from them."""

    def __init__(self, events: Sequence[DecodedEvent], rows: Indices) -> None:
        self.events = events
        self.rows = rows
        self._roots: dict[str, list[Any]] = {}
        self._columns: dict[Source, Column] = {}
        self._grouped: dict[Path, Grouped] = {}

    def column(self, source: Source) -> Column:
        found = self._columns.get(source)
        if found is None:
            values = self._read(source) if isinstance(source, Path) else source.read(self.events)
            found = self._columns[source] = Column(values)
        return found

    def _read(self, path: Path) -> list[Any]:
        if path.root not in self._roots:
            self._roots[path.root] = roots_of(self.events, path.root)
        return path.within(self._roots[path.root])

    def grouped(self, path: Path) -> Grouped:
        if path not in self._grouped:
            self._grouped[path] = grouped(self.column(path))
        return self._grouped[path]

    def select(self, select: Selector) -> Indices:
        taken = None if select.where is None else select.where.mask(self)
        if select.events is not None:
            wanted = select.events
            of_type = self.column(_EVENT_TYPE).test(lambda event_type: event_type in wanted)
            taken = of_type if taken is None else taken & of_type
        return self.rows if taken is None else self.rows[taken]


_EVENT_TYPE = Path("event_type", ())


def _sections(events: Sequence[DecodedEvent], every: Indices) -> tuple[Indices, dict[str, _Section]]:
    """Each row's place within its organisation's section, and the sections."""
    owners = [event.organisation for event in events]
    if len(found := set(owners)) <= 1:
        return every, {organisation: _Section(events, every) for organisation in found}
    codes, organisations = numbered(owners)
    order = np.argsort(codes, kind="stable")
    cuts = np.flatnonzero(np.diff(codes[order])) + 1
    parts = np.split(order, cuts)
    place = np.empty(len(events), dtype=np.int64)
    for part in parts:
        place[part] = np.arange(len(part))
    return place, {
        organisation: _Section([events[i] for i in part.tolist()], part)
        for organisation, part in zip(organisations, parts, strict=True)
    }


def _codes(units: Sequence[str | None]) -> tuple[Indices, list[str]]:
    names = sorted({unit for unit in units if unit is not None})
    place_of: dict[str | None, int] = {name: i for i, name in enumerate(names)}
    place_of[None] = -1
    return np.array([place_of[unit] for unit in units], dtype=np.int64), names


def unit_of(event: DecodedEvent, kind: UnitKind) -> str | None:
    """The unit's id; None if the event has none of that kind that can be stored."""
    unit: str | None = getattr(event, _UNIT_FIELD[kind])
    return unit if is_unit(unit) else None


def participant_of(event: DecodedEvent, kind: UnitKind) -> str | None:
    """The unit of an experiment: a visitor without user id takes part under its anonymous id."""
    if kind == "user" and not event.user_id:
        return event.anonymous_id if is_unit(event.anonymous_id) else None
    return unit_of(event, kind)


def is_unit(text: str | None) -> TypeGuard[str]:
    """Whether it can be stored."""
    return bool(text) and text is not None and "\x00" not in text and len(text) <= _MAX_UNIT
