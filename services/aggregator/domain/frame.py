"""A batch's events as columns: what several metrics ask for is worked out once.

Paths are read by organisation: a metric costs what its own organisation's events cost, whoever else is in the batch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import count, repeat
from operator import attrgetter
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
        self._place, self._sections = _sections(batch, self._every)
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

    def distinct(self, organisation: str, source: Source, rows: Indices) -> tuple[Indices, list[Any]]:
        """A code for each of the organisation's rows, and the value that each code stands for."""
        section = self._sections[organisation]
        codes, values = section.column(source).distinct
        return self._at(section, rows, codes), values

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
            self._unit_codes[kind] = _codes(*self._ids(_UNIT_FIELD[kind]))
        return self._unit_codes[kind]

    def participants(self, kind: UnitKind) -> tuple[Indices, list[str]]:
        """The same of experiments' units."""
        if kind != "user":
            return self.unit_codes(kind)
        if self._participants is None:
            codes, names = self.unit_codes(kind)
            visitors = any(participant_of(self.events[i], kind) for i in np.flatnonzero(codes < 0).tolist())
            self._participants = (
                _codes(*numbered(participant_of(event, kind) for event in self.events))
                if visitors
                else (codes, names)
            )
        return self._participants

    def _ids(self, name: str) -> tuple[Indices, list[str | None]]:
        """A code for each event, and the id that each code stands for."""
        if len(self._sections) == 1:
            (section,) = self._sections.values()
            return section.column(Path(name, ())).distinct
        return numbered(map(attrgetter(name), self.events))

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


def _sections(batch: Batch, every: Indices) -> tuple[Indices, dict[str, _Section]]:
    """Each row's place within its organisation's section, and the sections."""
    events = batch.events
    if len(batch.organisations) <= 1:
        return every, {organisation: _Section(events, every) for organisation in batch.organisations}
    codes, organisations = numbered(event.organisation for event in events)
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


def _codes(codes: Indices, ids: Sequence[str | None]) -> tuple[Indices, list[str]]:
    """(each one's place among the units, −1 if it is none; the units, ascending), of codes that stand for ids."""
    names = sorted(filter(is_unit, ids))
    place_of: dict[str | None, int] = dict(zip(names, count()))
    return np.fromiter(map(place_of.get, ids, repeat(-1)), dtype=np.int64, count=len(ids))[codes], names


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
